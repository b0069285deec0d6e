// The charts of an experiment's trials: objective, Pareto frontier, parallel coordinates, slice, learning curves.

import { chooser, chosen, scaleAxis, scaleChooser } from "./choosers.js";
import { chooseMetric, hasAskedForCurves } from "./curve_data.js";
import { number, plain, words } from "./format.js";
import { LOST, byGain, completed, definitionChanges, goalLabels, hasValues, isBest } from "./records.js";
import { LINES, lineOptions, mix, scaleOf, spread, thinned } from "./scales.js";

/** Points that one chart draws at most: more are one solid block, and slow. */
const DRAWN = 3000;

function goalIndex(state, id) {
  return Math.max(0, goalLabels(state).indexOf(chosen[id]));
}

function hasCompleted(state) {
  return hasValues(state).length > 0;
}

function hover(trial, state) {
  const values = goalLabels(state).map((label, i) => `${plain(label)}: ${number(trial.values[i])}`);
  const parameters = Object.entries(trial.parameters).map(([name, value]) => `${plain(name)} = ${plain(number(value))}`);
  return [`<b>trial ${trial.index}</b>`, ...values, ...parameters].join("<br>");
}

function points(name, trials, state, goal, marker, x = (t) => t.index) {
  return {
    type: "scatter", mode: "markers", name, x: trials.map(x), y: trials.map((t) => t.values[goal]),
    text: trials.map((t) => hover(t, state)), customdata: trials.map((t) => t.index), hoverinfo: "text", marker,
  };
}

/** Return the trials that a chart of points draws, and a note on those that it leaves out. */
function drawnOf(trials, state) {
  const drawn = thinned(trials, DRAWN, (t) => state.marked.has(t.index) || isBest(state, t.index));
  return [drawn, drawn.length < trials.length ? ` ${drawn.length} of them are drawn.` : ""];
}

/** Return the points of the marked trials as rings around them. */
function marks(trials, state, goal, c, x) {
  const marked = trials.filter((t) => state.marked.has(t.index));
  return marked.length ? [points("marked", marked, state, goal, { color: c.mark, symbol: "circle-open", size: 13, line: { width: 2.5 } }, x)] : [];
}

/** The axis of trials without a result. It overlays the axis of values only if there are any: plotly.js fails else. */
const NO_VALUES = { range: [0, 1], visible: false, fixedrange: true };

function completedValues(state, goal) {
  return completed(state).map((t) => t.values[goal]).filter((value) => value !== null);
}

/** Return a line before each trial from which on the definition was another one. */
function changeLines(state, c) {
  const changes = definitionChanges(state);
  const at = ([first]) => ({ x: first - 0.5, xref: "x", yref: "paper" });
  return {
    shapes: changes.map((one) => ({ type: "line", ...at(one), x0: one[0] - 0.5, x1: one[0] - 0.5, y0: 0, y1: 1, line: { color: c.muted, width: 1.5, dash: "dash" } })),
    annotations: changes.map((one) => ({ ...at(one), y: 1, yanchor: "top", xanchor: "left", text: "definition changed", hovertext: plain(one[1]), showarrow: false, font: { size: 11, color: c.muted } })),
  };
}

