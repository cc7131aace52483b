// Exponential back-off with full jitter: the n-th wait is uniform in [0, min(cap, base * 2^n)].

export const BASE_MS = 250;
export const CAP_MS = 5000;
const DOUBLINGS_TO_CAP = Math.ceil(Math.log2(CAP_MS / BASE_MS));

export class Backoff {
  #attempt = 0;
  #random;

  constructor(random = Math.random) {
    this.#random = random;
  }

  /** Milliseconds to wait before the next try. */
  next() {
    const ceiling = Math.min(CAP_MS, BASE_MS * 2 ** this.#attempt);
    this.#attempt = Math.min(this.#attempt + 1, DOUBLINGS_TO_CAP);
    return this.#random() * ceiling;
  }

  reset() {
    this.#attempt = 0;
  }
}
