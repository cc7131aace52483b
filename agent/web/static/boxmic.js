// The box's own microphone: how it is, on and off, mute, gain, and what it hears in the transcript.

import { api } from "./api.js";
import { byId, seconds } from "./dom.js";
import { t } from "./i18n.js";
import { reasonOf } from "./said.js";

const STATE_WORDS = {
  off: "Off",
  running: "Listening",
  muted: "Muted",
  opening: "Opening",
  stalled: "Gone",
  absent: "Not there",
  busy: "In use elsewhere",
  failed: "Can't be opened",
  unavailable: "Not installed",
};
const OFF_WORDS = "Once turned on, it listens until it is turned off, also after a restart.";
const FLOOR_DB = -60;
const SAID = ["voice_started", "partial", "final", "command", "gap"];

export class BoxMicrophone {
  #card = byId("boxmic");
  #switch = byId("boxmic-switch");
  #mute = byId("boxmic-mute");
  #gain = byId("boxmic-gain");
  #transcript;
  #section = null;
  #sessions = new Map();
  #dragging = false;

  /** transcript: where its text goes. */
  constructor(transcript) {
    this.#transcript = transcript;
    this.#switch.addEventListener("click", () => {
      this.#send({ enabled: this.#card.dataset.state === "off" });
    });
    this.#mute.addEventListener("click", () => {
      this.#send({ muted: this.#mute.getAttribute("aria-pressed") !== "true" });
    });
    this.#gain.addEventListener("input", () => {
      this.#dragging = true;
      this.#showGain(Number(this.#gain.value));
    });
    this.#gain.addEventListener("change", () => {
      this.#dragging = false;
      this.#send({ gain_db: Number(this.#gain.value) });
    });
  }

  /** `microphone` of /api/v1/status, or an event of that name; null: this box has none. */
  show(told) {
    this.#card.hidden = !told?.enabled && !told?.can_switch;
    if (this.#card.hidden) return;
    const off = !told.enabled;
    this.#card.dataset.state = told.state;
    this.#switch.hidden = !told.can_switch;
    this.#switch.textContent = t(off ? "Turn on" : "Turn off");
    for (const part of this.#card.querySelectorAll(".when-on")) part.hidden = off;
    byId("boxmic-state").textContent = t(STATE_WORDS[told.state] ?? told.state);
    const lost = told.dropped_ms ? `, ${t("{time} lost so far", { time: seconds(told.dropped_ms) })}` : "";
    const words = off ? t(OFF_WORDS) : `${reasonOf(told)}${lost}`;
    const detail = byId("boxmic-detail");
    if (detail.textContent !== words) detail.textContent = words;
    this.#mute.setAttribute("aria-pressed", String(told.muted));
    this.#mute.textContent = t(told.muted ? "Unmute" : "Mute");
    if (!this.#dragging) {
      this.#gain.value = String(told.gain_db);
      this.#showGain(told.gain_db);
    }
    this.#showLevel(told);
    if (told.session_id && !this.#sessions.has(told.session_id)) {
      this.#sessions.set(told.session_id, Date.now());
    }
  }

  /** An event of /api/v1/events; those of its sessions become text. */
  event(event) {
    if (event.type === "microphone") this.show(event);
    else if (event.type === "session_opened" && event.source === "microphone") {
      this.#sessions.set(event.session_id, event.time * 1000);
    } else if (event.type === "session_closed") this.#closed(event.session_id);
    else if (this.#sessions.has(event.session_id) && SAID.includes(event.type)) this.#said(event);
  }

  #said(event) {
    this.#section ??= this.#transcript.begin(t("Microphone of the box"));
    const section = this.#section;
    const key = `${event.session_id}/${event.segment_id ?? `gap-${event.start_ms}`}`;
    // Sessions follow each other in one section, so a row's place is its time of day.
    const at = this.#sessions.get(event.session_id) - this.#first() + event.start_ms;
    if (event.type === "voice_started") section.hear(key, at);
    else if (event.type === "partial") section.partial(key, event.text, at);
    else if (event.type === "final") section.final(key, event.text, at, event.language);
    else if (event.type === "command") section.command(key, event);
    else section.gap(key, at, event.dropped_ms, "overflow");
  }

  #first() {
    const [first] = this.#sessions.values();
    return first;
  }

  /** The first one stays: times are counted from it. */
  #closed(sessionId) {
    const [first] = this.#sessions.keys();
    if (sessionId !== first) this.#sessions.delete(sessionId);
  }

  #showLevel(told) {
    const db = told.state === "running" ? Math.max(FLOOR_DB, told.level_dbfs) : FLOOR_DB;
    byId("boxmic-rms").style.transform = `scaleX(${Math.min(1, (db - FLOOR_DB) / -FLOOR_DB)})`;
    const meter = byId("boxmic-level");
    meter.classList.toggle("clipping", told.clipping);
    meter.setAttribute("aria-valuenow", String(Math.round(db)));
  }

  #showGain(db) {
    byId("boxmic-gain-text").textContent = `${db > 0 ? "+" : ""}${db} dB`;
  }

  async #send(fields) {
    try {
      this.show(await api("/api/v1/microphone", { method: "POST", body: fields }));
    } catch (error) {
      byId("boxmic-detail").textContent = error.message;
    }
  }
}
