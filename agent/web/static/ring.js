// The audio that the box has not acknowledged yet: a bounded ring addressed by absolute sample index.

export class AudioRing {
  #samples;
  /** Index of the oldest sample kept. */
  start = 0;
  /** Index after the newest sample. */
  end = 0;

  /** capacity: samples kept at most. */
  constructor(capacity) {
    this.#samples = new Int16Array(capacity);
  }

  /** Append an Int16Array. Returns how many of the oldest samples had to go. */
  append(chunk) {
    const capacity = this.#samples.length;
    const kept = chunk.length > capacity ? chunk.subarray(chunk.length - capacity) : chunk;
    const at = (this.end + chunk.length - kept.length) % capacity;
    const head = Math.min(kept.length, capacity - at);
    this.#samples.set(kept.subarray(0, head), at);
    this.#samples.set(kept.subarray(head), 0);
    this.end += chunk.length;
    const dropped = Math.max(0, this.end - capacity - this.start);
    this.start += dropped;
    return dropped;
  }

  /** Copy of the samples [from, from + count), as far as there are any. */
  read(from, count) {
    const capacity = this.#samples.length;
    const first = Math.max(from, this.start);
    const size = Math.max(0, Math.min(from + count, this.end) - first);
    const out = new Int16Array(size);
    const at = first % capacity;
    const head = Math.min(size, capacity - at);
    out.set(this.#samples.subarray(at, at + head));
    out.set(this.#samples.subarray(0, size - head), head);
    return out;
  }

  /** Forget everything before `index`. */
  dropBefore(index) {
    this.start = Math.max(this.start, Math.min(index, this.end));
  }
}
