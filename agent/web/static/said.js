// What the box says of itself, in the page's language: by code and values, else in its own words.

import { isChinese } from "./i18n.js";
import { ZH_SAID, ZH_ERRORS } from "./zh_said.js";

const JOINT = "；";

/** Words of `{text, code, values}`; `text` where the page has none for the code. */
export function told({ text = "", code, values = {} } = {}) {
  if (!isChinese || code === undefined) return text;
  if (code === "list") return values.items.map(shown).join(JOINT);
  const template = ZH_SAID[code];
  return template === undefined
    ? text
    : template.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? shown(values[name]) : whole));
}

/** Words of a health check or a microphone: `said` where it is there, else `reason`. */
export function reasonOf({ reason = "", said }) {
  return said ? told({ text: reason, ...said }) : reason;
}

/** Words of an error of the box: what kind it is in the page's language, and the box's own words. */
export function errorWords({ code, message }) {
  const kind = isChinese && ZH_ERRORS[code];
  return kind ? `${kind}（${message}）` : message;
}

function shown(value) {
  if (Array.isArray(value)) return value.map(shown).join(JOINT);
  return typeof value === "object" && value !== null ? told(value) : String(value);
}