const objective = {
  id: "objective",
  title: "Objective over trials",
  wide: true,
  applies: (state) => [...state.trials.values()].some((t) => t.status === "COMPLETED" || LOST.includes(t.status)),
  choosers: (state, redraw) => [
    chooser("objective", "Objective", goalLabels(state), redraw),
    scaleChooser("scale", completedValues(state, goalIndex(state, "objective")), redraw),
  ],
  draw(state, c) {
    const goal = goalIndex(state, "objective");
    const scale = scaleAxis("scale", completedValues(state, goal));
    const { label, minimize } = state.data.objective[goal];
    const all = completed(state).filter((t) => t.values[goal] !== null);
    const [done, note] = drawnOf(all, state);
    const out = new Set(state.data.infeasible);
    const feasible = done.filter((t) => !out.has(t.index));
    const traces = done.length ? [points("completed", feasible, state, goal, { color: c.point, size: 8 })] : [];
    const infeasible = done.filter((t) => out.has(t.index));
    if (infeasible.length) traces.push(points("violates a constraint", infeasible, state, goal, { color: c.muted, symbol: "circle-open", size: 8 }));
    const so_far = state.data.best_so_far.filter(([, value]) => value !== null);
    if (so_far.length) {
      traces.push({ type: "scatter", mode: "lines", name: "best so far", x: so_far.map(([i]) => i), y: so_far.map(([, v]) => v), line: { shape: "hv", color: c.best, width: 2.5 }, hoverinfo: "skip" });
    }
    const front = new Set(state.data.frontier);
    if (front.size) traces.push(points("Pareto frontier", done.filter((t) => front.has(t.index)), state, goal, { color: c.best, size: 11, symbol: "diamond" }));
    const [lost] = drawnOf([...state.trials.values()].filter((t) => LOST.includes(t.status)), state);
    traces.push(...marks(done, state, goal, c));
    if (lost.length) {
      const text = lost.map((t) => `<b>trial ${t.index}</b> ${words(t.status)}<br>${plain((t.reason ?? "").slice(0, 160))}`);
      traces.push({ type: "scatter", mode: "markers", name: "failed, abandoned or stopped", yaxis: done.length ? "y2" : "y", x: lost.map((t) => t.index), y: lost.map(() => 0.03), text, customdata: lost.map((t) => t.index), hoverinfo: "text", marker: { color: c.failed, symbol: "x", size: 8 } });
    }
    const best = state.data.best === null ? "" : ` Best so far ${number(so_far.at(-1)?.[1])} in trial ${state.data.best}.`;
    return {
      traces,
      axes: { ...changeLines(state, c), xaxis: { title: { text: "trial" }, dtick: state.trials.size < 10 ? 1 : null }, ...(done.length ? { yaxis: { title: { text: plain(label) }, ...scale.axis }, yaxis2: { overlaying: "y", ...NO_VALUES } } : { yaxis: NO_VALUES }) },
      summary: `${all.length} completed trials; ${minimize ? "lower" : "higher"} is better.${note}${best}${lost.length ? ` ${lost.length} without a result.` : ""}${scale.note}`,
    };
  },
};

const pareto = {
  id: "pareto",
  title: "Pareto frontier",
  wide: false,
  applies: (state) => hasCompleted(state) && state.data.objective.length > 1,
  choosers(state, redraw) {
    const labels = goalLabels(state);
    if (labels.length === 2) return [];
    chosen.paretoy ??= labels[1];
    return [chooser("paretox", "Across", labels, redraw), chooser("paretoy", "Up", labels, redraw)];
  },
  draw(state, c) {
    const labels = goalLabels(state);
    const [gx, gy] = labels.length === 2 ? [0, 1] : [goalIndex(state, "paretox"), goalIndex(state, "paretoy")];
    const all = completed(state);
    const [done, note] = drawnOf(all, state);
    const front = new Set(state.data.frontier);
    const x = (t) => t.values[gx];
    const best = done.filter((t) => front.has(t.index)).sort((a, b) => x(a) - x(b));
    const line = { ...points("Pareto frontier", best, state, gy, { color: c.best, size: 10, symbol: "diamond" }, x) };
    if (labels.length === 2) Object.assign(line, { mode: "lines+markers", line: { color: c.best, dash: "dot", width: 1.5 } });
    const way = (goal) => (state.data.objective[goal].minimize ? "lower" : "higher");
    return {
      traces: [points("other trials", done.filter((t) => !front.has(t.index)), state, gy, { color: c.point, size: 7, opacity: 0.6 }, x), line, ...marks(done, state, gy, c, x)],
      axes: { xaxis: { title: { text: `${plain(labels[gx])} (${way(gx)} is better)` } }, yaxis: { title: { text: `${plain(labels[gy])} (${way(gy)} is better)` } } },
      summary: `${front.size} of ${all.length} completed trials are on the frontier: no other is better in every objective.${note}`,
    };
  },
};

