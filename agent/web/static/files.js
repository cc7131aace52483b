// The files view: dropped or chosen files, one after the other, each with progress and its text.

import { element } from "./dom.js";
import { FileRow } from "./file_row.js";
import { Cancelled, Full, sendFile } from "./file_send.js";
import { onLanguage, words } from "./file_words.js";

const MAX_ROWS = 50;
const ACCEPTED = "audio/*,video/mp4,video/webm,.wav,.flac,.mp3,.ogg,.opus,.m4a,.mp4,.webm,.aac,.amr";

/**
 * Build the view into `box`. `options()` gives fields of every request, such as language, hotwords
 * and itn; `bringUp()` shows the view when a file is dropped elsewhere. Returns {add(files)}.
 */
export function mountFiles(box, { options = () => ({}), bringUp = () => {} } = {}) {
  const view = new FilesView(box, options, bringUp);
  return { add: (files) => view.add(files) };
}

class FilesView {
  #box;
  #options;
  #bringUp;
  #title = element("h2");
  #hint = element("p", { className: "quiet" });
  #choose = element("button", { className: "button" });
  #input = element("input");
  #drop;
  #rows = element("ul", { className: "files" });
  #announcer = element("p", { className: "visually-hidden" });
  #jobs = [];
  #busy = false;

  constructor(box, options, bringUp) {
    this.#box = box;
    this.#options = options;
    this.#bringUp = bringUp;
    addStyle();
    this.#title.id = "files-title";
    this.#choose.type = "button";
    Object.assign(this.#input, { type: "file", multiple: true, accept: ACCEPTED, hidden: true });
    this.#input.id = "files-input";
    this.#announcer.setAttribute("aria-live", "polite");
    const text = element("div", { children: [this.#title, this.#hint] });
    const row = element("div", { className: "drop-row", children: [text, this.#input, this.#choose] });
    this.#drop = element("section", { className: "card drop", children: [row] });
    this.#drop.id = "files-drop";
    this.#drop.setAttribute("aria-labelledby", "files-title");
    box.append(this.#drop, this.#rows, this.#announcer);
    this.#listen();
    this.#draw();
    onLanguage(() => this.#draw());
  }

  /** Take files; they wait for those before them. */
  add(files) {
    for (const file of files) {
      const job = { file, cancel: null, over: false };
      job.row = new FileRow(file.name, {
        onCancel: () => this.#cancel(job),
        onAgain: () => this.#again(job),
        onRemove: () => this.#remove(job),
        onEnd: (said) => { this.#announcer.textContent = said; },
      });
      this.#jobs.push(job);
      this.#rows.append(job.row.item);
    }
    this.#bound();
    this.#work();
  }

  #listen() {
    this.#choose.addEventListener("click", () => this.#input.click());
    this.#input.addEventListener("change", () => {
      this.add(this.#input.files);
      this.#input.value = "";
    });
    // A file that is dropped beside the view would take the page's place in the browser.
    for (const type of ["dragenter", "dragover"]) {
      document.addEventListener(type, (event) => {
        if (!this.#box.isConnected || !event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        this.#drop.classList.add("over");
      });
    }
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) this.#drop.classList.remove("over");
    });
    document.addEventListener("drop", (event) => {
      if (!this.#box.isConnected || !event.dataTransfer?.files.length) return;
      event.preventDefault();
      this.#drop.classList.remove("over");
      this.#bringUp();
      this.add(event.dataTransfer.files);
    });
  }

  #draw() {
    const said = words();
    this.#title.textContent = said.title;
    this.#hint.textContent = said.hint;
    this.#choose.textContent = said.choose;
    this.#rows.setAttribute("aria-label", said.list);
    for (const { row } of this.#jobs) row.draw();
  }

  #cancel(job) {
    job.over = true;
    if (job.cancel) job.cancel();
    else job.row.show("cancelled", () => words().cancelled());
  }

  #again(job) {
    Object.assign(job, { over: false, cancel: null });
    job.row.clear();
    job.row.show("waiting", () => words().waiting());
    this.#work();
  }

  #remove(job) {
    this.#jobs = this.#jobs.filter((other) => other !== job);
    job.row.item.remove();
    this.#choose.focus();
  }

  /** The oldest that are over give way. */
  #bound() {
    for (const job of [...this.#jobs]) {
      if (this.#jobs.length <= MAX_ROWS) return;
      if (job.row.state === "waiting" || job === this.#busy) continue;
      this.#jobs = this.#jobs.filter((other) => other !== job);
      job.row.item.remove();
    }
  }

  async #work() {
    if (this.#busy) return;
    for (let job = this.#next(); job; job = this.#next()) {
      this.#busy = job;
      await this.#one(job);
    }
    this.#busy = false;
  }

  #next() {
    return this.#jobs.find(({ row, over }) => row.state === "waiting" && !over);
  }

  async #one(job) {
    const { row } = job;
    const percent = (share) => (share === null ? null : Math.round(share * 100));
    const begun = performance.now();
    try {
      const result = await sendFile(job.file, this.#options(), {
        onSent: (share) => row.show("sending", () => words().sending(percent(share)), share),
        onReading: (share) => row.show("reading", () => words().reading(percent(share)), share),
        onText: (delta) => row.grow(delta),
        onCancel: (abort) => { job.cancel = abort; },
      });
      job.over = true;
      row.done(result, performance.now() - begun);
    } catch (error) {
      await this.#failed(job, error);
    }
  }

  async #failed(job, error) {
    const { row } = job;
    job.cancel = null;
    if (error instanceof Full && !job.over) {
      row.show("waiting", () => words().full(error.afterS));
      await new Promise((resume) => {
        job.cancel = resume;
        setTimeout(resume, error.afterS * 1000);
      });
      job.cancel = null;
      if (!job.over) return; // it is still the next
    }
    job.over = true;
    if (error instanceof Cancelled || error instanceof Full) {
      row.clear();
      row.show("cancelled", () => words().cancelled());
    } else {
      row.show("error", () => error.message);
    }
  }
}

function addStyle() {
  const href = new URL("files.css", import.meta.url).href;
  if ([...document.styleSheets].some((sheet) => sheet.href === href)) return;
  const link = element("link");
  Object.assign(link, { rel: "stylesheet", href });
  document.head.append(link);
}
