// Wiring: the button, what the page says about its state, and the parts behind them.

import { BoxMicrophone } from "./boxmic.js";
import { Clients } from "./clients.js";
import { DeviceView } from "./device.js";
import { byId, seconds } from "./dom.js";
import { mountFiles } from "./files.js";
import { HistoryView } from "./history.js";
import { t, translatePage } from "./i18n.js";
import { Meter } from "./meter.js";
import { ModelsView } from "./models.js";
import { Navigation } from "./nav.js";
import { MicrophoneError, microphoneObstacle } from "./recorder.js";
import { Session } from "./session.js";
import { SettingsView, startFields, uploadFields } from "./settings.js";
import { BoxStatus } from "./status.js";
import { Transcript } from "./transcript.js";

const STATE_WORDS = {
  idle: ["Ready", "Press the button and speak."],
  blocked: ["No microphone here", "Files can be transcribed in the view Files."],
  starting: ["Opening the microphone", "The browser may ask for permission."],
  connecting: ["Connecting to the box", "You can speak already: nothing is lost."],
  listening: ["Listening", "Speak now. Press again to stop."],
  speech: ["Hearing speech", "Press again to stop."],
  reconnecting: ["Reconnecting", "Keep speaking: the audio is kept and sent afterwards."],
  stopping: ["Finishing", "Waiting for the last words."],
};
const LINK_WORDS = {
  connecting: "connecting",
  live: "live",
  reconnecting: "reconnecting",
  stopped: "idle",
};
const BUTTON_WORDS = { idle: "Start", blocked: "Start", stopping: "Stopping" };
const KEPT_EVERY_MS = 500;
const WORTH_SAYING_MS = 1000;

class Page {
  #talk = byId("talk");
  #mode = byId("mode");
  #meter = new Meter();
  #transcript = new Transcript();
  #session = null;
  #link = "stopped";
  #speech = false;
  #stopping = false;

  open() {
    const views = { history: new HistoryView(), models: new ModelsView(), device: new DeviceView() };
    views.history.open();
    views.models.open();
    new SettingsView().open();
    mountFiles(byId("view-files"), {
      options: uploadFields,
      bringUp: () => {
        location.hash = "#/files";
      },
    });
    const again = (view) => () => {
      if (!byId(`view-${view}`).hidden) views[view].show();
    };
    new BoxStatus(new BoxMicrophone(this.#transcript), new Clients(this.#transcript), {
      history: again("history"),
      models: again("models"),
    }).open();
    new Navigation({
      history: () => views.history.show(),
      models: () => views.models.show(),
      device: () => views.device.show(),
    }).open();
    const obstacle = microphoneObstacle();
    if (obstacle) this.#complain(obstacle);
    this.#show(obstacle ? "blocked" : "idle");
    this.#talk.addEventListener("click", () => (this.#session ? this.#session.stop() : this.#start()));
    window.addEventListener("pagehide", () => this.#session?.abandon());
    setInterval(() => this.#showKept(), KEPT_EVERY_MS);
  }

  async #start() {
    this.#say(null);
    this.#stopping = false;
    this.#speech = false;
    this.#show("starting");
    const session = new Session({
      transcript: this.#transcript,
      options: startFields(),
      handlers: {
        onLink: (link) => this.#linkChanged(link),
        onSpeech: (speech) => {
          this.#speech = speech;
          this.#showRunning();
        },
        onLevel: (rms, peak) => this.#meter.show(rms, peak),
        onRoundTrip: (ms) => {
          byId("round-trip").textContent = `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
        },
        onStopping: () => {
          this.#stopping = true;
          this.#showRunning();
        },
        onEnd: ({ error }) => this.#ended(error),
      },
    });
    try {
      await session.start();
      this.#session = session;
      this.#showRunning();
    } catch (error) {
      if (!(error instanceof MicrophoneError)) throw error;
      this.#complain(error);
      this.#show("idle");
    }
  }

  #linkChanged(link) {
    this.#link = link;
    document.body.dataset.link = link;
    byId("link-text").textContent = t(LINK_WORDS[link]);
    if (link !== "live") byId("round-trip").textContent = "–";
    this.#showRunning();
  }

  #ended(error) {
    this.#session = null;
    this.#meter.reset();
    if (error) this.#say(error, "stream");
    this.#show("idle");
  }

  #showRunning() {
    if (this.#link === "stopped") return;
    if (this.#stopping) this.#show("stopping");
    else if (this.#link !== "live") this.#show(this.#link);
    else this.#show(this.#speech ? "speech" : "listening");
  }

  #show(state) {
    const [words, hint] = STATE_WORDS[state];
    document.body.dataset.state = state;
    byId("state-text").textContent = t(words);
    byId("state-hint").textContent = t(hint);
    byId("talk-label").textContent = t(BUTTON_WORDS[state] ?? "Stop");
    this.#talk.disabled = state === "blocked" || state === "starting" || state === "stopping";
    this.#mode.disabled = state !== "idle" && state !== "blocked";
  }

  #showKept() {
    const kept = this.#session?.keptMs ?? 0;
    if (this.#link !== "reconnecting" || kept < WORTH_SAYING_MS) return;
    byId("state-hint").textContent =
      t("Keep speaking: {time} of audio are kept and sent afterwards.", { time: seconds(kept) });
  }

  #complain(error) {
    this.#say(t(error.message, error.values), error.code);
  }

  /** A notice on top of the page; null takes it away. */
  #say(words, code = "") {
    const notice = byId("notice");
    notice.hidden = words === null;
    notice.textContent = words ?? "";
    notice.dataset.code = code;
  }
}

translatePage();
new Page().open();
