// The microphone: getUserMedia -> AudioContext -> worklet.js, 100 ms chunks of 16-bit 16 kHz audio.

export const SAMPLE_RATE = 16000;
const FLUSH_LIMIT_MS = 1000;
const WORKLET_URL = new URL("./worklet.js", import.meta.url).href;

/** Why there is no microphone. `code` is stable, `message` with its `values` is for people. */
export class MicrophoneError extends Error {
  constructor(code, message, values = {}) {
    super(message);
    this.code = code;
    this.values = values;
  }
}

/** The reason why this page can't ever have a microphone, or null. */
export function microphoneObstacle() {
  if (!window.isSecureContext) {
    return new MicrophoneError(
      "insecure",
      "The browser gives the microphone only to pages opened over https, or on the box itself as " +
        "http://localhost. Open this page with https:// to speak; files can be uploaded here as well.",
    );
  }
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
    return new MicrophoneError(
      "unsupported",
      "This browser has no microphone access for web pages. A current Firefox, Chrome, Edge or " +
        "Safari has; files can be uploaded here as well.",
    );
  }
  return null;
}

export class Recorder {
  #stream = null;
  #context = null;
  #node = null;
  #onFlushed = null;

  /** onChunk({samples, rms, peak}) every 100 ms; onLost(MicrophoneError) when the device goes away. */
  constructor({ onChunk, onLost }) {
    this.onChunk = onChunk;
    this.onLost = onLost;
  }

  /** Ask for the microphone and begin. Throws MicrophoneError. */
  async start() {
    const obstacle = microphoneObstacle();
    if (obstacle) throw obstacle;
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({
        audio: {
          channelCount: 1,
          echoCancellation: false,
          noiseSuppression: false,
          autoGainControl: false,
        },
      });
      await this.#connect();
    } catch (error) {
      await this.#release();
      throw explain(error);
    }
    for (const track of this.#stream.getAudioTracks()) {
      track.addEventListener("ended", () => {
        this.onLost(new MicrophoneError("lost", "The microphone went away (unplugged, or taken back)."));
      });
    }
  }

  /** End after the last samples have been handed over. */
  async stop() {
    if (this.#node) {
      await new Promise((resolve) => {
        const limit = setTimeout(resolve, FLUSH_LIMIT_MS);
        this.#onFlushed = () => {
          clearTimeout(limit);
          resolve();
        };
        this.#node.port.postMessage("flush");
      });
    }
    await this.#release();
  }

  async #connect() {
    let source;
    try {
      this.#context = new AudioContext({ sampleRate: SAMPLE_RATE });
      source = this.#context.createMediaStreamSource(this.#stream);
    } catch {
      // Some browsers refuse 16 kHz, or a source of another rate: the worklet resamples then.
      await this.#context?.close();
      this.#context = new AudioContext();
      source = this.#context.createMediaStreamSource(this.#stream);
    }
    await this.#context.audioWorklet.addModule(WORKLET_URL);
    this.#node = new AudioWorkletNode(this.#context, "chunk-recorder", {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
    });
    this.#node.port.onmessage = ({ data }) => {
      if (data.flushed) this.#onFlushed?.();
      else this.onChunk(data);
    };
    const context = this.#context;
    context.addEventListener("statechange", () => {
      if (context.state === "interrupted" || context.state === "suspended") context.resume();
    });
    source.connect(this.#node);
    await context.resume();
  }

  async #release() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    if (this.#context && this.#context.state !== "closed") await this.#context.close();
    this.#stream = null;
    this.#context = null;
    this.#node = null;
  }
}

function explain(error) {
  if (error instanceof MicrophoneError) return error;
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return new MicrophoneError(
        "denied",
        "The browser was told not to give this page the microphone. Allow it beside the address " +
          "(the lock or the microphone sign), then press the button again.",
      );
    case "NotFoundError":
    case "OverconstrainedError":
      return new MicrophoneError(
        "missing",
        "No microphone was found. Plug one in, or check that the system lets the browser use it.",
      );
    case "NotReadableError":
    case "AbortError":
      return new MicrophoneError(
        "busy",
        "The microphone can't be opened. Another program may be using it: close that and try again.",
      );
    default:
      return new MicrophoneError("failed", "The microphone can't be used: {why}", { why: error.message });
  }
}
