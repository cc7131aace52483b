// What this browser wants: kept in it, sent with each recording and file.

import { byId } from "./dom.js";
import { t } from "./i18n.js";

const KEY = "funasr-agent";
const DEFAULTS = {
  theme: "auto",
  interface: "auto",
  mode: "2pass",
  language: "auto",
  hotwords: "",
  hop: "600",
  itn: true,
  punctuation: true,
};
const CHUNKS = { 480: [0, 8, 4], 600: [5, 10, 5], 1200: [5, 20, 5] };
const MAX_HOTWORDS = 100;
const WEIGHT = 20;

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return { ...DEFAULTS, ...(kept && typeof kept === "object" ? kept : {}) };
  } catch {
    return { ...DEFAULTS };
  }
}

/** The settings now. */
export function settings() {
  return read();
}

/** Keep one setting; false where the browser keeps nothing. */
export function keep(name, value) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...read(), [name]: value }));
    return true;
  } catch {
    return false;
  }
}

/** Fields of the stream's start message. */
export function startFields() {
  const now = read();
  return {
    mode: now.mode,
    language: now.language,
    itn: now.itn,
    punctuation: now.punctuation,
    chunk_size: CHUNKS[now.hop] ?? CHUNKS[600],
    hotwords: hotwords(now.hotwords),
  };
}

/** Fields of the form that a file is sent with. */
export function uploadFields() {
  const now = read();
  const phrases = hotwords(now.hotwords);
  return {
    language: now.language,
    itn: String(now.itn),
    punctuation: String(now.punctuation),
    hotwords: Object.keys(phrases).length ? JSON.stringify(phrases) : "",
  };
}

/** Lines of "phrase" or "phrase weight" as an object. */
export function hotwords(text) {
  const found = {};
  for (const line of text.split("\n").slice(0, MAX_HOTWORDS)) {
    const [, phrase, weight] = line.trim().match(/^(.*?)(?:\s+(-?\d{1,3}))?$/) ?? [];
    if (phrase) found[phrase] = weight === undefined ? WEIGHT : Number(weight);
  }
  return found;
}

/** The view of the settings; the mode is chosen beside the button as well. */
export class SettingsView {
  open() {
    for (const name of Object.keys(DEFAULTS)) {
      const field = byId(`set-${name}`);
      const isBox = field.type === "checkbox";
      field[isBox ? "checked" : "value"] = settings()[name];
      field.addEventListener("change", () => this.#changed(name, isBox ? field.checked : field.value));
    }
    const mode = byId("mode");
    mode.value = settings().mode;
    mode.addEventListener("change", () => {
      byId("set-mode").value = mode.value;
      this.#changed("mode", mode.value);
    });
  }

  #changed(name, value) {
    const kept = keep(name, value);
    byId("settings-said").textContent = kept
      ? t("Kept. A recording that runs already goes on as it is.")
      : t("This browser keeps no settings; they last until the page is closed.");
    if (name === "mode") byId("mode").value = value;
    if (name === "theme") {
      if (value === "auto") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = value;
    }
    if (name === "interface") location.reload();
  }
}
