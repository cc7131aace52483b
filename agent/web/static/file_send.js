// One file on its way: sent, and its events read while it is transcribed.

import { words } from "./file_words.js";
import { errorWords } from "./said.js";

const URL_PATH = "/v1/audio/transcriptions";
const FULL = [429, 503];

/** The box has no room now; `afterS` is when it wants to be asked again. */
export class Full extends Error {
  constructor(message, afterS) {
    super(message);
    this.afterS = afterS;
  }
}

/** The person said so. */
export class Cancelled extends Error {}

/**
 * Send a file. handlers: onSent(share), onReading(share or null), onText(delta), onCancel(abort).
 * Resolves with the last event; rejects with Full, Cancelled or an Error in the page's language.
 * XMLHttpRequest, because fetch tells nothing about the progress of an upload.
 */
export function sendFile(file, options, handlers) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    const fields = { ...options, response_format: "verbose_json", stream: "true", progress: "true" };
    for (const [name, value] of Object.entries(fields)) if (value) form.append(name, value);
    form.append("model", "default");
    form.append("file", file, file.name);
    const request = new XMLHttpRequest();
    const reader = new EventReader();
    let result = null;
    let failure = null;
    const read = () => {
      if (request.status !== 200) return;
      for (const event of reader.take(request.responseText)) {
        if (event.error) failure = new Error(errorWords(event.error));
        else if (event.type === "progress") handlers.onReading(share(event));
        else if (event.type === "transcript.text.delta") handlers.onText(event.delta);
        else if (event.type === "transcript.text.done") result = event;
      }
    };
    request.open("POST", URL_PATH);
    request.upload.onprogress = ({ loaded, total }) => handlers.onSent(total ? loaded / total : 0);
    request.upload.onload = () => handlers.onReading(null);
    request.onprogress = read;
    request.onload = () => {
      read();
      if (result) resolve(result);
      else reject(failure ?? refusal(request) ?? new Error(words().cutShort()));
    };
    request.onerror = () => reject(failure ?? new Error(words().unreachable()));
    request.onabort = () => reject(new Cancelled());
    handlers.onCancel(() => request.abort());
    request.send(form);
  });
}

/** Server-sent events in a text that grows. */
class EventReader {
  #at = 0;

  /** The events that have come since the last call. */
  take(text) {
    const events = [];
    for (let end = text.indexOf("\n\n", this.#at); end >= 0; end = text.indexOf("\n\n", this.#at)) {
      const line = text.slice(this.#at, end);
      this.#at = end + 2;
      if (line.startsWith("data: {")) events.push(JSON.parse(line.slice(6)));
    }
    return events;
  }
}

function share({ position, duration }) {
  return duration ? Math.min(1, position / duration) : null;
}

function refusal(request) {
  if (request.status === 200) return null;
  let message = words().answered(request.status);
  try {
    message = errorWords(JSON.parse(request.responseText).error);
  } catch {
    // an answer that is not JSON comes from something between the page and the box
  }
  if (!FULL.includes(request.status)) return new Error(message);
  return new Full(message, Number(request.getResponseHeader("Retry-After")) || 5);
}
