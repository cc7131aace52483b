// What other clients of the box say: programs that stream to it, each in a section of its own.

import { t } from "./i18n.js";

const NAMES = { funasr: "FunASR client", realtime: "Realtime client", wyoming: "Wyoming client" };
const MOST = 100;

export class Clients {
  #transcript;
  #open = new Map();
  #gone = new Set();
  #snapshot = 0;

  /** transcript: where their text goes. */
  constructor(transcript) {
    this.#transcript = transcript;
  }

  /** An event of /api/v1/events. */
  event(event) {
    if (event.type === "snapshot") this.#compare(event);
    else if (event.seq > this.#snapshot) this.#closeGone();
    if (event.type === "session_opened") this.#opened(event);
    else if (event.type === "session_closed") this.#closed(event.session_id);
    else if (event.type === "partial" || event.type === "final") this.#said(event);
    else if (event.type === "command") {
      this.#open.get(event.session_id)?.command(`${event.session_id}/${event.segment_id}`, event);
    }
  }

  /** Those who came before the page did, and those who left while it was cut off. */
  #compare({ seq, sessions = [] }) {
    this.#snapshot = seq;
    const here = new Set(sessions.map(({ session_id: id }) => id));
    this.#gone = new Set([...this.#open.keys()].filter((id) => !here.has(id)));
    for (const session of sessions) {
      this.#opened(session);
      for (const event of session.said ?? []) this.#said(event);
    }
  }

  /** Their last words came again after the snapshot, if the box still had them. */
  #closeGone() {
    for (const id of this.#gone) this.#closed(id);
    this.#gone.clear();
  }

  #opened({ session_id: id, source, name }) {
    if (!NAMES[source] || this.#open.has(id) || this.#open.size >= MOST) return;
    const who = t(NAMES[source]);
    const title = name ? `${who}: ${name}` : who;
    this.#open.set(id, this.#transcript.begin(title, t("Connected; nothing was said yet.")));
  }

  #closed(id) {
    this.#open.get(id)?.close({ keepEmpty: false });
    this.#open.delete(id);
  }

  #said({ type, session_id: id, segment_id: segment, text, start_ms: startMs, language }) {
    const section = this.#open.get(id);
    if (section && (text || type === "final")) section[type](`${id}/${segment}`, text, startMs, language);
  }
}
