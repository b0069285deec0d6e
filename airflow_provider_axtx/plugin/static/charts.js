// Draws charts with plotly.js. What they show is in the table of trials as well.
//
// A chart is an object:
//   id, title      of its figure, whose element is #chart-<id>
//   wide           whether it takes the whole width
//   applies(state) whether there is something to show
//   choosers(state, redraw)  the reader's choices: elements made by choosers.js
//   draw(state, c) { traces, axes, summary }, or a promise of it: for plotly.js, in the colours c; the summary is its
//                  text for everybody
// A trace with `customdata` opens the trial of that index at a click. Texts that users or apps wrote go through
// `plain`: plotly.js interprets a small markup.

import { chooser, chosen } from "./choosers.js";
import { el } from "./ui.js";

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
    running: of("--running"), completed: of("--completed"), stopped: of("--early_stopped"), mark: of("--mark"),
    series: Array.from({ length: 8 }, (_, i) => of(`--series-${i}`)),
  };
}

/** What dragging the mouse in a chart does. */
const DRAGS = ["zooms", "marks trials"];

function layout(c, more, choices, turn) {
  const axis = { gridcolor: c.grid, zerolinecolor: c.grid, linecolor: c.grid, automargin: true, exponentformat: "e" };
  return {
    // A refresh keeps the reader's zoom; another choice starts with the whole range.
    uirevision: choices,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", height: 300,
    margin: { l: 56, r: 16, t: 30, b: 44 }, font: { color: c.text, size: 12, family: "inherit" },
    hovermode: "closest", showlegend: true, legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, font: { color: c.muted } },
    dragmode: chosen.drag === DRAGS[1] ? "select" : "zoom", selections: [], selectionrevision: turn,
    ...more, xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, ...more.yaxis },
  };
}

const CONFIG = { displaylogo: false, responsive: true, displayModeBar: false };

/** Let the browser paint and handle input before the next chart, or the next piece of a computation. */
export function nextTask() {
  return new Promise((done) => setTimeout(done));
}

/** By place: how often its charts were drawn. */
const turns = new WeakMap();

/**
 * Draw `charts` into `place`, one by one; the figures are made once and updated afterwards. `select` opens a trial;
 * `mark`, if given, is called with the indexes of the trials that a reader has drawn a box around.
 */
export async function drawCharts(place, charts, state, select, mark) {
  const redraw = () => drawCharts(place, charts, state, select, mark);
  const wanted = charts.filter((chart) => chart.applies(state));
  const key = wanted.map((chart) => chart.id).join();
  if (place.dataset.key !== key) {
    place.dataset.key = key;
    const narrow = wanted.filter((chart) => !chart.wide);
    const alone = narrow.length % 2 ? narrow.at(-1) : null;
    const figures = wanted.map((chart) => figure(chart, chart.wide || chart === alone));
    place.replaceChildren(...(mark && figures.length ? [el("div", { class: "choosers wide small" })] : []), ...figures);
  }
  if (mark && wanted.length) replaceChoosers(place.firstElementChild, [chooser("drag", "Dragging in a chart", DRAGS, redraw)]);
  const turn = (turns.get(place) ?? 0) + 1;
  turns.set(place, turn);
  if (!wanted.length) {
    place.dataset.drawn = String(performance.now());
    return;
  }
  const Plotly = await loadPlotly();
  const c = colors();
  for (const chart of wanted) {
    await nextTask();
    const isNewest = () => turn === turns.get(place);
    if (!isNewest()) return; // a newer call draws the charts
    await drawOne(Plotly, place.querySelector(`#chart-${chart.id}`), chart, state, { c, turn, isNewest, redraw, select, mark });
  }
  place.dataset.drawn = String(performance.now());
}

function replaceChoosers(at, made) {
  const focused = document.activeElement?.id;
  at.replaceChildren(...made);
  if (focused?.startsWith("choose-")) document.getElementById(focused)?.focus({ preventScroll: true });
}

async function drawOne(Plotly, at, chart, state, { c, turn, isNewest, redraw, select, mark }) {
  replaceChoosers(at.querySelector(".choosers"), chart.choosers(state, redraw));
  const { traces, axes, summary } = await chart.draw(state, c);
  if (!isNewest()) return; // it began during the computation
  at.querySelector("figcaption").textContent = summary;
  const plot = at.querySelector(".plot");
  plot.setAttribute("aria-label", `${chart.title}. ${summary}`);
  const choices = [...at.querySelectorAll(".choosers select")].map((field) => field.value).join();
  await Plotly.react(plot, traces, layout(c, axes, choices, turn), CONFIG);
  if (plot.dataset.clicks) return;
  plot.dataset.clicks = "1";
  plot.on("plotly_click", (event) => {
    const index = event.points[0]?.customdata;
    if (index !== undefined && index !== null) select(index);
  });
  plot.on("plotly_selected", (event) => {
    const found = (event?.points ?? []).map((point) => point.customdata).filter((index) => index !== undefined && index !== null);
    if (mark && found.length) mark([...new Set(found)], true);
  });
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
