// One trial: its parameters beside the best ones, its curve, attempts, resource hours and the output of its app.

import { drawCharts } from "./charts.js";
import { copyButtons } from "./copying.js";
import { duration, measured, number, plain } from "./format.js";
import { logSection } from "./log_view.js";
import { taskWithOutput } from "./log_text.js";
import { boundOf, endOf, isQueued, queueSeconds, resourceHours, seconds, startOf } from "./records.js";
import { scaleOf } from "./scales.js";
import { trialActions } from "./steering.js";
import { airflowLink, badge, el, runUrl, taskUrl, time } from "./ui.js";

/** Draw the selected trial into `place`; nothing when no trial is selected. Its log stays while the trial does. */
export function drawTrial(place, state, select, changed) {
  const trial = state.trials.get(state.selected);
  if (!trial) {
    place.replaceChildren();
    delete place.dataset.trial;
    return;
  }
  const key = `${trial.index}/${trial.attempts.length}`; // a new attempt has another log
  if (place.dataset.trial !== key) {
    place.dataset.trial = key;
    const parts = ["head", "facts", "curve", "attempts"].map((name) => el("div", { "data-part": name }));
    place.replaceChildren(el("div", { class: "card" }, parts, logSection(trial, state)));
  }
  const part = (name) => place.querySelector(`[data-part=${name}]`);
  const text = JSON.stringify([trial, state.data.best, state.mayEdit, state.data.changes.filter((one) => one.is_open)]);
  if (part("head").dataset.shown !== text) {
    part("head").dataset.shown = text;
    const focused = document.activeElement?.id;
    part("head").replaceChildren(...head(state, trial, select, changed));
    part("facts").replaceChildren(parameterTable(state, trial), metricTable(state, trial));
    part("facts").className = "columns";
    part("attempts").replaceChildren(el("h3", {}, "Attempts"), trial.attempts.length ? attemptTable(trial) : el("p", { class: "muted" }, "not submitted yet"));
    if (focused && place.querySelector(`#${CSS.escape(focused)}`)) document.getElementById(focused).focus({ preventScroll: true });
  }
  drawCharts(part("curve"), [trialCurve], state, select);
}

function head(state, trial, select, changed) {
  const origin = trial.node ? `${trial.origin} by ${trial.node}` : trial.origin;
  const hours = resourceHours(trial);
  const used = [hours.cpu ? `${number(hours.cpu)} core-hours` : "", hours.gpu ? `${number(hours.gpu)} GPU-hours` : "", hours.cost === null ? "" : `cost ${hours.cost.toFixed(2)}`].filter(Boolean);
  const took = seconds(trial);
  const queued = isQueued(trial) ? ["The app is queued, submitted ", time(trial.attempts.at(-1).submitted_at), ". "] : [];
  return [
    el(
      "header",
      { class: "top" },
      el("h2", { tabindex: "-1" }, `Trial ${trial.index} `, badge(trial.status)),
      el("button", { type: "button", id: "close-trial", onclick: () => select(null) }, "Close"),
    ),
    el("div", { class: "actions" }, trialActions(state, trial, changed)),
    trial.reason ? el("p", { class: "reason" }, trial.reason) : null,
    el("p", { class: "small muted" }, ...queued, `arm ${trial.arm}, ${origin}, created `, time(trial.created_at), took === null ? "" : `, ran ${duration(took)}`, used.length ? `, used ${used.join(", ")}` : ""),
  ].filter(Boolean);
}

function parameterTable(state, trial) {
  const best = state.data.best === null || state.data.best === trial.index ? null : state.trials.get(state.data.best);
  const heads = ["Parameter", "This trial", best ? `Best (trial ${best.index})` : null, "In its range"].filter(Boolean);
  const line = ([name, value]) => {
    const parameter = state.spec?.parameters.find((one) => one.name === name);
    const other = best?.parameters[name];
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, name),
      el("td", { class: "mono" }, number(value)),
      best ? el("td", { class: "mono" }, other === value ? "the same" : number(other)) : null,
      el("td", {}, position(parameter, value, other)),
    );
  };
  const table = el(
    "table",
    {},
    el("caption", { class: "unseen" }, `Parameters of trial ${trial.index}${best ? " beside those of the best trial" : ""}`),
    el("thead", {}, el("tr", {}, heads.map((one) => el("th", { scope: "col" }, one)))),
    el("tbody", {}, Object.entries(trial.parameters).map(line)),
  );
  return el("div", {}, el("h3", {}, "Parameters"), el("div", { class: "scroll" }, table), copyButtons(trial));
}

