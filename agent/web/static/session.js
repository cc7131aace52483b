// One recording: the microphone, its stream to the box, and its section of the transcript.

import { socketUrl } from "./dom.js";
import { t } from "./i18n.js";
import { Recorder, SAMPLE_RATE } from "./recorder.js";
import { told } from "./said.js";
import { TranscriptionStream, gapKey } from "./stream.js";

export class Session {
  #recorder;
  #stream = null;
  #section = null;
  #transcript;
  #handlers;
  #options;
  #ending = false;
  #lost = null;

  /**
   * handlers: onLink(state), onSpeech(bool), onLevel(rms, peak), onRoundTrip(ms), onStopping(),
   * onEnd({error}) once, with words or null.
   */
  constructor({ transcript, options, handlers }) {
    this.#transcript = transcript;
    this.#options = options;
    this.#handlers = handlers;
    this.#recorder = new Recorder({
      onChunk: ({ samples, rms, peak }) => {
        this.#stream?.push(samples);
        handlers.onLevel(rms, peak);
      },
      onLost: (error) => {
        this.#lost = error;
        this.stop();
      },
    });
  }

  /** Open the microphone, then the stream. Throws MicrophoneError. */
  async start() {
    // Made before the first chunk comes, which it keeps until it is opened.
    this.#stream = new TranscriptionStream({
      url: socketUrl("/api/v1/stream"),
      start: { sample_rate: SAMPLE_RATE, ...this.#options },
      handlers: {
        onState: (state) => this.#handlers.onLink(state),
        onEvent: (event, place) => this.#event(event, place),
        onGap: ({ key, startMs, droppedMs, reason }) =>
          this.#section.gap(key, startMs, droppedMs, reason),
        onGapGone: (key) => this.#section.removeGap(key),
        onRemarks: (remarks) => this.#section.note(remarks.map(told).join(" ")),
        onRoundTrip: (ms) => this.#handlers.onRoundTrip(ms),
        onEnd: (end) => this.#ended(end),
      },
    });
    await this.#recorder.start();
    this.#section = this.#transcript.begin(t("Recording at {time}", { time: new Date().toLocaleTimeString() }));
    this.#stream.open();
  }

  /** Milliseconds of audio that wait for the box. */
  get keptMs() {
    return this.#stream?.keptMs ?? 0;
  }

  /** Hand over what is recorded and wait for the finals; onEnd follows. */
  async stop() {
    if (this.#ending) return;
    this.#ending = true;
    this.#handlers.onStopping();
    await this.#recorder.stop();
    this.#stream.stop();
  }

  /** The page goes away. */
  abandon() {
    this.#stream?.abandon();
  }

  #event(event, { sessionId, baseMs }) {
    const key = `${sessionId}/${event.segment_id}`;
    const startMs = baseMs + (event.start_ms ?? 0);
    switch (event.type) {
      case "voice_started":
        this.#section.hear(key, startMs);
        this.#handlers.onSpeech(true);
        break;
      case "voice_stopped":
        this.#handlers.onSpeech(false);
        break;
      case "partial":
        this.#section.partial(key, event.text, startMs);
        break;
      case "final":
        this.#section.final(key, event.text, startMs, event.language);
        break;
      case "command":
        this.#section.command(key, event);
        break;
      case "gap":
        this.#section.gap(gapKey(startMs), startMs, event.dropped_ms, "overflow");
        break;
      default: // "stopped" ends the stream; a newer box may send more
    }
  }

  async #ended({ error }) {
    this.#ending = true;
    await this.#recorder.stop();
    this.#section.close();
    this.#handlers.onEnd({ error: error ?? (this.#lost && t(this.#lost.message, this.#lost.values)) });
  }
}
