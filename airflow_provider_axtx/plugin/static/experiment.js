// One experiment: its best trial, the charts, the trials, the definition. Fetches what has changed.

import { drawAnalyses } from "./analyses.js";
import { drawCharts, loadPlotly } from "./charts.js";
import { keepCurves, noCurves, receiveCurves, refreshedMetric, wantedCurves } from "./curve_data.js";
import { drawDefinition } from "./definition.js";
import { drawExplanation } from "./explanation.js";
import { drawHead } from "./overview.js";
import { drawSteering } from "./steering.js";
import { STORE_CHARTS, drawFailures } from "./store_charts.js";
import { TRIAL_CHARTS } from "./trial_charts.js";
import { drawTrial } from "./trial_view.js";
import { trialTable } from "./trials.js";
import { el, load, pageUrl, setAddress } from "./ui.js";

const news = document.getElementById("news");
const CHARTS = [...TRIAL_CHARTS, ...STORE_CHARTS];
/** Trials of the first answer, and of each further one. */
const FIRST = 500;
const MORE = 1000;

/** Show the experiment in `main`; return the function that refreshes it. */
export function showExperiment(main, name, store, trial) {
  const state = {
    name, store, spec: null, mayEdit: false, data: null, trials: new Map(), cursor: null, older: 0,
    ...noCurves(), // fetched once a reader sees the chart or opens a trial
    marked: new Set(), selected: trial === null ? null : Number(trial),
  };
  const page = skeleton(name, store);
  loadPlotly(); // at the same time as the data
  const select = (index) => {
    state.selected = index;
    setAddress("trial", index);
    draw();
    if (index !== null) page.detail.querySelector("h2")?.focus();
    if (needsCurves(state)) window.dispatchEvent(new Event("refresh"));
  };
  const mark = (indexes, on) => {
    for (const index of indexes) state.marked[on ? "add" : "delete"](index);
    drawCharts(page.charts, state.spec ? CHARTS : [], state, select, mark);
    trialTable(page.table, state, select, mark);
  };
  const changed = (said) => {
    news.textContent = said;
    window.dispatchEvent(new Event("refresh"));
  };
  const draw = () => {
    drawHead(page.head, state);
    drawSteering(page.steering, state, changed);
    drawTrial(page.detail, state, select, changed);
    drawCharts(page.charts, state.spec ? CHARTS : [], state, select, mark).then(() => watchCurves(page.charts, state));
    drawExplanation(page.explanation, state, select);
    drawFailures(page.failures, state, select);
    trialTable(page.table, state, select, mark);
    drawDefinition(page.definition, state);
    drawAnalyses(page.analyses, state);
  };
  window.addEventListener("themechange", () => state.data && draw());
  return async () => {
    const isChanged = await fetchNext(state);
    if (!main.contains(page.head)) main.replaceChildren(...page.all);
    main.setAttribute("aria-busy", String(state.older > 0));
    if (isChanged) draw();
    if (state.older > 0 || !state.data.is_ranked) return 0;
    return isBusy(state.data) ? 2 : 10;
  };
}

/** Fetch the first trials, then older ones, then only what changes; return whether there is something to draw. */
async function fetchNext(state) {
  const { name, store: conn_id } = state;
  if (state.older > 0) {
    const { data } = await load("trials", { name, conn_id, before: state.older, limit: MORE });
    for (const one of data.trial_list) state.trials.set(one.index, one);
    state.older = Math.max(0, state.older - MORE);
    return state.older === 0;
  }
  if (needsCurves(state)) return fetchCurves(state);
  const isFirst = state.data === null;
  const curves = refreshedMetric(state);
  const { isNew, data } = await load("experiment", { name, conn_id, since: state.cursor, limit: isFirst ? FIRST : null, curves });
  if (!isNew && state.data.is_ranked) return false;
  if (!isFirst) announce(state, data);
  for (const one of data.trial_list) state.trials.set(one.index, one);
  if (data.curves) keepCurves(state, curves, data.curves);
  if (isFirst) state.older = Math.max(0, data.trials - FIRST);
  state.data = data;
  state.spec = data.spec ?? state.spec; // only the first answer contains it, and one after a change
  state.mayEdit = data.may_edit ?? state.mayEdit;
  state.cursor = data.cursor;
  return true;
}

function needsCurves(state) {
  return Boolean(state.data?.has_curves) && wantedCurves(state).length > 0;
}

async function fetchCurves(state) {
  const [{ metric, trial }] = wantedCurves(state);
  const { name, store: conn_id } = state;
  const { data } = await load("curves", { name, conn_id, metric, trial });
  receiveCurves(state, trial, data);
  return true;
}

/** Ask for curves once their chart comes into view. */
function watchCurves(place, state) {
  const chart = place.querySelector("#chart-curves");
  if (!chart || chart.dataset.watched) return;
  chart.dataset.watched = "1";
  new IntersectionObserver((seen) => {
    if (!seen.some((one) => one.isIntersecting) || state.curvesVisible) return;
    state.curvesVisible = true;
    window.dispatchEvent(new Event("refresh"));
  }).observe(chart);
}

const BUSY = ["running", "pausing", "draining", "stopping"];

/** Return whether a trial runs or the next round may begin at any moment. */
export function isBusy(data) {
  return BUSY.includes(data.status) || (data.status === "idle" && Date.now() / 1000 - data.last_activity_at < 300);
}

function skeleton(name, store) {
  const part = (id) => el("section", { id, "aria-label": id });
  const parts = { head: part("overview"), steering: part("steering"), detail: part("trial"), charts: part("charts"), failures: part("failures"), table: part("trials") };
  parts.explanation = part("explanation");
  parts.analyses = part("analyses");
  parts.definition = part("definition");
  const crumbs = el("nav", { class: "crumbs", "aria-label": "Breadcrumb" }, el("a", { href: pageUrl({ conn_id: store }) }, "Experiments"), ` / ${store ? `${store} / ` : ""}`);
  parts.all = [crumbs, el("h1", {}, name), parts.head, parts.steering, parts.detail, parts.charts, parts.explanation, parts.failures, parts.table, parts.analyses, parts.definition];
  return parts;
}

/** Announce changes to screen readers. */
function announce(state, data) {
  const ended = data.ended - state.data.ended;
  const better = data.best !== null && state.data.is_ranked && data.best !== state.data.best;
  const messages = [];
  if (ended > 0) messages.push(`${ended} more trial${ended > 1 ? "s have" : " has"} ended, ${data.ended} in all.`);
  if (better) messages.push(`New best: trial ${data.best}.`);
  if (data.status !== state.data.status) messages.push(`The experiment is ${data.status}.`);
  if (messages.length) news.textContent = messages.join(" ");
}
