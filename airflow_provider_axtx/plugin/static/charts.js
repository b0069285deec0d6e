// The charts, drawn by plotly.js. What they show is in the table of trials as well.

import { LINES, chooser, chosen, lineOptions, scaleAxis, scaleChooser, spread } from "./choosers.js";
import { el, number } from "./ui.js";

let plotly = null;

/** Load plotly.js once, when a chart is first drawn: it is large. */
export function loadPlotly() {
  plotly ??= new Promise((resolve, reject) => {
    const script = el("script", { src: "static/plotly-basic.min.js" });
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => reject(new Error("plotly.js cannot be loaded from the API server.")));
    document.head.append(script);
  });
  return plotly;
}

function colors() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return {
    text: of("--text"), muted: of("--muted"), grid: of("--line"), point: of("--accent"), best: of("--best"),
    failed: of("--failed"), faint: of("--faint"), low: of("--scale-low"), high: of("--scale-high"), mid: of("--scale-mid"),
  };
}

function layout(c, more, choices) {
  const axis = { gridcolor: c.grid, zerolinecolor: c.grid, linecolor: c.grid, automargin: true, exponentformat: "e" };
  return {
    // A refresh keeps the reader's zoom; another choice starts with the whole range.
    uirevision: choices,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", height: 300,
    margin: { l: 56, r: 16, t: 30, b: 44 }, font: { color: c.text, size: 12, family: "inherit" },
    hovermode: "closest", showlegend: true, legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, font: { color: c.muted } },
    ...more, xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, ...more.yaxis },
  };
}

const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false };

/** Let the browser paint and handle input before the next chart. */
function nextTask() {
  return new Promise((done) => setTimeout(done));
}

let drawing = 0;

/** Draw all charts into `place`, one by one; the figures are made once and updated afterwards. */
export async function drawCharts(place, state, select) {
  const redraw = () => drawCharts(place, state, select);
  const charts = state.spec ? [objective, parallel, pareto, slice, curves] : [];
  const wanted = charts.filter((chart) => chart.applies(state));
  const key = wanted.map((chart) => chart.id).join();
  if (place.dataset.key !== key) {
    place.dataset.key = key;
    const narrow = wanted.filter((chart) => !chart.wide);
    const alone = narrow.length % 2 ? narrow.at(-1) : null;
    place.replaceChildren(...wanted.map((chart) => figure(chart, chart.wide || chart === alone)));
  }
  const turn = ++drawing;
  const Plotly = await loadPlotly();
  const c = colors();
  for (const chart of wanted) {
    await nextTask();
    if (turn !== drawing) return; // a newer call draws the charts
    const at = place.querySelector(`#chart-${chart.id}`);
    const focused = document.activeElement?.id;
    at.querySelector(".choosers").replaceChildren(...chart.choosers(state, redraw));
    if (focused?.startsWith("choose-")) document.getElementById(focused)?.focus({ preventScroll: true });
    const { traces, axes, summary } = chart.draw(state, c);
    at.querySelector("figcaption").textContent = summary;
    const plot = at.querySelector(".plot");
    plot.setAttribute("aria-label", `${chart.title}. ${summary}`);
    const choices = [...at.querySelectorAll(".choosers select")].map((field) => field.value).join();
    await Plotly.react(plot, traces, layout(c, axes, choices), CONFIG);
    if (!plot.dataset.clicks) {
      plot.dataset.clicks = "1";
      plot.on("plotly_click", (event) => {
        const index = event.points[0]?.customdata;
        if (index !== undefined && index !== null) select(index);
      });
    }
  }
  place.dataset.drawn = String(performance.now());
}

function figure(chart, wide) {
  return el(
    "figure",
    { id: `chart-${chart.id}`, class: wide ? "wide" : null },
    el("header", { class: "top" }, el("h2", {}, chart.title), el("span", { class: "choosers" })),
    el("div", { class: "plot", role: "img" }),
    el("figcaption", { class: "small muted" }),
  );
}

function goalLabels(state) {
  return state.data.objective.map((goal) => goal.label);
}

