// The fields with which a reader chooses what a chart shows, and what follows from the choice.

import { el } from "./ui.js";

/** The reader's choices in the charts' own fields. */
export const chosen = {};

export function chooser(id, label, options, redraw) {
  if (!options.includes(chosen[id])) chosen[id] = options[0];
  if (options.length < 2) return "";
  const choose = (event) => {
    chosen[id] = event.target.value;
    redraw();
  };
  const items = options.map((one) => el("option", { value: one, selected: one === chosen[id] }, one));
  return el("label", {}, `${label} `, el("select", { id: `choose-${id}`, onchange: choose }, items));
}

/** Return the range without values that are far away from the middle half; null when there are none. */
export function typicalRange(values) {
  if (values.length < 8) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const quantile = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const [low, high] = [quantile(0.25), quantile(0.75)];
  const reach = 4 * (high - low);
  const typical = sorted.filter((value) => value >= low - reach && value <= high + reach);
  if (reach === 0 || typical.length === sorted.length) return null;
  const pad = 0.05 * (typical.at(-1) - typical[0]);
  return [typical[0] - pad, typical.at(-1) + pad];
}

const TYPICAL = "typical values";

function scaleOptions(values) {
  const log = values.length > 1 && values.every((value) => value > 0) ? ["log"] : [];
  return typicalRange(values) ? [TYPICAL, "all values", ...log] : ["all values", ...log];
}

export function scaleChooser(id, values, redraw) {
  return chooser(id, "Scale", scaleOptions(values), redraw);
}

/** Return the axis for the reader's choice of scale, and a note on what it leaves out. */
export function scaleAxis(id, values) {
  if (chosen[id] === "log") return { axis: { type: "log" }, note: "" };
  const range = chosen[id] === TYPICAL ? typicalRange(values) : null;
  if (!range) return { axis: {}, note: "" };
  const outside = values.filter((value) => value < range[0] || value > range[1]).length;
  return { axis: { range }, note: ` ${outside} far values are outside the chart.` };
}

/** Choices of how many trials are drawn as lines. */
export const LINES = { "best 100": 100, "best 20": 20 };

export function lineOptions(number) {
  return ["all", ...Object.keys(LINES).filter((name) => LINES[name] < number)];
}

/** Return at most `most` items, evenly spread, with the first and the last. */
export function spread(items, most) {
  if (items.length <= most) return items;
  return Array.from({ length: most }, (_, i) => items[Math.round((i * (items.length - 1)) / (most - 1))]);
}
