// What the model says about an experiment: importance, slices, contours, cross-validation. A task has computed it.

import { drawCharts } from "./charts.js";
import { chooser, chosen } from "./choosers.js";
import { isolines, quantiles, rank, valueAt } from "./contours.js";
import { number, plain, plural } from "./format.js";
import { completed, isBest } from "./records.js";
import { mix } from "./scales.js";
import { el, load, time } from "./ui.js";

/** Pixels of each side of a contour's picture. */
const PIXELS = 160;
const LEVELS = 10;
/** Of a normal distribution, the share of 95 % lies within so many standard errors. */
const NORMAL = 1.96;

function ofKind(state, name) {
  return state.explanation.filter((chart) => chart.name === name);
}

function metricsOf(state, name) {
  return [...new Set(ofKind(state, name).map((chart) => chart.metric))];
}

function charts(state, name) {
  return ofKind(state, name).filter((chart) => chart.metric === chosen[`${name}-metric`]);
}

function metricChooser(state, name, redraw) {
  return chooser(`${name}-metric`, "Metric", metricsOf(state, name), redraw);
}

function parameterOf(state, name) {
  return state.spec.parameters.find((one) => one.name === name);
}

function isText(values) {
  return values.some((value) => typeof value !== "number");
}

function axisOf(state, name, values) {
  const type = isText(values) ? "category" : parameterOf(state, name)?.scaling === "log" ? "log" : "linear";
  return { title: { text: plain(name) }, type };
}

function valueOf(state, trial, name) {
  return trial.parameters[name] ?? parameterOf(state, name)?.backfill_value;
}

function observed(state, metric) {
  return completed(state).filter((trial) => trial.metrics[metric]);
}

function hover(trial, metric) {
  return `<b>trial ${trial.index}</b><br>${plain(metric)}: ${number(trial.metrics[metric][0])}`;
}

/** Return the observed trials as points, the best ones as stars. */
function trialPoints(state, c, metric, x, y) {
  const group = (name, trials, marker) => ({
    type: "scatter", mode: "markers", name, x: trials.map(x), y: trials.map(y), customdata: trials.map((t) => t.index),
    text: trials.map((t) => hover(t, metric)), hoverinfo: "text", marker,
  });
  const all = observed(state, metric);
  const best = all.filter((t) => isBest(state, t.index));
  const others = all.filter((t) => !isBest(state, t.index));
  return [
    group("trials", others, { color: c.text, size: 7, symbol: "circle-open", line: { width: 1.5 } }),
    group("best", best, { color: c.best, size: 13, symbol: "star" }),
  ].filter((trace) => trace.x.length);
}

const importance = {
  id: "importance",
  title: "Importance of the parameters",
  wide: false,
  applies: (state) => ofKind(state, "importance").length > 0,
  choosers: (state, redraw) => [metricChooser(state, "importance", redraw)],
  draw(state, c) {
    const [{ metric, parameters, shares }] = charts(state, "importance");
    const rows = parameters.map((name, i) => [name, shares[i]]).slice(0, 25).reverse();
    const bars = (name, color, wanted) => {
      const some = rows.filter(([, share]) => wanted(share));
      return {
        type: "bar", orientation: "h", name, y: some.map(([one]) => plain(one)), x: some.map(([, share]) => Math.abs(share)),
        text: some.map(([, share]) => `${(100 * Math.abs(share)).toFixed(1)} %`), hoverinfo: "text", textposition: "auto", marker: { color },
      };
    };
    const first = parameters.length ? `${parameters[0]} explains ${(100 * Math.abs(shares[0])).toFixed(0)} % of how ${metric} varies by the model.` : "";
    return {
      traces: [bars("raises it", c.point, (share) => share >= 0), bars("lowers it", c.best, (share) => share < 0)].filter((trace) => trace.x.length),
      axes: {
        height: Math.max(300, 90 + 24 * rows.length), barmode: "stack",
        xaxis: { title: { text: `share of the variation of ${plain(metric)}` }, range: [0, 1], tickformat: ".0%" },
        yaxis: { type: "category", categoryorder: "array", categoryarray: rows.map(([name]) => plain(name)) },
      },
      summary: `${first} Ax's total Sobol indices; interactions count for each parameter that takes part.`,
    };
  },
};

