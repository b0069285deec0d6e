// The table of trials, and the details of one trial.

import { copyButtons } from "./copying.js";
import { duration, measured, number } from "./format.js";
import { endOf, isBest, lastAttempt, seconds, startOf } from "./records.js";
import { trialActions } from "./steering.js";
import { airflowLink, badge, el, taskUrl, time } from "./ui.js";

const PAGE = 100;
/** The reader's choices; kept while the table is redrawn. */
const view = { sort: "index", down: true, status: "", page: 0 };

/** Return the names that the trials use as keys of `field`; for a definition that cannot be read. */
function namesIn(state, field) {
  return [...new Set([...state.trials.values()].flatMap((trial) => Object.keys(trial[field])))];
}

function columns(state) {
  const parameters = state.spec ? state.spec.parameters.map((one) => one.name) : namesIn(state, "parameters");
  const metrics = state.spec ? state.data.metrics : namesIn(state, "metrics");
  const label = (name, others, kind) => (others.includes(name) ? `${name} (${kind})` : name);
  return [
    { key: "index", label: "Trial", of: (t) => t.index },
    { key: "status", label: "Status", of: (t) => t.status },
    ...metrics.map((name) => ({ key: `m:${name}`, label: label(name, parameters, "metric"), of: (t) => t.metrics[name]?.[0], cell: (t) => measured(t.metrics[name]), numeric: true })),
    ...parameters.map((name) => ({ key: `p:${name}`, label: label(name, metrics, "parameter"), of: (t) => t.parameters[name], cell: (t) => number(t.parameters[name]), numeric: true })),
    { key: "attempts", label: "Attempts", of: (t) => t.attempts.length, numeric: true },
    { key: "duration", label: "Duration", of: seconds, cell: (t) => duration(seconds(t)), numeric: true },
    { key: "app", label: "App", of: (t) => lastAttempt(t)?.app_handle },
    { key: "task", label: "Airflow", of: (t) => lastAttempt(t)?.task?.join("/") },
  ];
}

function compare(column, down) {
  return (one, other) => {
    const [a, b] = [column.of(one), column.of(other)];
    const missing = (value) => value === null || value === undefined;
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return down ? -order : order;
  };
}

/** Draw the table into `place`. */
export function trialTable(place, state, select) {
  const all = columns(state);
  const again = (change) => {
    Object.assign(view, change);
    trialTable(place, state, select);
  };
  const focused = document.activeElement?.id;
  const column = all.find((one) => one.key === view.sort) ?? all[0];
  const kept = [...state.trials.values()].filter((t) => !view.status || t.status === view.status);
  kept.sort(compare(column, view.down));
  const pages = Math.max(1, Math.ceil(kept.length / PAGE));
  view.page = Math.min(view.page, pages - 1);
  const shown = kept.slice(view.page * PAGE, (view.page + 1) * PAGE);
  place.replaceChildren(
    heading(state, again),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of trials" },
      el(
        "table",
        { class: "trials" },
        el("caption", { class: "unseen" }, `Trials of ${state.name}; the column buttons sort`),
        el("thead", {}, el("tr", {}, all.map((one) => headCell(one, again)))),
        el("tbody", {}, shown.map((trial) => row(trial, all, state, select))),
      ),
    ),
    pager(pages, kept.length, again),
  );
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function heading(state, again) {
  const statuses = Object.keys(state.data.trial_counts);
  const options = ["", ...statuses].map((s) => el("option", { value: s, selected: s === view.status }, s ? s.toLowerCase() : "all"));
  const choose = (event) => again({ status: event.target.value, page: 0 });
  const chooser = el("select", { id: "status-filter", onchange: choose }, options);
  return el("header", { class: "top" }, el("h2", {}, "Trials"), el("label", {}, "Status ", chooser));
}

function headCell(column, again) {
  const sorted = view.sort === column.key;
  const click = () => again({ sort: column.key, down: sorted ? !view.down : Boolean(column.numeric), page: 0 });
  const mark = sorted ? (view.down ? " ▾" : " ▴") : "";
  const button = el("button", { type: "button", id: `sort-${column.key}`, onclick: click }, column.label, el("span", { "aria-hidden": "true" }, mark));
  const order = sorted ? (view.down ? "descending" : "ascending") : null;
  return el("th", { scope: "col", "aria-sort": order, class: column.numeric ? "value" : null }, button);
}