function goalIndex(state, id) {
  return Math.max(0, goalLabels(state).indexOf(chosen[id]));
}

function completed(state) {
  return [...state.trials.values()].filter((t) => t.status === "COMPLETED").sort((a, b) => a.index - b.index);
}

function hasCompleted(state) {
  return hasValues(state).length > 0;
}

function hover(trial, state) {
  const values = goalLabels(state).map((label, i) => `${plain(label)}: ${number(trial.values[i])}`);
  const parameters = Object.entries(trial.parameters).map(([name, value]) => `${plain(name)} = ${plain(number(value))}`);
  return [`<b>trial ${trial.index}</b>`, ...values, ...parameters].join("<br>");
}

/** Escape a text for plotly, which interprets a small markup in its texts. */
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function points(name, trials, state, goal, marker, x = (t) => t.index) {
  return {
    type: "scatter", mode: "markers", name, x: trials.map(x), y: trials.map((t) => t.values[goal]),
    text: trials.map((t) => hover(t, state)), customdata: trials.map((t) => t.index), hoverinfo: "text", marker,
  };
}

/** The axis of trials without a result. It overlays the axis of values only if there are any: plotly.js fails else. */
const NO_VALUES = { range: [0, 1], visible: false, fixedrange: true };

/** Statuses of trials that have ended without a final result. */
const LOST = ["FAILED", "ABANDONED", "EARLY_STOPPED"];

function completedValues(state, goal) {
  return completed(state).map((t) => t.values[goal]).filter((value) => value !== null);
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
    const done = completed(state).filter((t) => t.values[goal] !== null);
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
    const lost = [...state.trials.values()].filter((t) => LOST.includes(t.status));
    if (lost.length) {
      const text = lost.map((t) => `<b>trial ${t.index}</b> ${t.status.toLowerCase()}<br>${plain((t.reason ?? "").slice(0, 160))}`);
      traces.push({ type: "scatter", mode: "markers", name: "failed, abandoned or stopped", yaxis: done.length ? "y2" : "y", x: lost.map((t) => t.index), y: lost.map(() => 0.03), text, customdata: lost.map((t) => t.index), hoverinfo: "text", marker: { color: c.failed, symbol: "x", size: 8 } });
    }
    const best = state.data.best === null ? "" : ` Best so far ${number(so_far.at(-1)?.[1])} in trial ${state.data.best}.`;
    return {
      traces,
      axes: { xaxis: { title: { text: "trial" }, dtick: state.trials.size < 10 ? 1 : null }, ...(done.length ? { yaxis: { title: { text: plain(label) }, ...scale.axis }, yaxis2: { overlaying: "y", ...NO_VALUES } } : { yaxis: NO_VALUES }) },
      summary: `${done.length} completed trials; ${minimize ? "lower" : "higher"} is better.${best}${lost.length ? ` ${lost.length} without a result.` : ""}${scale.note}`,
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
    const done = completed(state);
    const front = new Set(state.data.frontier);
    const x = (t) => t.values[gx];
    const best = done.filter((t) => front.has(t.index)).sort((a, b) => x(a) - x(b));
    const line = { ...points("Pareto frontier", best, state, gy, { color: c.best, size: 10, symbol: "diamond" }, x) };
    if (labels.length === 2) Object.assign(line, { mode: "lines+markers", line: { color: c.best, dash: "dot", width: 1.5 } });
    const way = (goal) => (state.data.objective[goal].minimize ? "lower" : "higher");
    return {
      traces: [points("other trials", done.filter((t) => !front.has(t.index)), state, gy, { color: c.point, size: 7, opacity: 0.6 }, x), line],
      axes: { xaxis: { title: { text: `${plain(labels[gx])} (${way(gx)} is better)` } }, yaxis: { title: { text: `${plain(labels[gy])} (${way(gy)} is better)` } } },
      summary: `${front.size} of ${done.length} completed trials are on the frontier: no other is better in every objective.`,
    };
  },
};

