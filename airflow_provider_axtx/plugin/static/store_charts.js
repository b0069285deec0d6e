// Charts of what the store alone knows: time line over slots, distribution of the objective, hypervolume; failures.

import { nextTask } from "./charts.js";
import { chooser, chosen } from "./choosers.js";
import { duration, number, plain, plural, words } from "./format.js";
import { failureGroups, hypervolumeCourse, slots } from "./indicators.js";
import { completed, goalLabels, hasValues } from "./records.js";
import { extent, histogram } from "./scales.js";
import { badge, el } from "./ui.js";

/** Attempts that the time line draws: the latest ones. */
const TIMELINE = 400;

const timeline = {
  id: "timeline",
  title: "Trials over time",
  wide: true,
  applies: (state) => [...state.trials.values()].some((trial) => trial.attempts.length),
  choosers: () => [],
  draw(state, c) {
    const all = slots([...state.trials.values()]);
    const shown = all.slice(-TIMELINE);
    const rows = Math.max(...shown.map((one) => one.slot)) + 1;
    const bars = (name, color, from, to, wanted = () => true) => bar(name, color, shown.filter((one) => wanted(one) && one[to] > one[from]), from, to);
    const isLost = (one) => one.status === "FAILED" || one.status === "ABANDONED";
    const traces = [
      bars("queued", c.muted, "from", "start"),
      bars("running", c.point, "start", "end", (one) => !isLost(one)),
      bars("running, failed or abandoned", c.failed, "start", "end", isLost),
      bars("recording", c.best, "end", "recorded"),
      bar("marked", c.mark, shown.filter((one) => state.marked.has(one.index)), "from", "recorded"),
    ].filter((trace) => trace.x.length);
    const total = (from, to) => duration(all.reduce((sum, one) => sum + one[to] - one[from], 0));
    const left = shown.length < all.length ? ` The latest ${shown.length} are drawn.` : "";
    return {
      traces,
      axes: {
        height: Math.min(420, 130 + rows * 18),
        barmode: "overlay",
        xaxis: { type: "date" },
        yaxis: { title: { text: "slot" }, autorange: "reversed", dtick: Math.ceil(rows / 12), fixedrange: true, zeroline: false },
      },
      summary: `${plural(all.length, "attempt")} in at most ${plural(Math.max(...all.map((one) => one.slot)) + 1, "slot")}; all together queued for ${total("from", "start")}, running for ${total("start", "end")}, recorded after ${total("end", "recorded")}.${left}`,
    };
  },
};

/** Return horizontal bars from one time to another. */
function bar(name, color, shown, from, to) {
  const isMarked = name === "marked";
  return {
    type: "bar", orientation: "h", name, width: isMarked ? 0.95 : 0.7,
    base: shown.map((one) => new Date(one[from] * 1000)), x: shown.map((one) => Math.max(1, (one[to] - one[from]) * 1000)), y: shown.map((one) => one.slot),
    customdata: shown.map((one) => one.index), hoverinfo: "text",
    text: shown.map((one) => `<b>trial ${one.index}</b>, attempt ${one.number}, ${words(one.status)}<br>${name} for ${duration(one[to] - one[from])}`),
    textposition: "none", marker: isMarked ? { color: "rgba(0,0,0,0)", line: { color, width: 2 } } : { color },
  };
}

const distribution = {
  id: "distribution",
  title: "Distribution of the objective",
  wide: false,
  applies: (state) => hasValues(state).length > 4,
  choosers: (state, redraw) => [chooser("distribution", "Objective", goalLabels(state), redraw)],
  draw(state, c) {
    const goal = Math.max(0, goalLabels(state).indexOf(chosen.distribution));
    const values = hasValues(state).map((trial) => trial.values[goal]);
    const bins = histogram(values, Math.max(5, Math.min(40, Math.round(Math.sqrt(values.length)))));
    const sorted = [...values].sort((a, b) => a - b);
    const [low, high] = extent(values);
    return {
      traces: [{
        type: "bar", name: "trials", showlegend: false, x: bins.map(([a, b]) => (a + b) / 2), y: bins.map(([, , count]) => count), width: bins.map(([a, b]) => (b - a) * 0.96),
        text: bins.map(([a, b, count]) => `${plural(count, "trial")} from ${number(a)} to ${number(b)}`), textposition: "none", hoverinfo: "text", marker: { color: c.point },
      }],
      axes: { xaxis: { title: { text: plain(goalLabels(state)[goal]) } }, yaxis: { title: { text: "trials" }, rangemode: "tozero" } },
      summary: `${plural(values.length, "completed trial")} from ${number(low)} to ${number(high)}; half of them are below ${number(sorted[Math.floor(sorted.length / 2)])}.`,
    };
  },
};

/** Milliseconds for which a computation keeps the page from handling input. */
const PIECE = 30;
const course = hypervolumeCourse();

const hypervolume = {
  id: "hypervolume",
  title: "Hypervolume over trials",
  wide: false,
  applies: (state) => state.data.objective.length > 1 && hasValues(state).length > 1,
  choosers: () => [],
  async draw(state, c) {
    const out = new Set(state.data.infeasible);
    course.begin(hasValues(state).filter((trial) => !out.has(trial.index)), state.data.objective);
    while (!course.go(PIECE)) await nextTask();
    const points = course.points();
    const line = { type: "scatter", mode: "lines", name: "hypervolume", showlegend: false, x: points.map(([i]) => i), y: points.map(([, v]) => v), line: { shape: "hv", color: c.best, width: 2.5 } };
    const last = points.at(-1);
    const latest = points.length > 2 ? ` It grew last with trial ${points.at(-2)[0]}.` : "";
    return {
      traces: [line],
      axes: { xaxis: { title: { text: "trial" } }, yaxis: { title: { text: "hypervolume" }, rangemode: "tozero" } },
      summary: `The volume that the Pareto frontier dominates, ${last ? number(last[1]) : "–"}, above the worst values less a tenth of the range.${latest}`,
    };
  },
};

export const STORE_CHARTS = [hypervolume, distribution, timeline];

/** Draw the trials without a result, grouped by their reasons. */
export function drawFailures(place, state, select) {
  const groups = failureGroups([...state.trials.values()]);
  const text = JSON.stringify(groups);
  if (place.dataset.shown === text) return;
  place.dataset.shown = text;
  if (!groups.length) {
    place.replaceChildren();
    return;
  }
  const button = (index) => el("button", { type: "button", class: "link", "aria-label": `Trial ${index}: show details`, onclick: () => select(index) }, String(index));
  const more = (group) => (group.indexes.length > 12 ? ` and ${group.indexes.length - 12} more` : "");
  const line = (group) =>
    el("tr", {}, el("td", { class: "value" }, String(group.indexes.length)), el("td", {}, badge(group.status)), el("td", { class: "reason" }, group.example), el("td", {}, group.indexes.slice(0, 12).map(button), more(group)));
  const heads = ["Trials", "Status", "Reason", "Which"];
  const ended = completed(state).length;
  place.replaceChildren(
    el("header", { class: "top" }, el("h2", {}, "Failures by reason"), el("span", { class: "muted small" }, `${plural(ended, "trial")} completed`)),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Failures by reason" },
      el(
        "table",
        {},
        el("caption", { class: "unseen" }, "Trials without a result by reason"),
        el("thead", {}, el("tr", {}, heads.map((one) => el("th", { scope: "col", class: one === "Trials" ? "value" : "" }, one)))),
        el("tbody", {}, groups.map(line)),
      ),
    ),
  );
}