const BINS = 9;

const parallel = {
  id: "parallel",
  title: "Parallel coordinates",
  wide: true,
  applies: hasCompleted,
  choosers: (state, redraw) => [
    chooser("parallel", "Colour", goalLabels(state), redraw),
    chooser("lines", "Trials", lineOptions(hasValues(state).length), redraw),
  ],
  draw(state, c) {
    const goal = goalIndex(state, "parallel");
    const ranked = byGain(hasValues(state), goal, state.data.objective[goal].minimize);
    const done = chosen.lines in LINES ? ranked.slice(-LINES[chosen.lines]) : ranked;
    const spec = state.spec.parameters;
    const names = new Set(goalLabels(state));
    const axes = spec.map((p) => ({ label: names.has(p.name) ? `${p.name} (parameter)` : p.name, of: (t) => t.parameters[p.name], ...scaleOf(p, done.map((t) => t.parameters[p.name])) }));
    state.data.objective.forEach((one, i) => {
      if (done.length) axes.push({ label: one.label, of: (t) => t.values[i], ...scaleOf(null, done.map((t) => t.values[i])) });
    });
    // By rank: one value far away would leave one colour for all others.
    const lines = Array.from({ length: BINS }, () => []);
    done.forEach((trial, rank) => lines[Math.floor((rank / done.length) * BINS)].push(trial));
    const opacity = Math.max(0.12, Math.min(0.75, 75 / done.length));
    const traces = lines.flatMap((trials, i) => (trials.length ? [polylines(trials, axes, state, mix(c, i / (BINS - 1)), 1.2, opacity)] : []));
    const stars = done.filter((t) => isBest(state, t.index));
    const marked = ranked.filter((t) => state.marked.has(t.index));
    if (marked.length) traces.push({ ...polylines(marked, axes, state, c.mark, 2.5, 1), name: "marked", showlegend: true });
    const several = state.data.objective.length > 1;
    if (stars.length) traces.push({ ...polylines(stars, axes, state, c.best, stars.length > 5 ? 1.5 : 3, 1), name: several ? "Pareto frontier" : "best", showlegend: true });
    return {
      traces,
      axes: {
        height: 340,
        margin: { l: 40, r: 40, t: 40, b: 40 },
        xaxis: { tickvals: axes.map((_, i) => i), ticktext: axes.map((a) => plain(a.label)), range: [-0.15, axes.length - 0.85], zeroline: false, fixedrange: true, gridcolor: c.muted },
        yaxis: { visible: false, range: [-0.06, 1.06], fixedrange: true },
        annotations: axes.flatMap((a, i) => spread(a.ticks, 12).map(([y, text]) => ({ x: i, y, text: plain(text), showarrow: false, xanchor: "left", xshift: 4, font: { size: 10, color: c.text }, bgcolor: c.faint }))),
      },
      summary: `One line for each of ${done.length} completed trials; the stronger its colour, the better its rank by ${state.data.objective[goal].label}.`,
    };
  },
};

function polylines(trials, axes, state, color, width, opacity) {
  const [x, y, text, customdata] = [[], [], [], []];
  for (const trial of trials) {
    const label = hover(trial, state);
    axes.forEach((axis, i) => {
      const value = axis.of(trial);
      x.push(i);
      y.push(value === undefined ? null : axis.at(value));
      text.push(label);
      customdata.push(trial.index);
    });
    x.push(null);
    y.push(null);
    text.push("");
    customdata.push(null);
  }
  return { type: "scatter", mode: "lines", x, y, text, customdata, hoverinfo: "text", line: { color, width }, opacity, showlegend: false };
}

