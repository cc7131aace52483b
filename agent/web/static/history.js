// The history: search, export, deletion. The newest session comes first.

import { api } from "./api.js";
import { commandChip } from "./commands.js";
import { byId, clock, element } from "./dom.js";
import { language, t } from "./i18n.js";

const PATH = "/api/v1/transcripts";
const PAGE = 100;
const TYPE_WAIT_MS = 250;
const SOURCES = {
  page: "Browser",
  funasr: "FunASR client",
  microphone: "Microphone of the box",
  file: "File",
  realtime: "Realtime client",
};

export class HistoryView {
  #list = byId("history-list");
  #words = byId("history-q");
  #more = byId("history-more");
  #sessions = new Map();
  #next = null;
  #asked = 0;
  #timer = 0;

  open() {
    this.#words.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.show(), TYPE_WAIT_MS);
    });
    byId("history-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.show();
    });
    for (const id of ["history-source", "history-since", "history-until"]) {
      byId(id).addEventListener("change", () => this.show());
    }
    this.#more.addEventListener("click", () => this.#load(false));
    byId("history-format").addEventListener("change", (event) => this.#export(event.target));
    byId("history-clear").addEventListener("click", () => this.#deleteAll());
  }

  /** Ask the box again, from the newest on. */
  show() {
    return this.#load(true);
  }

  #query(extra = {}) {
    const query = new URLSearchParams(extra);
    const put = (name, value) => value && query.set(name, value);
    put("q", this.#words.value.trim());
    put("source", byId("history-source").value);
    const [since, until] = [byId("history-since").value, byId("history-until").value];
    if (since) put("since", String(new Date(`${since}T00:00:00`) / 1000));
    if (until) {
      const end = new Date(`${until}T00:00:00`);
      end.setDate(end.getDate() + 1);
      put("until", String(end / 1000));
    }
    return query;
  }

  async #load(fresh) {
    const asked = ++this.#asked;
    const paging = fresh || this.#next === null ? {} : { before: this.#next };
    let told;
    try {
      told = await api(`${PATH}?${this.#query({ limit: PAGE, ...paging })}`);
    } catch (error) {
      if (asked === this.#asked) this.#say(error.message);
      return;
    }
    if (asked !== this.#asked) return; // an older question, answered late
    if (fresh) {
      this.#sessions.clear();
      this.#list.replaceChildren();
    }
    for (const row of told.transcripts) this.#add(row);
    this.#next = told.next;
    this.#more.hidden = told.next === null;
    this.#say(this.#sessions.size ? "" : t("Nothing was found."));
  }

  #add(row) {
    const { session } = row;
    let list = this.#sessions.get(session.id);
    if (!list) {
      list = element("ol", { className: "rows" });
      const item = element("li", { className: "card kept", children: [this.#head(session), list] });
      item.dataset.session = session.id;
      this.#sessions.set(session.id, list);
      this.#list.append(item);
    }
    const text = element("p", { className: "text", text: row.text });
    text.dir = "auto";
    const time = element("time", { className: "at", text: clock(row.start_ms) });
    const remove = button(t("Delete"), "tool small", () =>
      this.#delete({ id: row.id }, t("Delete this line?")),
    );
    remove.setAttribute("aria-label", t("Delete: {text}", { text: row.text.slice(0, 60) }));
    const item = element("li", { children: [time, text, remove] });
    item.dataset.final = String(row.id);
    if (row.command) item.append(commandChip(row.command));
    list.prepend(item);
  }

  #head(session) {
    const from = t(SOURCES[session.source] ?? session.source);
    const when = new Date(session.opened * 1000).toLocaleString(language(), {
      dateStyle: "medium",
      timeStyle: "short",
    });
    const title = element("h3", { text: session.name ? `${from}: ${session.name}` : from });
    const tools = ["text", "srt", "vtt", "json"].map((format) => {
      const link = element("a", { className: "tool small", text: format });
      link.href = `${PATH}?session=${encodeURIComponent(session.id)}&format=${format}`;
      link.download = `${session.id}.${format === "text" ? "txt" : format}`;
      link.setAttribute("aria-label", t("Download as {format}", { format }));
      return link;
    });
    tools.push(
      button(t("Delete"), "tool small", () =>
        this.#delete({ session: session.id }, t("Delete everything that was said in this session?")),
      ),
    );
    return element("div", {
      className: "kept-head",
      children: [
        title,
        element("time", { className: "quiet", text: when }),
        element("div", { className: "tools", children: tools }),
      ],
    });
  }

  #export(select) {
    const format = select.value;
    select.value = "";
    if (!format) return;
    const link = element("a");
    link.href = `${PATH}?${this.#query({ format, limit: 10000 })}`;
    link.download = `transcripts.${format === "text" ? "txt" : format}`;
    link.click();
  }

  #deleteAll() {
    return this.#delete({ all: "true" }, t("Delete the whole history of this box? It can't be undone."));
  }

  async #delete(what, question) {
    if (!window.confirm(question)) return;
    try {
      await api(`${PATH}?${new URLSearchParams(what)}`, { method: "DELETE" });
      await this.show();
    } catch (error) {
      this.#say(error.message);
    }
  }

  #say(words) {
    byId("history-said").textContent = words;
  }
}

function button(text, className, onClick) {
  const made = element("button", { className, text });
  made.type = "button";
  made.addEventListener("click", onClick);
  return made;
}
