// One experiment: its best trial, the charts, the trials, the definition.

import { drawCharts, loadPlotly } from "./charts.js";
import { countsText, measured, number } from "./format.js";
import { boundOf } from "./records.js";
import { drawSteering } from "./steering.js";
import { TRIAL_CHARTS } from "./trial_charts.js";
import { trialDetail, trialTable } from "./trials.js";
import { airflowLink, badge, el, load, pageUrl, runUrl, setAddress, statusBar, time } from "./ui.js";

const news = document.getElementById("news");

/** Show the experiment in `main`; return the function that refreshes it. */
export function showExperiment(main, name, store, trial) {
  const state = { name, store, spec: null, mayEdit: false, trials: new Map(), curves: {}, cursor: null, selected: trial === null ? null : Number(trial) };
  const page = skeleton(name, store);
  loadPlotly(); // at the same time as the data
  let last = "";
  let lastCurves = "";
  const select = (index) => {
    state.selected = index;
    setAddress("trial", index);
    draw();
    if (index !== null) page.detail.querySelector("h2")?.focus();
  };
  const changed = (said) => {
    news.textContent = said;
    window.dispatchEvent(new Event("refresh"));
  };
  const draw = () => {
    drawHead(page.head, state);
    drawSteering(page.steering, state, changed);
    drawDetail();
    drawCharts(page.charts, state.spec ? TRIAL_CHARTS : [], state, select);
    trialTable(page.table, state, select);
    drawDefinition(page.definition, state);
    drawAnalyses(page.analyses, state);
  };
  const drawDetail = () => {
    const focused = document.activeElement?.id;
    page.detail.replaceChildren(...trialDetail(state, select, changed));
    if (focused && page.detail.querySelector(`#${CSS.escape(focused)}`)) document.getElementById(focused).focus({ preventScroll: true });
  };
  window.addEventListener("themechange", () => state.data && drawCharts(page.charts, state.spec ? TRIAL_CHARTS : [], state, select));
  return async () => {
    const { text, data } = await load("experiment", { name, since: state.cursor, conn_id: store });
    let curves = "";
    if (data.has_curves) {
      const answer = await load("curves", { name, since: state.cursor, conn_id: store });
      curves = answer.text;
      for (const [metric, byTrial] of Object.entries(answer.data.curves)) {
        state.curves[metric] = { ...state.curves[metric], ...byTrial };
      }
    }
    if (!main.contains(page.head)) main.replaceChildren(...page.all);
    main.setAttribute("aria-busy", "false");
    if (text !== last || curves !== lastCurves) {
      announce(state, data);
      for (const one of data.trial_list) state.trials.set(one.index, one);
      state.data = data;
      state.spec = data.spec ?? state.spec; // only the first answer contains it
      state.mayEdit = data.may_edit ?? state.mayEdit;
      state.cursor = data.cursor;
      draw();
    }
    last = text;
    lastCurves = curves;
    return isBusy(data) ? 2 : 10;
  };
}

const BUSY = ["running", "pausing", "draining", "stopping"];

/** Return whether a trial runs or the next round may begin at any moment. */
export function isBusy(data) {
  return BUSY.includes(data.status) || (data.status === "idle" && Date.now() / 1000 - data.last_activity_at < 300);
}

function skeleton(name, store) {
  const part = (id) => el("section", { id, "aria-label": id });
  const parts = { head: part("overview"), steering: part("steering"), detail: part("trial"), charts: part("charts"), table: part("trials") };
  parts.analyses = part("analyses");
  parts.definition = part("definition");
  const crumbs = el("nav", { class: "crumbs", "aria-label": "Breadcrumb" }, el("a", { href: pageUrl({ conn_id: store }) }, "Experiments"), ` / ${store ? `${store} / ` : ""}`);
  parts.all = [crumbs, el("h1", {}, name), parts.head, parts.steering, parts.detail, parts.charts, parts.table, parts.analyses, parts.definition];
  return parts;
}

/** Announce changes to screen readers. */
function announce(state, data) {
  if (!state.data) return;
  const ended = data.ended - state.data.ended;
  const better = data.best !== null && data.best !== state.data.best;
  const messages = [];
  if (ended > 0) messages.push(`${ended} more trial${ended > 1 ? "s have" : " has"} ended, ${data.ended} in all.`);
  if (better) messages.push(`New best: trial ${data.best}.`);
  if (data.status !== state.data.status) messages.push(`The experiment is ${data.status}.`);
  if (messages.length) news.textContent = messages.join(" ");
}

function tile(label, ...content) {
  return el("div", { class: "tile" }, el("dt", {}, label), el("dd", {}, ...content));
}