const slice = {
  id: "slice",
  title: "Parameter against objective",
  wide: false,
  applies: hasCompleted,
  choosers: (state, redraw) => [
    chooser("parameter", "Parameter", state.spec.parameters.map((p) => p.name), redraw),
    chooser("slicegoal", "Objective", goalLabels(state), redraw),
    scaleChooser("slicescale", completedValues(state, goalIndex(state, "slicegoal")), redraw),
  ],
  draw(state, c) {
    const goal = goalIndex(state, "slicegoal");
    const parameter = state.spec.parameters.find((p) => p.name === chosen.parameter);
    const all = completed(state).filter((t) => t.values[goal] !== null && t.parameters[parameter.name] !== undefined);
    const [done, note] = drawnOf(all, state);
    const isText = parameter.type === "choice" && parameter.parameter_type !== "float" && parameter.parameter_type !== "int";
    const x = (t) => (isText ? plain(t.parameters[parameter.name]) : t.parameters[parameter.name]);
    const newest = done.at(-1)?.index || 1;
    const scale = scaleAxis("slicescale", completedValues(state, goal));
    const marker = { size: 8, color: done.map((t) => t.index / newest), colorscale: [[0, c.low], [0.5, c.mid], [1, c.high]], cmin: 0, cmax: 1 };
    const traces = [{ ...points("trials", done, state, goal, marker, x), showlegend: false }];
    const best = done.filter((t) => isBest(state, t.index));
    traces.push(points("best", best, state, goal, { color: c.best, size: 12, symbol: "star" }, x), ...marks(done, state, goal, c, x));
    return {
      traces,
      axes: { xaxis: { title: { text: plain(parameter.name) }, type: isText ? "category" : parameter.scaling === "log" ? "log" : "linear" }, yaxis: { title: { text: plain(goalLabels(state)[goal]) }, ...scale.axis } },
      summary: `${all.length} completed trials; stronger colours are later trials.${note}${scale.note}`,
    };
  },
};

const curves = {
  id: "curves",
  title: "Learning curves",
  wide: false,
  applies: (state) => state.data.has_curves,
  choosers(state, redraw) {
    const choose = () => {
      chooseMetric(state, chosen.curve);
      redraw();
      window.dispatchEvent(new Event("refresh"));
    };
    chosen.curve = state.metric; // the server chooses the first one
    return state.metrics.length ? [chooser("curve", "Metric", state.metrics, choose)] : [];
  },
  draw(state, c) {
    const all = Object.entries(state.curves[state.metric] ?? {}).map(([index, steps]) => [Number(index), steps]);
    const groups = { trials: [], "stopped early": [], best: [], marked: [] };
    for (const one of all) groups[groupOf(state, one[0])].push(one);
    const styles = [["trials", c.point, 1], ["stopped early", c.muted, 1], ["best", c.best, 3], ["marked", c.mark, 2.5]];
    const traces = styles.flatMap(([name, color, width]) => (groups[name].length ? [curve(name, groups[name], color, width)] : []));
    const none = hasAskedForCurves(state) ? "None of the latest and the best trials has progressive results." : "The curves are being loaded.";
    const summary = all.length ? `${all.length} trials with progressive results, the latest and the best.` : none;
    return { traces, axes: { xaxis: { title: { text: "step" } }, yaxis: { title: { text: plain(state.metric ?? "") } } }, summary };
  },
};

function groupOf(state, index) {
  if (state.marked.has(index)) return "marked";
  if (isBest(state, index)) return "best";
  return state.trials.get(index)?.status === "EARLY_STOPPED" ? "stopped early" : "trials";
}

function curve(name, found, color, width) {
  const [x, y, text, customdata] = [[], [], [], []];
  for (const [index, steps] of found) {
    for (const [step, mean] of steps) {
      x.push(step);
      y.push(mean);
      text.push(`<b>trial ${index}</b><br>step ${number(step)}: ${number(mean)}`);
      customdata.push(index);
    }
    x.push(null);
    y.push(null);
    text.push("");
    customdata.push(null);
  }
  const one = found.every(([, steps]) => steps.length === 1);
  return { type: "scatter", mode: one ? "markers" : "lines", name, x, y, text, customdata, hoverinfo: "text", line: { color, width }, marker: { color } };
}

export const TRIAL_CHARTS = [objective, parallel, pareto, slice, curves];