/** Return where a value lies between the bounds of its parameter, with a second mark for the best trial's. */
function position(parameter, value, best) {
  if (parameter?.type !== "range") return "";
  const { at } = scaleOf(parameter, []);
  const share = (one) => Math.min(1, Math.max(0, at(one)));
  const bound = boundOf(parameter, value);
  const text = `at ${Math.round(share(value) * 100)} % of its range${bound ? `, its ${bound} bound` : ""}${best === undefined ? "" : `; the best at ${Math.round(share(best) * 100)} %`}`;
  const mark = (one, kind) => {
    const made = el("span", { class: kind });
    made.style.left = `${share(one) * 100}%`;
    return made;
  };
  return el("span", { class: "position", role: "img", "aria-label": text, title: text }, best === undefined ? null : mark(best, "best"), mark(value, "here"));
}

function metricTable(state, trial) {
  const best = state.data.best === null || state.data.best === trial.index ? null : state.trials.get(state.data.best);
  const entries = Object.entries(trial.metrics);
  if (!entries.length) return el("div", {}, el("h3", {}, "Metrics"), el("p", { class: "muted" }, "none yet"));
  const line = ([name, pair]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "mono" }, measured(pair)), best ? el("td", { class: "mono" }, measured(best.metrics[name])) : null);
  const heads = ["Metric", "This trial", best ? `Best (trial ${best.index})` : null].filter(Boolean);
  return el(
    "div",
    {},
    el("h3", {}, "Metrics"),
    el(
      "table",
      {},
      el("caption", { class: "unseen" }, `Metrics of trial ${trial.index}`),
      el("thead", {}, el("tr", {}, heads.map((one) => el("th", { scope: "col" }, one)))),
      el("tbody", {}, entries.map(line)),
    ),
  );
}

/** The learning curves of the selected trial, beside those of the best. */
const trialCurve = {
  id: "trial-curve",
  title: "Learning curve",
  wide: true,
  applies: (state) => Boolean(state.curves[state.metric]?.[state.selected]),
  choosers: () => [],
  draw(state, c) {
    const of = state.curves[state.metric];
    const trace = (index, name, color, width) => ({
      type: "scatter", mode: of[index].length === 1 ? "markers" : "lines", name, x: of[index].map(([step]) => step), y: of[index].map(([, mean]) => mean), line: { color, width }, marker: { color },
    });
    const { best } = state.data;
    const traces = best !== null && best !== state.selected && of[best] ? [trace(best, `best (trial ${best})`, c.best, 1.5)] : [];
    traces.push(trace(state.selected, `trial ${state.selected}`, c.point, 2.5));
    const [step, mean] = of[state.selected].at(-1);
    return { traces, axes: { height: 220, xaxis: { title: { text: "step" } }, yaxis: { title: { text: plain(state.metric) } } }, summary: `${state.metric} is ${number(mean)} at step ${number(step)}.` };
  },
};

/** Return links to the logs of an attempt's tasks. */
export function taskLinks(attempt) {
  if (!attempt?.task) return ["–"];
  const output = taskWithOutput(attempt.task);
  if (output[2] === attempt.task[2]) return [airflowLink(taskUrl(attempt.task), "Task log")];
  return [airflowLink(taskUrl(attempt.task), "Submit log"), " ", airflowLink(taskUrl(output), "App output")];
}

function attemptTable(trial) {
  const heads = ["Attempt", "App handle", "App state", "Submitted", "Queued for", "Duration", "Message", "Airflow"];
  const line = (attempt) => {
    const took = endOf(attempt) ? endOf(attempt) - startOf(attempt) : null;
    const cells = [attempt.app_handle ?? "–", attempt.app_state ?? "not ended", time(attempt.submitted_at), duration(queueSeconds(attempt)), duration(took), attempt.message || attempt.cancel_reason || "–"];
    const links = attempt.task ? [airflowLink(runUrl(attempt.task), "DAG run"), " ", ...taskLinks(attempt)] : ["–"];
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, String(attempt.number)),
      cells.map((cell, i) => el("td", { class: i === 0 ? "mono small" : null }, cell)),
      el("td", {}, ...links),
    );
  };
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Attempts" },
    el(
      "table",
      {},
      el("caption", { class: "unseen" }, `Attempts of trial ${trial.index}`),
      el("thead", {}, el("tr", {}, heads.map((one) => el("th", { scope: "col" }, one)))),
      el("tbody", {}, trial.attempts.map(line)),
    ),
  );
}
