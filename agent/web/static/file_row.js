// One file of the files view: name, progress, words, buttons, and its text when it is there.

import { clock, element, seconds } from "./dom.js";
import { EXPORTS, save } from "./file_exports.js";
import { words } from "./file_words.js";
import { told } from "./said.js";

const COPIED_FOR_MS = 1500;

export class FileRow {
  item = element("li", { className: "file" });
  state = "waiting";
  #name;
  #say = () => words().waiting();
  #share = 0;
  #result = null;
  #bar = element("progress");
  #words = element("span", { className: "file-words" });
  #notes = element("p", { className: "file-notes" });
  #text = element("div", { className: "file-text" });
  #buttons = element("div", { className: "tools" });
  #handlers;

  /** handlers: onCancel(), onAgain(), onRemove(), onEnd(words) for who does not see the row. */
  constructor(name, handlers) {
    this.#name = name;
    this.#handlers = handlers;
    this.#bar.max = 1;
    this.#text.tabIndex = 0;
    this.#text.setAttribute("role", "group");
    const label = element("span", { className: "file-name", text: name });
    const head = element("div", { className: "file-head", children: [label, this.#words] });
    this.item.append(head, this.#bar, this.#notes, this.#text, this.#buttons);
    this.draw();
  }

  /** Show a state: waiting, sending, reading, cancelled or error; `say()` are its words. */
  show(state, say, share = 0) {
    const before = this.state;
    Object.assign(this, { state });
    this.#say = say;
    this.#share = share;
    if (state === before) this.#drawProgress();
    else this.draw();
    if (state === "error") this.#handlers.onEnd(`${this.#name}: ${say()}`);
  }

  /** Text that has been read so far. */
  grow(delta) {
    this.#text.append(delta);
    this.#text.hidden = false;
    this.#text.scrollTop = this.#text.scrollHeight;
  }

  /** Start over. */
  clear() {
    this.#text.replaceChildren();
    this.#result = null;
    this.draw();
  }

  /** The whole result, read in `tookMs`. */
  done(result, tookMs) {
    const { type: _, ...kept } = result;
    this.#result = kept;
    this.state = "done";
    const lines = kept.segments.map(({ start, text }) => {
      const time = element("span", { className: "file-time", text: clock(start * 1000) });
      return element("p", { children: [time, element("span", { text })] });
    });
    this.#text.replaceChildren(...lines);
    this.#say = () => words().done(seconds(tookMs), clock(kept.duration * 1000));
    this.draw();
    this.#handlers.onEnd(`${this.#name}: ${this.#say()}`);
  }

  /** Write every word anew. */
  draw() {
    const said = words();
    this.item.dataset.file = this.state;
    this.#bar.hidden = !["sending", "reading"].includes(this.state);
    this.#bar.setAttribute("aria-label", said.progress(this.#name));
    this.#text.setAttribute("aria-label", said.text(this.#name));
    this.#text.hidden = !this.#text.hasChildNodes();
    const remarks = this.#result?.said?.map(told) ?? this.#result?.remarks ?? [];
    const notes = [this.#result?.warning, ...remarks];
    if (this.#result && !this.#result.text) notes.unshift(said.silent);
    this.#notes.textContent = notes.filter(Boolean).join(" ");
    this.#notes.hidden = !this.#notes.textContent;
    this.#buttons.replaceChildren(...this.#makeButtons(said));
    this.#drawProgress();
  }

  #drawProgress() {
    this.#words.textContent = this.#say();
    if (this.#share === null) this.#bar.removeAttribute("value");
    else this.#bar.value = this.#share;
  }

  #makeButtons(said) {
    const made = [];
    if (["waiting", "sending", "reading"].includes(this.state)) {
      made.push(this.#button(said.cancel, "cancel", () => this.#handlers.onCancel()));
    } else {
      if (this.state !== "done") made.push(this.#button(said.again, "again", () => this.#handlers.onAgain()));
      if (this.#result?.text) made.push(...this.#resultButtons(said));
      made.push(this.#button(said.remove, "remove", () => this.#handlers.onRemove()));
    }
    return made;
  }

  #resultButtons(said) {
    const kinds = Object.keys(EXPORTS).map((kind) => {
      const button = this.#button(kind, `save-${kind}`, () => save(this.#name, kind, this.#result));
      button.setAttribute("aria-label", said.named(said.save(kind), this.#name));
      return button;
    });
    if (!navigator.clipboard) return kinds; // plain http from another machine has none
    const copy = this.#button(said.copy, "copy", async () => {
      await navigator.clipboard.writeText(this.#result.text);
      copy.textContent = words().copied;
      setTimeout(() => { copy.textContent = words().copy; }, COPIED_FOR_MS);
    });
    return [copy, ...kinds];
  }

  #button(text, action, onClick) {
    const button = element("button", { className: "tool", text });
    button.type = "button";
    button.dataset.action = action;
    button.setAttribute("aria-label", words().named(text, this.#name));
    button.addEventListener("click", onClick);
    return button;
  }
}
