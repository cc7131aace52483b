// A spoken command as a chip: its name and its slots.

import { element } from "./dom.js";
import { t } from "./i18n.js";

/** command: {name, slots} of an event or of the history. */
export function commandChip({ name, slots = {} }) {
  const said = Object.entries(slots).map(([slot, value]) => `${slot}: ${value}`);
  const label = element("span", { className: "visually-hidden", text: `${t("Command")} ` });
  const words = element("span", { text: [name, ...said].join(" · ") });
  const chip = element("span", { className: "command", children: [label, words] });
  chip.dataset.command = name;
  return chip;
}