function drawHead(place, state) {
  const { data } = state;
  const goals = data.objective.map((goal) => `${goal.minimize ? "minimize" : "maximize"} ${goal.label}`).join(", ");
  const ended = data.planned_trials ? `${data.ended} of ${data.planned_trials}` : String(data.ended);
  const runs = new Map();
  for (const one of state.trials.values()) {
    for (const { task } of one.attempts) if (task) runs.set(`${task[0]}/${task[1]}`, task);
  }
  const recent = [...runs.values()].slice(-3).reverse();
  const links = recent.flatMap((task) => [airflowLink(runUrl(task), `${task[0]} ${task[1]}`), el("br")]);
  place.replaceChildren(
    ...[
      data.problem ? el("p", { class: "warning" }, data.problem) : "",
      data.description ? el("p", { class: "muted" }, data.description) : "",
      el(
        "dl",
        { class: "tiles" },
        tile("Status", badge(data.status), data.stop_reason ? el("div", { class: "small" }, data.stop_reason) : ""),
        goals ? tile("Objective", goals) : "",
        ...bestTiles(state),
        tile("Trials ended", el("strong", {}, ended), statusBar(data.trial_counts, data.planned_trials), counts(data)),
        tile("Last activity", time(data.last_activity_at), el("div", { class: "small muted" }, "created ", time(data.created_at))),
        recent.length ? tile(runs.size > 3 ? `DAG runs (latest of ${runs.size})` : "DAG runs", el("div", { class: "small" }, ...links)) : "",
      ),
    ].filter(Boolean),
  );
}

function counts(data) {
  return el("div", { class: "small muted" }, countsText(data.trial_counts) || "none yet");
}

function bestTiles(state) {
  const { data } = state;
  if (!data.objective.length) return [];
  if (data.objective.length > 1) {
    const some = data.frontier.length ? `${data.frontier.length} trials` : "–";
    return [tile("Pareto frontier", el("strong", {}, some), el("div", { class: "small muted" }, data.frontier.slice(0, 12).join(", ")))];
  }
  const best = data.best === null ? null : state.trials.get(data.best);
  if (!best) return [tile("Best so far", "–")];
  const metric = best.metrics[data.objective[0].label];
  const shown = metric ? measured(metric) : number(best.values[0]);
  const parameters = Object.entries(best.parameters).map(([name, value]) => parameterLine(state, name, value));
  return [
    tile("Best so far", el("strong", { id: "best-value" }, shown), el("div", { class: "small muted" }, `trial ${best.index}`)),
    tile("Best parameterization", el("div", { class: "small mono" }, parameters.slice(0, SHOWN_PARAMETERS)), moreParameters(parameters.slice(SHOWN_PARAMETERS))),
  ];
}

/** So many parameters are shown without a click: the tile must not push the charts away. */
const SHOWN_PARAMETERS = 6;

function moreParameters(lines) {
  if (!lines.length) return "";
  return el("details", { class: "small mono" }, el("summary", {}, `${lines.length} more`), lines);
}

/** Return a parameter of the best trial; a value at a bound may mean that the search space is too small. */
function parameterLine(state, name, value) {
  const at = boundOf(state.spec?.parameters.find((one) => one.name === name), value);
  return el("div", {}, `${name} = ${number(value)}`, at ? el("span", { class: "muted" }, ` (at its ${at} bound)`) : null);
}

/** Show Ax's analysis cards; each is loaded when it is opened, into a frame that cannot access this page. */
async function drawAnalyses(place, state) {
  const { analysed_at: at } = state.data;
  const { name, store: conn_id } = state;
  if (place.dataset.at === String(at) || at === null) return;
  place.dataset.at = String(at);
  const { data } = await load("analyses", { name, conn_id });
  const cards = data.cards.map((card, position) => {
    const open = (event) => {
      if (!event.target.open || event.target.querySelector("iframe")) return;
      const src = `card${pageUrl({ name, position, conn_id })}`;
      event.target.append(el("iframe", { src, sandbox: "allow-scripts", title: card.title, class: card.kind }));
    };
    const where = card.section.length ? el("span", { class: "muted small" }, `${card.section.join(" / ")}: `) : null;
    const about = el("p", { class: "muted small" }, card.subtitle);
    return el("details", { class: "card", ontoggle: open }, el("summary", {}, where, card.title), about);
  });
  place.replaceChildren(el("header", { class: "top" }, el("h2", {}, "Analyses"), el("span", { class: "muted small" }, time(at))), ...cards);
}

function drawDefinition(place, state) {
  const { spec } = state;
  if (!spec || place.childElementCount) return;
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
  if (one.type === "range") return `${number(one.bounds[0])} … ${number(one.bounds[1])}${one.scaling === "log" ? " (log)" : ""}`;
  return one.type === "choice" ? one.values.map(String).join(", ") : one.expression_str;
}
