// The head of an experiment's page: status, best trial, counts, DAG runs.

import { countsText, measured, number } from "./format.js";
import { boundOf, costOf } from "./records.js";
import { airflowLink, badge, el, pageUrl, runUrl, statusBar, time } from "./ui.js";

function tile(label, ...content) {
  return el("div", { class: "tile" }, el("dt", {}, label), el("dd", {}, ...content));
}

export function drawHead(place, state) {
  const { data } = state;
  const goals = data.objective.map((goal) => `${goal.minimize ? "minimize" : "maximize"} ${goal.label}`).join(", ");
  const ended = data.planned_trials ? `${data.ended} of ${data.planned_trials}` : String(data.ended);
  const runs = new Map();
  for (const one of state.trials.values()) {
    for (const { task } of one.attempts) if (task) runs.set(`${task[0]}/${task[1]}`, task);
  }
  const cost = costOf([...state.trials.values()]);
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
        cost === null ? "" : tile("Cost", el("strong", {}, cost.toFixed(2))),
        tile("Last activity", time(data.last_activity_at), el("div", { class: "small muted" }, "created ", time(data.created_at))),
        recent.length ? tile(runs.size > 3 ? `DAG runs (latest of ${runs.size})` : "DAG runs", el("div", { class: "small" }, ...links), compareLink(state, recent[0][0])) : "",
      ),
    ].filter(Boolean),
  );
}

function compareLink(state, dag) {
  return el("div", { class: "small" }, el("a", { id: "compare-dag", href: pageUrl({ compare_dag: dag, conn_id: state.store }) }, "Compare the DAG's latest experiments"));
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
