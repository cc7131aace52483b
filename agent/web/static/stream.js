// One recording over /api/v1/stream that survives a broken network.
//
// Audio goes into a bounded ring first and leaves it when the box has acknowledged it. After a cut the
// stream connects again with its resume_id, goes on from the sample that the box names, and skips events
// that it has had. Indices inside are absolute: they count from the start of the recording; a session of
// the box starts at #base of it (0, unless a session was lost and another had to take over).
//
// Everything with a deadline is checked in #tick, which audio drives too: browsers slow the timers of a
// hidden page down, but not its microphone.

import { Backoff } from "./backoff.js";
import { encodeFrame } from "./frames.js";
import { t } from "./i18n.js";
import { AudioRing } from "./ring.js";
import { errorWords } from "./said.js";

export const RING_SECONDS = 60;
const FRAME_MS = 100;
const TICK_MS = 100;
const CONNECT_LIMIT_MS = 5000;
const PING_EVERY_MS = 2000;
const SILENCE_LIMIT_MS = 8000; // four pings without any answer: the connection is dead
const STOP_LIMIT_MS = 30000;
const MAX_BUFFERED_BYTES = 256 * 1024;
const FATAL_CLOSE_CODES = new Set([1002, 1003, 1007, 1008, 1009]);
// Refusals that may pass: worth a retry once a recording runs, but said at once to who just pressed start.
const PASSING_ERRORS = new Set(["overloaded", "not_ready"]);

export class TranscriptionStream {
  /** ready (audio is kept already), connecting, live, reconnecting or stopped. */
  state = "ready";

  #url;
  #start;
  #handlers;
  #ring;
  #rate;
  #frameSamples;
  #backoff;
  #socket = null;
  #timer = null;
  #started = false;
  #resumeId = null;
  #sessionId = "";
  #receivedSeq = 0;
  #base = 0;
  #sentTo = 0;
  #lost = null;
  #stopping = false;
  #stopSent = false;
  #refusal = "";
  #retryAt = Infinity;
  #connectBy = Infinity;
  #pingAt = Infinity;
  #heardAt = 0;
  #stopBy = Infinity;

  /**
   * start: fields of the start message ({sample_rate, mode, ...}).
   * handlers: onState(state), onEvent(event, {sessionId, baseMs}), onGap({key, startMs, droppedMs, reason}),
   * onGapGone(key), onRemarks([{text, code, values}]), onRoundTrip(ms), onEnd({error}) exactly once (error: words, or null after all finals).
   */
  constructor({ url, start, handlers, ringSeconds = RING_SECONDS, random = Math.random }) {
    this.#url = url;
    this.#start = start;
    this.#handlers = handlers;
    this.#rate = start.sample_rate;
    this.#ring = new AudioRing(ringSeconds * this.#rate);
    this.#frameSamples = (this.#rate * FRAME_MS) / 1000;
    this.#backoff = new Backoff(random);
  }

