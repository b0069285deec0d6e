// The fields with which a reader chooses what a chart shows, and what follows from the choice.

import { typicalRange } from "./scales.js";
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
