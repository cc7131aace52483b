// The device: its health in words, its hardware, and the last hour at most as two small charts.

import { api } from "./api.js";
import { draw, spanOf } from "./chart.js";
import { byId, element } from "./dom.js";
import { language, t } from "./i18n.js";
import { reasonOf } from "./said.js";

const EVERY_MS = 5000;
const STATUS_WORDS = { ok: "Good", degraded: "Degraded", starting: "Starting", failing: "Not working" };
const CHECK_WORDS = {
  models: "Models",
  model_vad: "Speech detection",
  model_asr_online: "Live text",
  model_asr_offline: "Final text",
  model_punctuation: "Punctuation",
  model_store: "Model store",
  inference: "Recognition",
  load: "Load",
  canary: "Self-test",
  configuration: "Configuration",
  microphone: "Microphone",
  history: "History",
};

export class DeviceView {
  #timer = 0;

  /** Show it, and again every few seconds while it is looked at. */
  async show() {
    clearTimeout(this.#timer);
    try {
      const [status, trend] = await Promise.all([api("/api/v1/status"), api("/api/v1/trend")]);
      showHardware(status);
      showTrend(trend.samples ?? []);
      byId("device-said").textContent = "";
    } catch (error) {
      byId("device-said").textContent = error.message;
    }
    try {
      const answer = await fetch("/health", { cache: "no-store" });
      showChecks((await answer.json()).checks ?? []);
    } catch (error) {
      console.info(`health: ${error.message}`); // said above already
    }
    if (!byId("view-device").hidden) this.#timer = setTimeout(() => this.show(), EVERY_MS);
  }
}

function showChecks(checks) {
  byId("checks").replaceChildren(
    ...checks.map((check) => {
      const { name, status, since } = check;
      const when = new Date(since * 1000).toLocaleString(language(), {
        dateStyle: "short",
        timeStyle: "short",
      });
      const item = element("li", {
        children: [
          element("span", { className: "dot" }),
          element("span", { className: "check-name", text: t(CHECK_WORDS[name] ?? name) }),
          element("span", { className: "check-status", text: t(STATUS_WORDS[status] ?? status) }),
          element("p", { className: "check-reason", text: reasonOf(check) }),
          element("p", { className: "check-since quiet", text: t("since {when}", { when }) }),
        ],
      });
      item.dataset.status = status;
      return item;
    }),
  );
}

function showHardware({ hardware = {}, version, board, uptime_s, sessions, load }) {
  const slowed = hardware.throttled ?? [];
  const rows = [
    ["Board", board],
    ["Version", version],
    ["Running for", duration(uptime_s)],
    ["CPU", `${hardware.cpu_percent} % · ${hardware.cores} ${t("cores")}${hardware.cpu_mhz ? ` · ${hardware.cpu_mhz} MHz` : ""}`],
    ["Memory", memoryWords(hardware)],
    ["Memory of the agent", `${hardware.process_mb} MB`],
    ["Disk", t("{free} MB free", { free: hardware.disk_free_mb ?? "–" })],
    ["Temperature", hardware.temperature_c === null ? t("no sensor") : `${Math.round(hardware.temperature_c)} °C`],
    ["Throttling", slowed.map(slowedWords).join(", ") || t("not slowed down")],
    ["GPU", gpuWords(hardware)],
    ...(hardware.power_mode ? [["Power mode", hardware.power_mode.replace(/^power mode /, "")]] : []),
    ...powerEvents(hardware.power_events),
    ["Streams", t("{open} of at most {most}", { open: sessions?.open ?? 0, most: sessions?.most ?? "–" })],
    ["Load with one more", load ? `${Math.round(load.load_with_one_more * 100)} %` : "–"],
  ];
  byId("hardware").replaceChildren(
    ...rows.map(([name, value]) =>
      element("div", { children: [element("dt", { text: t(name) }), element("dd", { text: String(value ?? "–") })] }),
    ),
  );
}

function slowedWords(words) {
  const [, kind] = words.match(/^slowed down against heat \((.*)\)$/) ?? [];
  return kind ? t("slowed down against heat ({kind})", { kind }) : t(words);
}

function memoryWords({ memory_available_mb, memory_total_mb, memory_shared_with_gpu, gpu_memory_mb }) {
  const words = t("{free} of {all} MB free", { free: memory_available_mb, all: memory_total_mb });
  if (!memory_shared_with_gpu) return words;
  const held = gpu_memory_mb == null ? "" : ` · ${t("{mb} MB held by it", { mb: gpu_memory_mb })}`;
  return `${words} · ${t("shared with the GPU")}${held}`;
}

function gpuWords({ gpu_percent, gpu_mhz, gpu_limit_mhz }) {
  const parts = [];
  if (gpu_percent != null) parts.push(`${Math.round(gpu_percent)} %`);
  if (gpu_mhz != null) parts.push(gpu_limit_mhz ? `${gpu_mhz} / ${gpu_limit_mhz} MHz` : `${gpu_mhz} MHz`);
  return parts.join(" · ") || t("none that tells its load");
}

function powerEvents(events = {}) {
  const seen = Object.entries(events ?? {}).filter(([, count]) => count > 0);
  if (!seen.length) return [];
  return [["Slowed by its power", seen.map(([kind, count]) => `${t(kind)}: ${count}`).join(", ")]];
}

function showTrend(samples) {
  const span = spanOf(samples.map(({ time }) => time));
  byId("trend-title").textContent = t("Latency and load of the last {n} min", { n: span / 60 });
  const line = (name) => ({ name, points: samples.map((sample) => [sample.time, sample[name]]) });
  draw(byId("chart-latency"), [line("partials_ms"), line("finals_ms")], {
    most: 100,
    unit: "ms",
    span,
    title: t("Latency of partials and finals over the last {n} min, ms", { n: span / 60 }),
  });
  draw(byId("chart-load"), [line("cpu_percent"), line("load_percent")], {
    most: 100,
    unit: "%",
    span,
    title: t("CPU and load of recognition over the last {n} min, per cent", { n: span / 60 }),
  });
}

function duration(seconds = 0) {
  const minutes = Math.floor(seconds / 60);
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24];
  return days ? `${days} d ${hours} h` : hours ? `${hours} h ${minutes % 60} min` : `${minutes} min`;
}
