// The level meter: RMS as a bar, peak as a line, in dB below full scale.

import { byId } from "./dom.js";

const FLOOR_DB = -60;
const QUIET_DB = -45;
const LOUD_DB = -1;
const PEAK_FALL_DB = 2; // for each chunk of 100 ms

export class Meter {
  #meter = byId("level");
  #rms = byId("level-rms");
  #peak = byId("level-peak");
  #held = FLOOR_DB;

  /** rms and peak: 0 to 1. */
  show(rms, peak) {
    const level = decibels(rms);
    this.#held = Math.max(decibels(peak), this.#held - PEAK_FALL_DB, FLOOR_DB);
    this.#rms.style.transform = `scaleX(${share(level)})`;
    this.#peak.style.left = `${share(this.#held) * 100}%`;
    this.#meter.classList.toggle("clipping", this.#held > LOUD_DB);
    this.#meter.setAttribute("aria-valuenow", String(Math.round(level)));
    this.#meter.setAttribute("aria-valuetext", words(level, this.#held));
  }

  reset() {
    this.#held = FLOOR_DB;
    this.show(0, 0);
  }
}

function decibels(amplitude) {
  return Math.max(FLOOR_DB, 20 * Math.log10(Math.max(amplitude, Number.MIN_VALUE)));
}

function share(db) {
  return Math.min(1, (db - FLOOR_DB) / -FLOOR_DB);
}

function words(level, peak) {
  if (peak > LOUD_DB) return "too loud";
  if (level <= FLOOR_DB) return "silent";
  return level < QUIET_DB ? "quiet" : "good";
}
