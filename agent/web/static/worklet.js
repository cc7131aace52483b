// Runs in the audio thread: one channel, resampled to 16 kHz if the context runs at another rate,
// cut into chunks of 100 ms of 16-bit samples, each with its RMS and peak.
// One file without imports, because not every browser resolves imports inside a worklet.

const TARGET_RATE = 16000;
const CHUNK_SAMPLES = TARGET_RATE / 10;
const FULL_SCALE = 32768;
const ZERO_CROSSINGS = 24;
const PASS_BAND = 0.94; // of the lower Nyquist frequency; the rest is the filter's transition
const KAISER_BETA = 9; // about 90 dB in the stop band
const MAX_BLOCK = 4096; // samples handed over at once; a render quantum is 128

/** Rational resampler: one Kaiser-windowed sinc per output phase, low-pass at the lower Nyquist. */
class Resampler {
  #phases = [];
  #half;
  #step;
  #history;
  #filled;
  #phase = 0;
  #at;

  constructor(from, to) {
    const divisor = greatestCommonDivisor(from, to);
    const up = to / divisor;
    this.#step = from / divisor;
    const cutoff = (Math.min(from, to) / from) * PASS_BAND; // 1 is the input's Nyquist frequency
    this.#half = Math.ceil(ZERO_CROSSINGS / cutoff);
    for (let phase = 0; phase < up; phase += 1) {
      this.#phases.push(kernel(phase / up, this.#half, cutoff));
    }
    this.#history = new Float32Array(4 * this.#half + MAX_BLOCK);
    this.#filled = this.#half; // silence before the first sample
    this.#at = this.#half;
  }

  /** Feed a block; calls emit(sample) for every output sample that it completes. */
  push(block, emit) {
    this.#history.set(block, this.#filled);
    this.#filled += block.length;
    const up = this.#phases.length;
    while (this.#at + this.#half < this.#filled) {
      const taps = this.#phases[this.#phase];
      const first = this.#at - this.#half + 1;
      let sum = 0;
      for (let i = 0; i < taps.length; i += 1) sum += taps[i] * this.#history[first + i];
      emit(sum);
      this.#phase += this.#step;
      this.#at += Math.floor(this.#phase / up);
      this.#phase %= up;
    }
    const used = Math.max(0, Math.min(this.#at - this.#half, this.#filled));
    this.#history.copyWithin(0, used, this.#filled);
    this.#filled -= used;
    this.#at -= used;
  }

  /** Samples of silence that push out everything still inside. */
  get tail() {
    return this.#half;
  }
}

/** Taps at distances (i - half + 1 - offset) input samples from the output instant, sum 1. */
function kernel(offset, half, cutoff) {
  const taps = new Float32Array(2 * half);
  let total = 0;
  for (let i = 0; i < taps.length; i += 1) {
    const x = i - half + 1 - offset;
    const angle = Math.PI * x * cutoff;
    const sinc = angle === 0 ? 1 : Math.sin(angle) / angle;
    const edge = x / half;
    const window = Math.abs(edge) >= 1 ? 0 : bessel(KAISER_BETA * Math.sqrt(1 - edge * edge));
    taps[i] = sinc * window;
    total += taps[i];
  }
  return taps.map((tap) => tap / total);
}

/** Modified Bessel function of the first kind, order 0, by its power series. */
function bessel(x) {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > sum * 1e-9; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

class ChunkRecorder extends AudioWorkletProcessor {
  #resampler = sampleRate === TARGET_RATE ? null : new Resampler(sampleRate, TARGET_RATE);
  #chunk = new Int16Array(CHUNK_SAMPLES);
  #count = 0;
  #peak = 0;
  #energy = 0;
  #running = true;

  constructor() {
    super();
    this.port.onmessage = () => this.#flush();
  }

  process(inputs) {
    const block = inputs[0][0];
    if (block && this.#running) this.#take(block);
    return this.#running;
  }

  #take(block) {
    if (this.#resampler) {
      this.#resampler.push(block, (sample) => this.#put(sample));
    } else {
      for (const sample of block) this.#put(sample);
    }
  }

  #put(sample) {
    const value = Math.max(-FULL_SCALE, Math.min(FULL_SCALE - 1, Math.round(sample * FULL_SCALE)));
    this.#chunk[this.#count] = value;
    this.#count += 1;
    this.#peak = Math.max(this.#peak, Math.abs(sample));
    this.#energy += sample * sample;
    if (this.#count === CHUNK_SAMPLES) this.#emit();
  }

  #emit() {
    const samples = this.#chunk.slice(0, this.#count);
    const rms = Math.sqrt(this.#energy / this.#count);
    this.port.postMessage({ samples, rms, peak: this.#peak }, [samples.buffer]);
    this.#count = 0;
    this.#peak = 0;
    this.#energy = 0;
  }

  #flush() {
    if (this.#resampler) this.#take(new Float32Array(this.#resampler.tail));
    if (this.#count > 0) this.#emit();
    this.#running = false;
    this.port.postMessage({ flushed: true });
  }
}

registerProcessor("chunk-recorder", ChunkRecorder);