function row(trial, all, state, select) {
  const best = isBest(state, trial.index);
  const cells = all.map((column) => {
    if (column.key === "index") {
      const open = () => select(trial.index);
      const label = `Trial ${trial.index}${best ? ", best" : ""}: show details`;
      const button = el("button", { type: "button", class: "link", id: `trial-${trial.index}`, "aria-label": label, onclick: open }, String(trial.index));
      return el("th", { scope: "row" }, button, best ? el("span", { class: "star", "aria-hidden": "true" }, " ★") : null);
    }
    if (column.key === "status") return statusCell(trial, state);
    if (column.key === "app") return appCell(lastAttempt(trial));
    if (column.key === "task") return el("td", {}, ...taskLinks(lastAttempt(trial)));
    return el("td", { class: column.numeric ? "value" : null }, column.cell ? column.cell(trial) : String(column.of(trial)));
  });
  return el("tr", { "data-trial": trial.index, class: trial.index === state.selected ? "selected" : null }, cells);
}

function statusCell(trial, state) {
  const infeasible = state.data.infeasible.includes(trial.index) ? el("div", { class: "small muted" }, "violates a constraint") : null;
  const reason = trial.reason ? el("div", { class: "small muted clip", title: trial.reason }, trial.reason) : null;
  return el("td", {}, badge(trial.status), infeasible, reason);
}

function appCell(attempt) {
  if (!attempt) return el("td", { class: "muted" }, "–");
  const text = attempt.app_handle ?? "being submitted";
  return el("td", { class: "mono small clip", title: text }, text.replace(/^(\w+):\/\/[^/]*\//, "$1 "));
}

function taskLinks(attempt) {
  if (!attempt?.task) return ["–"];
  const [dag, run, task, ...rest] = attempt.task;
  if (!task.endsWith(".submit")) return [airflowLink(taskUrl(attempt.task), "Task log")];
  // In the groups of ax_trial_loop the app is awaited by the neighbouring task, whose log has the app's output.
  const wait = [dag, run, task.replace(/\.submit$/, ".wait"), rest[0], null];
  return [airflowLink(taskUrl(attempt.task), "Submit log"), " ", airflowLink(taskUrl(wait), "App output")];
}

function pager(pages, total, again) {
  if (pages < 2) return "";
  const button = (text, page) => el("button", { type: "button", id: `page-${text}`, disabled: page < 0 || page >= pages, onclick: () => again({ page }) }, text);
  const shown = `page ${view.page + 1} of ${pages}, ${total} trials`;
  return el("nav", { class: "pager", "aria-label": "Pages of trials" }, button("Previous", view.page - 1), shown, button("Next", view.page + 1));
}

/** Return the elements with the details of the selected trial; empty when no trial is selected. */
export function trialDetail(state, select, changed) {
  const trial = state.trials.get(state.selected);
  if (!trial) return [];
  const pairs = (entries, shown) => el("dl", { class: "pairs" }, entries.flatMap(([name, value]) => [el("dt", {}, name), el("dd", { class: "mono" }, shown(value))]));
  const origin = trial.node ? `${trial.origin} by ${trial.node}` : trial.origin;
  return [
    el(
      "div",
      { class: "card" },
      el(
        "header",
        { class: "top" },
        el("h2", { tabindex: "-1" }, `Trial ${trial.index} `, badge(trial.status)),
        el("button", { type: "button", onclick: () => select(null) }, "Close"),
      ),
      el("div", { class: "actions" }, trialActions(state, trial, changed)),
      trial.reason ? el("p", { class: "reason" }, trial.reason) : null,
      el("p", { class: "small muted" }, `arm ${trial.arm}, ${origin}, created `, time(trial.created_at)),
      el(
        "div",
        { class: "columns" },
        el("div", {}, el("h3", {}, "Parameters"), pairs(Object.entries(trial.parameters), number), copyButtons(trial)),
        el("div", {}, el("h3", {}, "Metrics"), Object.keys(trial.metrics).length ? pairs(Object.entries(trial.metrics), measured) : el("p", { class: "muted" }, "none yet")),
      ),
      el("h3", {}, "Attempts"),
      trial.attempts.length ? attemptTable(trial) : el("p", { class: "muted" }, "not submitted yet"),
    ),
  ];
}

function attemptTable(trial) {
  const heads = ["Attempt", "App handle", "App state", "Submitted", "Queued for", "Duration", "Message", "Airflow"];
  const line = (attempt) => {
    const took = endOf(attempt) ? endOf(attempt) - startOf(attempt) : null;
    const queued = attempt.started_at && attempt.submitted_at ? Math.max(0, attempt.started_at - attempt.submitted_at) : null;
    const cells = [attempt.app_handle ?? "–", attempt.app_state ?? "not ended", time(attempt.submitted_at), duration(queued), duration(took), attempt.message || attempt.cancel_reason || "–"];
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, String(attempt.number)),
      cells.map((cell, i) => el("td", { class: i === 0 ? "mono small" : null }, cell)),
      el("td", {}, ...taskLinks(attempt)),
    );
  };
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      {},
      el("caption", { class: "unseen" }, `Attempts of trial ${trial.index}`),
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, trial.attempts.map(line)),
    ),
  );
}