  open() {
    this.#setState("connecting");
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    window.addEventListener("online", this.#hurry);
    this.#connect();
  }

  /** Hand over the next samples (Int16Array). */
  push(samples) {
    if (this.state === "stopped" || this.#stopping) return;
    const before = this.#ring.start;
    const dropped = this.#ring.append(samples);
    if (dropped > 0) this.#noteLoss(before);
    this.#tick();
    this.#pump();
  }

  /** No more audio: deliver what is kept, wait for the finals, then onEnd. */
  stop() {
    if (this.#stopping || this.state === "stopped") return;
    this.#stopping = true;
    this.#stopBy = performance.now() + STOP_LIMIT_MS;
    if (this.#ring.end === 0) this.#finish(null);
    else this.#pump();
  }

  /** The page goes away: spare the box the wait for a client that won't come back. */
  abandon() {
    if (this.state === "live") this.#socket.send(JSON.stringify({ type: "stop" }));
    this.#finish(null);
  }

  /** Milliseconds of audio that the box has not acknowledged. */
  get keptMs() {
    return this.#toMs(this.#ring.end - this.#ring.start);
  }

  #connect() {
    const socket = new WebSocket(this.#url);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    this.#retryAt = Infinity;
    this.#connectBy = performance.now() + CONNECT_LIMIT_MS;
    const current = (handle) => (event) => {
      if (this.#socket === socket) handle(event);
    };
    socket.onopen = current(() => this.#sendStart());
    socket.onmessage = current(({ data }) => this.#receive(data));
    socket.onclose = current((event) => this.#closed(event));
  }

  #sendStart() {
    const message = { type: "start", ...this.#start };
    if (this.#resumeId) {
      message.resume_id = this.#resumeId;
      message.received_seq = this.#receivedSeq;
    }
    this.#socket.send(JSON.stringify(message));
  }

  #receive(data) {
    this.#heardAt = performance.now();
    const message = JSON.parse(data);
    if (message.type === "started") this.#resumed(message);
    else if (message.type === "ack") this.#ring.dropBefore(this.#base + message.next_sample);
    else if (message.type === "pong") this.#handlers.onRoundTrip(performance.now() - message.t);
    else if (message.seq === undefined && message.type === "error") this.#refused(message);
    else this.#event(message);
    this.#pump();
  }

  #event(message) {
    if (!(message.seq > this.#receivedSeq)) return; // had before the cut, or not an event
    this.#receivedSeq = message.seq;
    if (message.type === "error") return this.#finish(errorWords(message));
    this.#handlers.onEvent(message, {
      sessionId: this.#sessionId,
      baseMs: this.#toMs(this.#base),
    });
    if (message.type === "stopped") this.#finish(null);
  }

  #resumed({ resume_id: resumeId, session_id: sessionId, next_sample: nextSample, resumed, said }) {
    if (this.#started && !resumed) this.#sessionLost();
    this.#started = true;
    this.#resumeId = resumeId;
    this.#sessionId = sessionId;
    const next = this.#base + nextSample;
    this.#settleLoss(next);
    this.#ring.dropBefore(next);
    this.#sentTo = this.#ring.start;
    this.#stopSent = false;
    this.#backoff.reset();
    this.#connectBy = Infinity;
    this.#pingAt = performance.now();
    this.#setState("live");
    if (said) this.#handlers.onRemarks?.(said);
  }

  /** The box no longer knows the session: a new one takes over from the oldest audio kept. */
  #sessionLost() {
    this.#handlers.onGap({
      key: `session-${this.#sessionId}`,
      startMs: this.#toMs(this.#lost?.start ?? this.#ring.start),
      droppedMs: this.#toMs(this.#lost?.count ?? 0),
      reason: "session",
    });
    this.#base = this.#ring.start;
    this.#receivedSeq = 0;
  }

  /** The ring was full: say at once that audio is being lost, in one gap that grows. */
  #noteLoss(oldStart) {
    const start = this.state === "live" ? Math.max(oldStart, this.#sentTo) : oldStart;
    const count = this.#ring.start - start;
    if (count <= 0) return; // sent already, only its acknowledgement is late
    if (this.#lost && this.#lost.start + this.#lost.count === start) this.#lost.count += count;
    else this.#lost = { start, count };
    this.#sentTo = Math.max(this.#sentTo, this.#ring.start);
    this.#sayGap(this.#lost.start, this.#lost.count);
  }

  /** Now the box has told what it had: the gap may be another than feared, or none at all. */
  #settleLoss(next) {
    if (this.#lost) this.#handlers.onGapGone(gapKey(this.#toMs(this.#lost.start)));
    this.#lost = null;
    if (next < this.#ring.start) this.#sayGap(next, this.#ring.start - next);
  }

  #sayGap(start, count) {
    const startMs = this.#toMs(start);
    this.#handlers.onGap({
      key: gapKey(startMs),
      startMs,
      droppedMs: this.#toMs(count),
      reason: "overflow",
    });
  }

  #toMs(samples) {
    return (samples * 1000) / this.#rate;
  }

  /** Send what is new, as far as the socket takes it; the rest waits in the ring. */
  #pump() {
    if (this.state !== "live" || this.#socket.readyState !== WebSocket.OPEN) return;
    while (this.#sentTo < this.#ring.end && this.#socket.bufferedAmount < MAX_BUFFERED_BYTES) {
      const samples = this.#ring.read(this.#sentTo, this.#frameSamples);
      this.#socket.send(encodeFrame(this.#sentTo - this.#base, samples));
      this.#sentTo += samples.length;
      this.#lost = null; // the box sees the jump and reports the gap itself
    }
    if (this.#stopping && !this.#stopSent && this.#sentTo === this.#ring.end) {
      this.#stopSent = true;
      this.#socket.send(JSON.stringify({ type: "stop" }));
    }
  }

  #tick() {
    const now = performance.now();
    if (now >= this.#stopBy) {
      this.#finish(t("The box did not answer in time: the end of the text may be missing."));
    } else if (now >= this.#retryAt) {
      this.#connect();
    } else if (now >= this.#connectBy) {
      this.#cut();
    } else if (this.state === "live") {
      this.#keepAlive(now);
      this.#pump();
    }
  }

  #keepAlive(now) {
    if (now - this.#heardAt > SILENCE_LIMIT_MS) {
      this.#cut();
    } else if (now >= this.#pingAt && this.#socket.readyState === WebSocket.OPEN) {
      this.#pingAt = now + PING_EVERY_MS;
      this.#socket.send(JSON.stringify({ type: "ping", t: now }));
    }
  }

  #refused(error) {
    if (this.#started && PASSING_ERRORS.has(error.code)) this.#refusal = errorWords(error);
    else this.#finish(errorWords(error));
  }

  #closed({ code, reason }) {
    const failed = FATAL_CLOSE_CODES.has(code) || (code === 1013 && !this.#started);
    if (failed) this.#finish(reason || this.#refusal || t("The box closed the stream (code {code}).", { code }));
    else this.#cut();
  }

  /** Let go of the socket, whatever it still does, and come back after a while. */
  #cut() {
    this.#dropSocket();
    this.#connectBy = Infinity;
    this.#pingAt = Infinity;
    this.#retryAt = performance.now() + this.#backoff.next();
    this.#setState(this.#started ? "reconnecting" : "connecting");
  }

  #hurry = () => {
    if (this.#retryAt !== Infinity) this.#retryAt = 0;
  };

  #finish(error) {
    if (this.state === "stopped") return;
    clearInterval(this.#timer);
    window.removeEventListener("online", this.#hurry);
    this.#dropSocket();
    this.#setState("stopped");
    this.#handlers.onEnd({ error });
  }

  #dropSocket() {
    const socket = this.#socket;
    this.#socket = null; // its handlers are deaf from here on
    socket?.close();
  }

  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.#handlers.onState(state);
  }
}

/** Key of the gap that starts there, so that both sides' reports of one gap meet. */
export function gapKey(startMs) {
  return `gap-${Math.round(startMs)}`;
}
