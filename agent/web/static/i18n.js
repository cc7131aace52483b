// The words of the page in English, which is what the code says, and in Chinese.

import { ZH } from "./zh.js";

export const isChinese = document.documentElement.lang.startsWith("zh");
const ATTRIBUTES = ["aria-label", "placeholder"];

/** Of dates and numbers; undefined: the browser's own. */
export function language() {
  return isChinese ? "zh-CN" : undefined;
}

/** Words in the page's language; `{name}` stands for a value. What is unknown stays English. */
export function t(words, values = {}) {
  const found = (isChinese && ZH[words]) || words;
  return found.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/** The words that the document came with. */
export function translatePage() {
  if (!isChinese) return;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const words = node.data.trim();
    if (words && ZH[words]) node.data = node.data.replace(words, ZH[words]);
  }
  for (const name of ATTRIBUTES) {
    for (const item of document.querySelectorAll(`[${name}]`)) {
      item.setAttribute(name, t(item.getAttribute(name)));
    }
  }
}