const slices = {
  id: "prediction",
  title: "Prediction over one parameter",
  wide: false,
  applies: (state) => ofKind(state, "slice").length > 0,
  choosers: (state, redraw) => [
    chooser("slice-parameter", "Parameter", [...new Set(ofKind(state, "slice").map((chart) => chart.parameter))], redraw),
    metricChooser(state, "slice", redraw),
  ],
  draw(state, c) {
    const { metric, parameter, values, mean, sem, fixed_at: at } = charts(state, "slice").find((one) => one.parameter === chosen["slice-parameter"]);
    const x = isText(values) ? values.map((value) => plain(value)) : values;
    const low = mean.map((value, i) => value - NORMAL * sem[i]);
    const high = mean.map((value, i) => value + NORMAL * sem[i]);
    const prediction = isText(values)
      ? [{ type: "scatter", mode: "markers", name: "prediction, 95 %", x, y: mean, error_y: { type: "data", array: sem.map((one) => NORMAL * one), color: c.point }, marker: { color: c.point, size: 9 }, hoverinfo: "x+y" }]
      : [
          { type: "scatter", mode: "lines", x, y: low, line: { width: 0 }, showlegend: false, hoverinfo: "skip" },
          { type: "scatter", mode: "lines", name: "95 %", x, y: high, line: { width: 0 }, fill: "tonexty", fillcolor: `${c.point}33`, hoverinfo: "skip" },
          { type: "scatter", mode: "lines", name: "prediction", x, y: mean, line: { color: c.point, width: 2.5 }, hoverinfo: "x+y" },
        ];
    const place = (trial) => (isText(values) ? plain(valueOf(state, trial, parameter)) : valueOf(state, trial, parameter));
    return {
      traces: [...prediction, ...trialPoints(state, c, metric, place, (trial) => trial.metrics[metric][0])],
      axes: { xaxis: axisOf(state, parameter, values), yaxis: { title: { text: plain(metric) } } },
      summary: `The model's prediction of ${metric}; the other parameters are at ${at}. Observed trials lie beside it where their other parameters differ.`,
    };
  },
};

const MEAN = "prediction";
const UNCERTAINTY = "uncertainty";

function pairOf(chart) {
  return `${chart.x} × ${chart.y}`;
}

/** Return the position of a value on an axis as the picture needs it. */
function onAxis(state, name) {
  return parameterOf(state, name)?.scaling === "log" ? Math.log10 : (value) => value;
}

/** Paint a grid as a picture: the higher a value ranks, the stronger its colour. */
function picture(xs, ys, grid, c) {
  const canvas = document.createElement("canvas");
  canvas.width = PIXELS;
  canvas.height = PIXELS;
  const context = canvas.getContext("2d");
  const sorted = grid.flat().sort((a, b) => a - b);
  const at = (positions, share) => positions[0] + share * (positions.at(-1) - positions[0]);
  for (let row = 0; row < PIXELS; row += 1) {
    for (let column = 0; column < PIXELS; column += 1) {
      const value = valueAt(xs, ys, grid, at(xs, (column + 0.5) / PIXELS), at(ys, 1 - (row + 0.5) / PIXELS));
      context.fillStyle = mix(c, rank(sorted, value));
      context.fillRect(column, row, 1, 1);
    }
  }
  return canvas.toDataURL();
}

function levelLines(xs, ys, grid, c, back) {
  const [x, y, text] = [[], [], []];
  for (const level of quantiles(grid.flat(), LEVELS)) {
    for (const ends of isolines(xs, ys, grid, level)) {
      for (const [a, b] of ends) {
        x.push(back.x(a));
        y.push(back.y(b));
        text.push(number(level));
      }
      x.push(null);
      y.push(null);
      text.push("");
    }
  }
  return { type: "scatter", mode: "lines", x, y, text, hoverinfo: "text", line: { color: c.text, width: 1 }, opacity: 0.55, showlegend: false };
}

