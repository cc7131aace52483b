// The models of the box: what serves, verification, switch, rollback, a bundle to install.

import { api } from "./api.js";
import { byId, element } from "./dom.js";
import { t } from "./i18n.js";
import { errorWords } from "./said.js";

const PATH = "/api/v1/models";
const ROLES = {
  vad: "Speech detection",
  asr_online: "Live text",
  asr_offline: "Final text",
  punctuation: "Punctuation",
};

export class ModelsView {
  #busy = false;
  #upload = null;

  open() {
    byId("models-verify").addEventListener("click", () => this.#verify());
    byId("bundle").addEventListener("change", ({ target }) => {
      const [file] = target.files;
      target.value = "";
      if (file) this.#install(file);
    });
    byId("bundle-cancel").addEventListener("click", () => this.#upload?.abort());
  }

  async show() {
    try {
      const { models } = await api(PATH);
      byId("installed").replaceChildren(...models.map((model) => this.#row(model)));
    } catch (error) {
      this.#say(error.message);
    }
  }

  #row(model) {
    const role = ROLES[model.task] ? model.task : null;
    const facts = [
      t(ROLES[model.task] ?? model.task ?? ""),
      model.family,
      (model.languages ?? []).join(", "),
      model.size_mb !== undefined && `${model.size_mb} MB`,
      model.installed ? t("installed") : t("came with the agent"),
    ];
    const trust = model.state === "refused" ? t("refused") : model.pinned ? t("pinned") : t("unpinned");
    const tools = element("div", { className: "tools" });
    const add = (words, work) => {
      const made = element("button", { className: "tool small", text: t(words) });
      made.type = "button";
      made.setAttribute("aria-label", `${t(words)}: ${model.id}`);
      made.addEventListener("click", () => this.#do(words, model, work));
      tools.append(made);
    };
    if (model.serves) tools.append(element("span", { className: "badge", text: t("in use") }));
    else if (role) add("Use", () => api(`${PATH}/${role}`, { method: "POST", body: { id: model.ref } }));
    if (model.previous_of) {
      add("Roll back", () => api(`${PATH}/${model.previous_of}/rollback`, { method: "POST" }));
    }
    if (model.state !== "refused") {
      add("Verify", async () => verdict(await api("/api/v1/check", { method: "POST", body: { id: model.ref } })));
    }
    if (model.installed && !model.serves) {
      add("Remove", () => api(`${PATH}/${encodeURIComponent(model.ref)}`, { method: "DELETE" }));
    }
    const head = element("div", {
      className: "model-head",
      children: [
        element("span", { className: "model-id", text: model.id }),
        element("span", { className: "badge", text: trust }),
        tools,
      ],
    });
    const item = element("li", {
      children: [head, element("p", { className: "quiet", text: facts.filter(Boolean).join(" · ") })],
    });
    if (model.reason) {
      const why = errorWords({ code: model.code, message: model.reason });
      item.append(element("p", { className: "refused", text: why }));
    }
    item.dataset.ref = model.ref;
    return item;
  }

  async #do(words, model, work) {
    if (words === "Remove" && !window.confirm(t("Remove {id} from this box?", { id: model.id }))) return;
    if (this.#busy) return;
    this.#busy = true;
    this.#say(`${t(words)}: ${model.id} …`);
    try {
      const said = await work();
      this.#say(typeof said === "string" ? said : `${t(words)}: ${model.id}. ${t("Done.")}`);
      await this.show();
    } catch (error) {
      this.#say(error.message);
    } finally {
      this.#busy = false;
    }
  }

  #verify() {
    return this.#do("Verify", { id: t("all models") }, async () =>
      verdict(await api("/api/v1/check", { method: "POST", body: {} })),
    );
  }

  /** XMLHttpRequest, because fetch tells nothing about the progress of an upload. */
  #install(file) {
    const request = new XMLHttpRequest();
    const bar = byId("bundle-progress");
    this.#upload = request;
    bar.value = 0;
    byId("bundle-row").hidden = false;
    const end = (words) => {
      byId("bundle-row").hidden = true;
      this.#upload = null;
      this.#say(words);
      this.show();
    };
    request.open("POST", PATH);
    request.upload.onprogress = ({ loaded, total }) => {
      bar.value = total ? loaded / total : 0;
      this.#say(`${file.name}: ${Math.round(bar.value * 100)} %`);
    };
    request.upload.onload = () => {
      bar.removeAttribute("value");
      this.#say(t("The box verifies {name}.", { name: file.name }));
    };
    request.onload = () => {
      let told = null;
      try {
        told = JSON.parse(request.responseText);
      } catch {
        told = null; // an answer of something between the page and the box
      }
      if (request.status === 201) {
        const ids = (told?.installed ?? []).map(({ ref }) => ref).join(", ");
        end(t("Installed: {ids}", { ids }));
      } else {
        end(told?.error ? errorWords(told.error) : t("The box answered {status}.", { status: request.status }));
      }
    };
    request.onerror = () => end(t("The box can't be reached."));
    request.onabort = () => end(t("Cancelled"));
    request.send(file);
  }

  #say(words) {
    byId("models-said").textContent = words;
  }
}

function verdict({ models }) {
  const bad = models.filter(({ problem }) => problem);
  if (!bad.length) return t("Verified: nothing is wrong.");
  return bad
    .map(({ ref, id, code, problem }) => `${ref ?? id}: ${errorWords({ code, message: problem })}`)
    .join("; ");
}
