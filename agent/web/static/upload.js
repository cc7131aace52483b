// Audio files: drag and drop or the button, one after the other to POST /v1/audio/transcriptions.

import { byId, element, seconds } from "./dom.js";
import { t } from "./i18n.js";

const URL_PATH = "/v1/audio/transcriptions";
const MODEL = "default";
const MAX_ROWS = 20;

export class Uploads {
  #drop = byId("drop");
  #rows = byId("uploads");
  #queue = [];
  #busy = false;
  #count = 0;
  #transcript;

  constructor(transcript) {
    this.#transcript = transcript;
    const input = byId("file");
    input.addEventListener("change", () => {
      this.#add(input.files);
      input.value = "";
    });
    for (const type of ["dragenter", "dragover"]) {
      document.addEventListener(type, (event) => {
        if (!event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        this.#drop.classList.add("over");
      });
    }
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) this.#drop.classList.remove("over");
    });
    document.addEventListener("drop", (event) => {
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      this.#drop.classList.remove("over");
      this.#add(event.dataTransfer.files);
    });
  }

  #add(files) {
    location.hash = "#/files";
    for (const file of files) this.#queue.push({ file, row: new Row(this.#rows, file.name) });
    while (this.#rows.childElementCount > Math.max(MAX_ROWS, this.#queue.length)) {
      this.#rows.firstElementChild.remove();
    }
    this.#work();
  }

  async #work() {
    if (this.#busy) return;
    this.#busy = true;
    while (this.#queue.length) {
      const { file, row } = this.#queue.shift();
      if (!row.cancelled) await this.#one(file, row);
    }
    this.#busy = false;
  }

  async #one(file, row) {
    const begun = performance.now();
    try {
      const { text } = await send(file, row);
      row.done(text ? t("Done in {time}", { time: seconds(performance.now() - begun) }) : t("No speech found"), "done");
      if (text) {
        row.says(text);
        this.#show(file.name, text);
      }
    } catch (error) {
      row.done(error.message, "error");
    }
  }

  #show(name, text) {
    this.#count += 1;
    const section = this.#transcript.begin(name);
    section.final(`file-${this.#count}`, text, 0);
    section.close();
  }
}

/** One line of the list: name, progress, words, a button to cancel. */
class Row {
  cancelled = false;
  onCancel = null;
  #item;
  #bar = element("progress");
  #words = element("span", { className: "upload-words", text: t("Waiting") });
  #cancel = element("button", { className: "tool", text: t("Cancel") });

  constructor(list, name) {
    this.#bar.max = 1;
    this.#bar.value = 0;
    this.#bar.setAttribute("aria-label", t("Upload of {name}", { name }));
    this.#words.setAttribute("role", "status");
    this.#cancel.type = "button";
    this.#cancel.addEventListener("click", () => {
      this.cancelled = true;
      if (this.onCancel) this.onCancel();
      else this.done(t("Cancelled"), "cancelled");
    });
    const label = element("span", { className: "upload-name", text: name });
    this.#item = element("li", { children: [label, this.#words, this.#bar, this.#cancel] });
    this.#item.dataset.upload = "waiting";
    list.append(this.#item);
  }

  progress(share) {
    this.#item.dataset.upload = "sending";
    this.#bar.value = share;
    this.#words.textContent = t("Uploading {percent} %", { percent: Math.round(share * 100) });
  }

  reading() {
    this.#item.dataset.upload = "reading";
    this.#bar.removeAttribute("value"); // from here on it only shows that something goes on
    this.#words.textContent = t("Transcribing");
  }

  /** What was read in the file. */
  says(text) {
    const said = element("p", { className: "upload-text", text });
    said.dir = "auto";
    this.#item.append(said);
  }

  done(words, state) {
    this.#item.dataset.upload = state;
    this.#words.textContent = words;
    this.#bar.remove();
    this.#cancel.remove();
  }
}

/** XMLHttpRequest, because fetch tells nothing about the progress of an upload. */
function send(file, row) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("model", MODEL);
    form.append("response_format", "json");
    form.append("file", file, file.name);
    const request = new XMLHttpRequest();
    request.open("POST", URL_PATH);
    request.upload.onprogress = ({ loaded, total }) => row.progress(total ? loaded / total : 0);
    request.upload.onload = () => row.reading();
    request.onload = () => {
      const body = parse(request.responseText);
      if (request.status === 200 && typeof body?.text === "string") resolve(body);
      else reject(new Error(body?.error?.message ?? t("The box answered {status}.", { status: request.status })));
    };
    request.onerror = () => reject(new Error(t("The box could not be reached. Try again.")));
    request.onabort = () => reject(new Error(t("Cancelled")));
    row.onCancel = () => request.abort();
    row.progress(0);
    request.send(form);
  });
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // an answer that is not JSON comes from something between the page and the box
  }
}
