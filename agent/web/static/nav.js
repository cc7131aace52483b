// The views of the page, by the address: #/live, #/history and so on.

import { byId } from "./dom.js";

const VIEWS = ["live", "history", "files", "models", "device", "settings"];

export class Navigation {
  #onShow = {};

  /** onShow: view -> called each time that it comes up. */
  constructor(onShow) {
    this.#onShow = onShow;
  }

  open() {
    window.addEventListener("hashchange", () => this.#show(true));
    this.#show(false);
  }

  /** The view that the address names; the first for an unknown one. */
  get current() {
    const name = location.hash.replace(/^#\//, "");
    return VIEWS.includes(name) ? name : VIEWS[0];
  }

  #show(moveFocus) {
    const now = this.current;
    for (const view of VIEWS) {
      byId(`view-${view}`).hidden = view !== now;
      const link = byId(`nav-${view}`);
      if (view === now) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.body.dataset.view = now;
    if (moveFocus) {
      window.scrollTo(0, 0);
      byId(`view-${now}`).focus({ preventScroll: true });
    }
    this.#onShow[now]?.();
  }
}
