// The text: a section for each recording or file, in it one row a segment, in the order of time.

import { commandChip } from "./commands.js";
import { byId, clock, element, seconds } from "./dom.js";
import { t } from "./i18n.js";

export const MAX_ROWS = 2000;
export const MAX_SECTIONS = 200;
const COPIED_FOR_MS = 1500;
const NEAR_END_PX = 80;

export class Transcript {
  #box = byId("transcript");
  #list = byId("segments");
  #copy = byId("copy");
  #clear = byId("clear");
  #sections = [];

  constructor() {
    this.#copy.addEventListener("click", () => this.#copyAll());
    this.#clear.addEventListener("click", () => this.#clearAll());
  }

  /** A new Section at the end, for a recording or a client; `waiting` stands in it until there is text. */
  begin(title, waiting = "") {
    const section = new Section(title, waiting, {
      apply: (change) => this.#apply(change),
      forget: () => this.#forget(section),
    });
    this.#sections.push(section);
    this.#apply(() => this.#list.append(section.item));
    return section;
  }

  /** Make a change; follow the newest text, unless the reader has scrolled up. */
  #apply(change) {
    const box = this.#box;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END_PX;
    change();
    this.#bound();
    if (atEnd) box.scrollTop = box.scrollHeight;
    const empty = this.#sections.length === 0;
    byId("transcript-empty").hidden = !empty;
    this.#clear.disabled = empty;
    this.#copy.disabled = !this.#sections.some((section) => section.hasText);
  }

  /** The oldest give way: a page that is left open for days stays small. */
  #bound() {
    let rows = this.#sections.reduce((sum, section) => sum + section.size, 0);
    while (rows > MAX_ROWS) {
      const oldest = this.#sections.find(({ size }) => size > 0);
      rows -= 1;
      oldest.dropFirst();
      if (oldest.size === 0 && !oldest.open) this.#forget(oldest);
    }
    const over = this.#sections.filter(({ open }) => !open);
    for (const section of over.slice(0, Math.max(0, this.#sections.length - MAX_SECTIONS))) {
      this.#forget(section);
    }
  }

  #forget(section) {
    section.item.remove();
    this.#sections = this.#sections.filter((other) => other !== section);
  }

  /** An open recording keeps its unfinished rows: their finals are still to come. */
  #clearAll() {
    this.#apply(() => {
      for (const section of this.#sections) {
        if (section.open) section.dropSettled();
        else this.#forget(section);
      }
    });
  }

  get #text() {
    return this.#sections.flatMap((section) => section.lines).join("\n");
  }

  async #copyAll() {
    const copied = await writeClipboard(this.#text);
    this.#copy.textContent = t(copied ? "Copied" : "Can't copy");
    setTimeout(() => {
      this.#copy.textContent = t("Copy");
    }, COPIED_FOR_MS);
  }
}

class Section {
  /** Whether rows may still change. */
  open = true;
  item;
  #list = element("ol", { className: "rows" });
  #rows = new Map();
  #apply;
  #forget;

  /** apply(change): make a change to the document; forget(): take the section off the page. */
  constructor(title, waiting, { apply, forget }) {
    this.#list.dataset.waiting = waiting;
    this.#apply = apply;
    this.#forget = forget;
    const heading = element("h3", { text: title });
    this.item = element("li", { className: "section", children: [heading, this.#list] });
  }

  get size() {
    return this.#rows.size;
  }

  get hasText() {
    for (const { text } of this.#rows.values()) if (text.textContent) return true;
    return false;
  }

  get lines() {
    return [...this.#list.querySelectorAll(".segment .text")]
      .map((text) => text.textContent)
      .filter(Boolean);
  }

  /** Say something of the whole section, such as what the models can't honour. */
  note(text) {
    this.#apply(() => {
      this.item.querySelector(".note")?.remove();
      if (text) this.#list.before(element("p", { className: "note", text }));
    });
  }

  /** Speech was heard; there is no text yet. */
  hear(key, startMs) {
    this.#apply(() => this.#row(key, startMs));
  }

  /** What the segment reads so far; nothing once it has its final. */
  partial(key, text, startMs) {
    this.#apply(() => {
      const row = this.#row(key, startMs);
      if (!row.final) row.text.textContent = text;
    });
  }

  /** The text that stays. Empty: the sound was no speech, and its row goes. */
  final(key, text, startMs, language = "") {
    this.#apply(() => {
      if (!text.trim()) {
        this.#drop(key);
        return;
      }
      const row = this.#row(key, startMs);
      row.final = true;
      row.item.dataset.final = "true";
      row.text.textContent = text;
      if (language && language !== "auto") row.text.lang = language;
      byId("announcer").textContent = text;
    });
  }

  /** The segment's text is a command: {name, slots}. */
  command(key, command) {
    this.#apply(() => {
      const row = this.#rows.get(key);
      if (row?.final && !row.item.querySelector(".command")) row.item.append(commandChip(command));
    });
  }

  /** Audio or text that is missing, in place. Said again with the same key, the row is updated. */
  gap(key, startMs, droppedMs, reason) {
    this.#apply(() => {
      const row = this.#row(key, startMs, "gap");
      row.final = true;
      row.item.dataset.gap = String(Math.round(droppedMs));
      row.text.textContent =
        reason === "session"
          ? t("The connection was away for too long. Text just before this point may be missing.")
          : t("{time} of audio lost here", { time: seconds(droppedMs) });
    });
  }

  removeGap(key) {
    this.#apply(() => this.#drop(key));
  }

  /** Nothing more comes: what never got its final is marked, what never got text goes; without
   * `keepEmpty` a section goes in which nothing was said. */
  close({ keepEmpty = true } = {}) {
    this.open = false;
    this.#apply(() => {
      for (const [key, row] of this.#rows) {
        if (row.final) continue;
        row.text.dataset.note = t("unfinished");
        if (row.text.textContent) row.item.dataset.unfinished = "true";
        else this.#drop(key);
      }
      if (this.size === 0 && !keepEmpty) this.#forget();
      else if (this.size === 0) this.#list.append(element("li", { className: "none", text: t("No speech") }));
    });
  }

  dropFirst() {
    const [key] = this.#rows.keys();
    this.#drop(key);
  }

  dropSettled() {
    for (const [key, row] of this.#rows) {
      if (row.final) this.#drop(key);
    }
  }

  #row(key, startMs, kind = "segment") {
    const known = this.#rows.get(key);
    if (known) return known;
    const text = element("p", { className: "text" });
    text.dir = "auto";
    const time = element("time", { className: "at", text: clock(startMs) });
    const item = element("li", { className: kind, children: [time, text] });
    if (kind === "segment") {
      item.dataset.segmentId = key;
      item.dataset.final = "false";
    }
    const row = { item, text, startMs, final: false };
    this.#list.insertBefore(item, this.#after(startMs));
    this.#rows.set(key, row);
    return row;
  }

  /** The row that a new one at `startMs` goes before; null: it is the last. */
  #after(startMs) {
    let before = null;
    for (const row of this.#rows.values()) {
      if (row.startMs > startMs && (!before || row.startMs < before.startMs)) before = row;
    }
    return before?.item ?? null;
  }

  #drop(key) {
    this.#rows.get(key)?.item.remove();
    this.#rows.delete(key);
  }
}

/** navigator.clipboard is missing on plain http; a selected text area works there. */
async function writeClipboard(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch (error) {
      console.info(`clipboard: ${error.message}`);
    }
  }
  const area = element("textarea", { className: "visually-hidden" });
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}
