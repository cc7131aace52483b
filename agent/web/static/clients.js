// What other clients of the box say: programs that stream to it, each in a section of its own.

import { t } from "./i18n.js";

const NAMES = { funasr: "FunASR client", realtime: "Realtime client", wyoming: "Wyoming client" };
const MOST = 100;

export class Clients {
  #transcript;
  #open = new Map();

  /** transcript: where their text goes. */
  constructor(transcript) {
    this.#transcript = transcript;
  }

  /** An event of /api/v1/events. */
  event(event) {
    const client = this.#open.get(event.session_id);
    if (event.type === "session_opened" && NAMES[event.source] && this.#open.size < MOST) {
      this.#open.set(event.session_id, { name: NAMES[event.source], section: null });
    } else if (event.type === "session_closed" && client) {
      client.section?.close();
      this.#open.delete(event.session_id);
    } else if (client && (event.type === "partial" || event.type === "final") && event.text) {
      client.section ??= this.#transcript.begin(t(client.name));
      const key = `${event.session_id}/${event.segment_id}`;
      client.section[event.type](key, event.text, event.start_ms, event.language);
    } else if (client && event.type === "command") {
      client.section?.command(`${event.session_id}/${event.segment_id}`, event);
    }
  }
}
