// The definition of an experiment, as a table and as JSON.

import { number } from "./format.js";
import { el } from "./ui.js";

export function drawDefinition(place, state) {
  const { spec } = state;
  if (!spec || place.shown === spec) return;
  place.shown = spec;
  const rows = spec.parameters.map((one) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, one.name),
      el("td", {}, `${one.type} of ${one.parameter_type}`),
      el("td", { class: "mono" }, domain(one)),
    ),
  );
  const heads = ["Parameter", "Kind", "Values"].map((head) => el("th", { scope: "col" }, head));
  place.replaceChildren(
    el("h2", {}, "Definition"),
    el(
      "div",
      { class: "scroll" },
      el(
        "table",
        {},
        el("caption", { class: "unseen" }, "Search space"),
        el("thead", {}, el("tr", {}, heads)),
        el("tbody", {}, rows),
      ),
    ),
    el("details", {}, el("summary", {}, "As JSON"), el("pre", { tabindex: "0" }, JSON.stringify(spec, null, 2))),
  );
}

function domain(one) {
  return one.frozen_value === undefined ? valuesOf(one) : `${valuesOf(one)}; frozen at ${number(one.frozen_value)}`;
}

function valuesOf(one) {
  if (one.type === "range") return `${number(one.bounds[0])} … ${number(one.bounds[1])}${one.scaling === "log" ? " (log)" : ""}`;
  return one.type === "choice" ? one.values.map(String).join(", ") : one.expression_str;
}
