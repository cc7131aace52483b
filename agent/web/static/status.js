// What the box says about itself: /api/v1/status, /health and the socket of /api/v1/events.

import { leaveIfSignedOut } from "./access.js";
import { Backoff } from "./backoff.js";
import { byId, element, socketUrl } from "./dom.js";
import { t } from "./i18n.js";
import { errorWords, reasonOf } from "./said.js";

const HEALTH_WORDS = {
  ok: "Ready",
  degraded: "Degraded",
  starting: "Starting",
  failing: "Not working",
  offline: "Box not reachable",
};
const ROLE_WORDS = {
  vad: "Speech detection",
  asr_online: "Live text",
  asr_offline: "Final text",
  punctuation: "Punctuation",
};
const PRODUCT = "funasr-agent";
const LOOPBACK = /^(localhost|127\..*|\[::1\])$/;
const POLL_MS = 15000; // the events socket says what changes; this catches what it may not tell

export class BoxStatus {
  #backoff = new Backoff();
  #socket = null;
  #seq = null;
  #sessions = null;
  #microphone;
  #changed;
  #clients;

  /**
   * microphone: told of the box's own one; it and `clients` get every event. changed.history() and
   * changed.models() are called when some of it went, and when other models serve.
   */
  constructor(microphone, clients, changed) {
    this.#microphone = microphone;
    this.#clients = clients;
    this.#changed = changed;
  }

  open() {
    this.#refresh();
    this.#connect();
    setInterval(() => this.#refresh(), POLL_MS);
  }

  async #refresh() {
    const [status, health] = await Promise.all([ask("/api/v1/status"), ask("/health")]);
    if (status) this.#showStatus(status);
    if (health) showHealth(health.status, health.checks);
    else if (!status) showHealth("offline", []);
  }

  #connect() {
    const query = this.#seq === null ? "" : `?since=${this.#seq}`;
    this.#socket = new WebSocket(socketUrl(`/api/v1/events${query}`));
    this.#socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
    this.#socket.onclose = () => {
      setTimeout(() => {
        this.#connect();
        this.#refresh();
      }, this.#backoff.next());
    };
  }

  #receive(event) {
    this.#backoff.reset();
    this.#seq = event.seq;
    this.#microphone.event(event);
    this.#clients.event(event);
    if (event.type === "snapshot") this.#showStatus(event.status);
    else if (event.type === "health") showHealth(event.status, event.checks ?? []);
    else if (event.type === "models") {
      this.#refresh();
      this.#changed.models();
    } else if (event.type === "history") this.#changed.history();
    else if (event.type === "session_opened") this.#showSessions(this.#sessions + 1);
    else if (event.type === "session_closed") this.#showSessions(this.#sessions - 1);
  }

  #showStatus(status) {
    const name = status.name ?? (LOOPBACK.test(location.hostname) ? PRODUCT : location.hostname);
    const version = status.version && `${name === PRODUCT ? "version" : PRODUCT} ${status.version}`;
    byId("box-name").textContent = name;
    document.title = `${name} · ${t("speech to text")}`;
    byId("box-detail").textContent = [version, status.board].filter(Boolean).join(" · ");
    byId("models").replaceChildren(...(status.models ?? []).map(modelRow));
    this.#showSessions(status.sessions?.open ?? 0);
    this.#microphone.show(status.microphone ?? null);
  }

  #showSessions(open) {
    this.#sessions = Math.max(0, open);
    byId("box-foot").textContent = this.#sessions
      ? t("Open streams on this box: {open}", { open: this.#sessions })
      : "";
  }
}

function nameOf({ id }) {
  return id === "none" ? t("none") : (id ?? t("no usable model"));
}

function modelRow(model) {
  const role = element("span", { className: "role", text: t(ROLE_WORDS[model.role] ?? model.role) });
  const name = element("span", { className: "model-id", text: nameOf(model) });
  const derived = model.choice?.derived ?? model.variant;
  const how = [derived, model.provider].filter(Boolean).join(" · ");
  const row = element("li", { children: [role, name, element("span", { className: "quiet", text: how })] });
  row.dataset.model = model.id ?? "";
  row.dataset.role = model.role;
  const refused = model.refused ?? [];
  if (!model.id || refused.length) row.dataset.trouble = "true";
  if (model.pinned === false) {
    row.append(
      element("p", {
        className: "quiet unpinned",
        text: t("unpinned: its hashes are not on the list of known models"),
      }),
    );
  }
  for (const { id, ...error } of refused) {
    const message = errorWords(error);
    row.append(element("p", { className: "refused", text: t("{id} was refused: {message}", { id, message }) }));
  }
  if (model.id && refused.length) {
    row.append(element("p", { className: "refused", text: t("{id} serves in its place.", { id: model.id }) }));
  }
  return row;
}

/** The pill, and in words every check that is not fine. */
function showHealth(state, checks) {
  document.body.dataset.health = state;
  byId("health-text").textContent = t(HEALTH_WORDS[state] ?? state);
  const troubles = checks.filter((check) => check.status !== "ok");
  const list = byId("problems");
  const said = troubles.map(reasonOf).join("\n");
  if (list.dataset.said === said) return; // saying it again would disturb a screen reader
  list.dataset.said = said;
  list.hidden = troubles.length === 0;
  list.replaceChildren(
    ...troubles.map((check) => {
      const item = element("li", { text: reasonOf(check) });
      item.dataset.check = check.name;
      item.dataset.status = check.status;
      return item;
    }),
  );
}

/** The JSON of a path, also with status 503; null when the box can't be reached. */
async function ask(path) {
  try {
    const answer = await fetch(path, { cache: "no-store" });
    if (leaveIfSignedOut(answer)) return null;
    return answer.ok || answer.status === 503 ? await answer.json() : null;
  } catch (error) {
    console.info(`${path}: ${error.message}`);
    return null;
  }
}