function scaleOf(parameter, values) {
  const numeric = values.every((v) => typeof v === "number");
  if (parameter?.type === "choice" || !numeric) {
    const names = [...new Set((parameter?.values ?? values).map(String))];
    const at = (v) => (names.length < 2 ? 0.5 : names.indexOf(String(v)) / (names.length - 1));
    return { at, ticks: names.map((name) => [at(name), name]) };
  }
  const [low, high] = parameter?.bounds ?? [Math.min(...values), Math.max(...values)];
  const log = parameter?.scaling === "log";
  const of = (v) => (log ? Math.log(v) : v);
  const width = of(high) - of(low) || 1;
  return { at: (v) => (of(v) - of(low)) / width, ticks: [[0, number(low)], [1, number(high)]] };
}

const BINS = 9;

function hasValues(state) {
  return completed(state).filter((t) => t.values.every((v) => v !== null));
}

/** Return the trials in the order of an objective, the best last. */
function byGain(trials, goal, minimize) {
  return [...trials].sort((a, b) => (minimize ? b.values[goal] - a.values[goal] : a.values[goal] - b.values[goal]));
}

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
    const stars = done.filter((t) => t.index === state.data.best || state.data.frontier.includes(t.index));
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

function mix(c, share) {
  const parse = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const [from, to, t] = share < 0.5 ? [c.low, c.mid, share * 2] : [c.mid, c.high, share * 2 - 1];
  const [a, b] = [parse(from), parse(to)];
  return `rgb(${a.map((one, i) => Math.round(one + (b[i] - one) * t)).join()})`;
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
    const done = completed(state).filter((t) => t.values[goal] !== null && t.parameters[parameter.name] !== undefined);
    const isText = parameter.type === "choice" && parameter.parameter_type !== "float" && parameter.parameter_type !== "int";
    const x = (t) => (isText ? plain(t.parameters[parameter.name]) : t.parameters[parameter.name]);
    const newest = done.at(-1)?.index || 1;
    const scale = scaleAxis("slicescale", completedValues(state, goal));
    const marker = { size: 8, color: done.map((t) => t.index / newest), colorscale: [[0, c.low], [0.5, c.mid], [1, c.high]], cmin: 0, cmax: 1 };
    const traces = [{ ...points("trials", done, state, goal, marker, x), showlegend: false }];
    const best = done.filter((t) => t.index === state.data.best || state.data.frontier.includes(t.index));
    traces.push(points("best", best, state, goal, { color: c.best, size: 12, symbol: "star" }, x));
    return {
      traces,
      axes: { xaxis: { title: { text: plain(parameter.name) }, type: isText ? "category" : parameter.scaling === "log" ? "log" : "linear" }, yaxis: { title: { text: plain(goalLabels(state)[goal]) }, ...scale.axis } },
      summary: `${done.length} completed trials; stronger colours are later trials.${scale.note}`,
    };
  },
};

const curves = {
  id: "curves",
  title: "Learning curves",
  wide: false,
  applies: (state) => Object.keys(state.curves).length > 0,
  choosers: (state, redraw) => [chooser("curve", "Metric", Object.keys(state.curves), redraw)],
  draw(state, c) {
    const metric = chosen.curve in state.curves ? chosen.curve : Object.keys(state.curves)[0];
    const all = Object.entries(state.curves[metric]).map(([index, steps]) => [Number(index), steps]);
    const stopped = (index) => state.trials.get(index)?.status === "EARLY_STOPPED";
    const isBest = (index) => index === state.data.best || state.data.frontier.includes(index);
    const groups = [
      ["trials", all.filter(([i]) => !stopped(i) && !isBest(i)), c.point, 1],
      ["stopped early", all.filter(([i]) => stopped(i)), c.muted, 1],
      ["best", all.filter(([i]) => isBest(i)), c.best, 3],
    ];
    const traces = groups.flatMap(([name, found, color, width]) => (found.length ? [curve(name, found, color, width)] : []));
    return { traces, axes: { xaxis: { title: { text: "step" } }, yaxis: { title: { text: plain(metric) } } }, summary: `${all.length} trials have reported progress.` };
  },
};

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