const contour = {
  id: "contour",
  title: "Prediction over two parameters",
  wide: false,
  applies: (state) => ofKind(state, "contour").length > 0,
  choosers: (state, redraw) => [
    chooser("contour-pair", "Parameters", [...new Set(ofKind(state, "contour").map(pairOf))], redraw),
    metricChooser(state, "contour", redraw),
    chooser("contour-shown", "Show", [MEAN, UNCERTAINTY], redraw),
  ],
  draw(state, c) {
    const chart = charts(state, "contour").find((one) => pairOf(one) === chosen["contour-pair"]);
    const grid = chosen["contour-shown"] === UNCERTAINTY ? chart.sem : chart.mean;
    const [toX, toY] = [onAxis(state, chart.x), onAxis(state, chart.y)];
    const [xs, ys] = [chart.xs.map(toX), chart.ys.map(toY)];
    const back = { x: toX === Math.log10 ? (value) => 10 ** value : toX, y: toY === Math.log10 ? (value) => 10 ** value : toY };
    const image = { source: picture(xs, ys, grid, c), xref: "x", yref: "y", x: xs[0], y: ys.at(-1), sizex: xs.at(-1) - xs[0], sizey: ys.at(-1) - ys[0], sizing: "stretch", layer: "below" };
    const all = grid.flat();
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const what = chosen["contour-shown"] === UNCERTAINTY ? `The standard error of the prediction of ${chart.metric}` : `The model's prediction of ${chart.metric}`;
    return {
      traces: [levelLines(xs, ys, grid, c, back), ...trialPoints(state, c, chart.metric, (t) => valueOf(state, t, chart.x), (t) => valueOf(state, t, chart.y))],
      axes: {
        height: 380, images: [image],
        xaxis: { ...axisOf(state, chart.x, chart.xs), range: [xs[0], xs.at(-1)], showgrid: false, zeroline: false },
        yaxis: { ...axisOf(state, chart.y, chart.ys), range: [ys[0], ys.at(-1)], showgrid: false, zeroline: false },
      },
      summary: `${what}, from ${number(low)} to ${number(high)}: stronger colours are higher, a tenth of the area lies between two lines. The other parameters are at ${chart.fixed_at}.`,
    };
  },
};

const crossValidation = {
  id: "cross-validation",
  title: "Can the model be trusted?",
  wide: false,
  applies: (state) => ofKind(state, "cross_validation").length > 0,
  choosers: (state, redraw) => [metricChooser(state, "cross_validation", redraw)],
  draw(state, c) {
    const [{ metric, trials, observed: real, predicted, predicted_reach: reach, r2, folds }] = charts(state, "cross_validation");
    const ends = [Math.min(...real, ...predicted), Math.max(...real, ...predicted)];
    const points = {
      type: "scatter", mode: "markers", name: "trials", showlegend: false, x: real, y: predicted, customdata: trials,
      text: trials.map((index, i) => `<b>trial ${index ?? "–"}</b><br>observed ${number(real[i])}, predicted ${number(predicted[i])}`), hoverinfo: "text",
      marker: { color: c.point, size: 8 }, error_y: { type: "data", array: reach, color: `${c.point}66`, thickness: 1 },
    };
    const how = folds < 0 ? "each trial by a model of the others" : "each tenth of the trials by a model of the others";
    const judged = r2 >= 0.7 ? "The model can be trusted." : r2 >= 0.3 ? "The model says something, but not much." : "The model cannot be trusted yet.";
    return {
      traces: [{ type: "scatter", mode: "lines", name: "exact", showlegend: false, x: ends, y: ends, line: { color: c.muted, dash: "dot" }, hoverinfo: "skip" }, points],
      axes: { xaxis: { title: { text: `observed ${plain(metric)}` } }, yaxis: { title: { text: "predicted" } } },
      summary: `${judged} It predicts ${how}; R² is ${number(Number(r2.toFixed(2)))}, where 1 is exact and 0 is no better than the mean. Bars are 95 % intervals.`,
    };
  },
};

export const EXPLANATION_CHARTS = [importance, slices, contour, crossValidation];

/** Return the best trials by the observations and by the model, in words. */
function bestText(state) {
  const [best] = ofKind(state, "best");
  if (!best) return "";
  const named = (found) => found.slice(0, 5).map((one) => `trial ${one.trial_index} (${Object.entries(one.metrics).map(([name, value]) => `${name} ${number(value.mean)}`).join(", ")})`).join(", ");
  return `Best by observation: ${named(best.observed)}. Best by the model's prediction: ${named(best.predicted)}.`;
}

/** Load the explanation when there is a newer one, and draw it into `place`. */
export async function drawExplanation(place, state, select) {
  const { explained_at: at } = state.data;
  if (at === null || at === undefined) return;
  if (place.dataset.at !== String(at)) {
    place.dataset.at = String(at);
    const { data } = await load("explanation", { name: state.name, conn_id: state.store });
    state.explanation = data.charts;
    const { completed: count, problems } = data.charts[0];
    place.replaceChildren(
      el("header", { class: "top" }, el("h2", {}, "What the model says"), el("span", { class: "muted small" }, `from ${plural(count, "completed trial")}, `, time(at))),
      el("p", { class: "small" }, bestText(state)),
      ...problems.map((text) => el("p", { class: "small muted" }, text)),
      el("div", { class: "charts" }),
    );
  }
  if (state.explanation) await drawCharts(place.querySelector(".charts"), EXPLANATION_CHARTS, state, select);
}
