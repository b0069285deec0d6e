// The table of trials without its elements: columns, order, filters, CSV.

import { duration, measured, number, words } from "./format.js";
import { isQueued, lastAttempt, queueSeconds, resourceHours, seconds } from "./records.js";

/** Return the names that the trials use as keys of `field`; for a definition that cannot be read. */
function namesIn(state, field) {
  return [...new Set([...state.trials.values()].flatMap((trial) => Object.keys(trial[field])))];
}

/** Return a name that tells a parameter from a metric of the same name. */
export function labelOf(name, others, kind) {
  return others.includes(name) ? `${name} (${kind})` : name;
}

/** Return the names of an experiment's parameters and metrics. */
export function namesOf(state) {
  return {
    parameters: state.spec ? state.spec.parameters.map((one) => one.name) : namesIn(state, "parameters"),
    metrics: state.spec ? state.data.metrics : namesIn(state, "metrics"),
  };
}

/**
 * Return the columns: `of` gives the value that sorts, filters and goes into a CSV file, `cell` its text if that is
 * another one; `extra` columns are shown only when a reader chooses them.
 */
export function columns(state) {
  const { parameters, metrics } = namesOf(state);
  const amount = (key, label, of, more) => ({ key, label, of, numeric: true, ...more });
  const metric = (name) => amount(`m:${name}`, labelOf(name, parameters, "metric"), (t) => t.metrics[name]?.[0], { cell: (t) => measured(t.metrics[name]) });
  const spread = (name) => amount(`sem:${name}`, `${name} SEM`, (t) => t.metrics[name]?.[1], { extra: true });
  const parameter = (name) => amount(`p:${name}`, labelOf(name, metrics, "parameter"), (t) => t.parameters[name]);
  const hours = (kind, label) => amount(`hours:${kind}`, label, (t) => resourceHours(t)[kind], { extra: true });
  const timed = (key, label, of, more) => amount(key, label, of, { cell: (t) => duration(of(t)), ...more });
  return [
    amount("index", "Trial", (t) => t.index),
    { key: "status", label: "Status", of: (t) => (isQueued(t) ? "running (queued)" : words(t.status)) },
    ...metrics.map(metric),
    ...metrics.map(spread),
    ...parameters.map(parameter),
    amount("attempts", "Attempts", (t) => t.attempts.length),
    timed("duration", "Duration", (t) => seconds(t)),
    timed("queue", "Queued for", (t) => (lastAttempt(t) ? queueSeconds(lastAttempt(t)) : null), { extra: true }),
    hours("cpu", "Core-hours"),
    hours("gpu", "GPU-hours"),
    amount("cost", "Cost", (t) => resourceHours(t).cost, { extra: true }),
    { key: "origin", label: "Origin", of: (t) => t.node ?? t.origin, extra: true },
    { key: "reason", label: "Reason", of: (t) => t.reason, extra: true },
    { key: "app", label: "App", of: (t) => lastAttempt(t)?.app_handle },
    { key: "task", label: "Airflow", of: (t) => lastAttempt(t)?.task?.slice(0, 3).join("/") },
  ];
}

/** Return the text of a cell. */
export function cellText(column, trial) {
  return column.cell ? column.cell(trial) : number(column.of(trial));
}

function isMissing(value) {
  return value === null || value === undefined;
}

/** Return the comparison of two trials by a column; those without a value come last in either direction. */
export function comparison(column, down) {
  return (one, other) => {
    const [a, b] = [column.of(one), column.of(other)];
    if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b);
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return (down ? -order : order) || one.index - other.index;
  };
}

const COMPARISONS = {
  ">=": (a, b) => a >= b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  "<": (a, b) => a < b,
  "=": (a, b) => a === b,
};

/** How a filter is written; shown to readers. */
export const FILTER_HELP = "Numbers: 0.5, >0.5, <=3, 1e-3..0.1. Texts: a part of the text; !part leaves it out.";

/**
 * Return the test of a value that a filter's text describes; null when a number is expected and there is none.
 * A range includes both ends, and one of them may be left out.
 */
export function filterOf(text) {
  const wanted = text.trim().toLowerCase();
  if (wanted === "") return () => true;
  const asNumber = (one) => (one.trim() === "" || Number.isNaN(Number(one)) ? null : Number(one));
  const range = wanted.split("..");
  if (range.length === 2) {
    const [low, high] = [range[0] === "" ? -Infinity : asNumber(range[0]), range[1] === "" ? Infinity : asNumber(range[1])];
    return low === null || high === null ? null : (value) => typeof value === "number" && value >= low && value <= high;
  }
  const [, operator, rest] = wanted.match(/^(>=|<=|>|<|=)?(.*)$/s);
  const bound = asNumber(rest);
  if (operator === "=" && bound === null) return (value) => !isMissing(value) && String(value).toLowerCase() === rest.trim();
  if (operator) return bound === null ? null : (value) => typeof value === "number" && COMPARISONS[operator](value, bound);
  if (bound !== null) return (value) => value === bound || (typeof value === "string" && value.toLowerCase().includes(wanted));
  if (wanted.startsWith("!")) return (value) => isMissing(value) || !String(value).toLowerCase().includes(wanted.slice(1));
  return (value) => !isMissing(value) && String(value).toLowerCase().includes(wanted);
}

/**
 * Return the trials that pass every filter, in order.
 *
 * `view`: `sort` (a column's key), `down`, `filters` (texts by column key), `marked` (a set of indexes, or null for all).
 */
export function chosenTrials(state, all, view) {
  const tests = all.filter((column) => view.filters[column.key]).map((column) => [column, filterOf(view.filters[column.key])]);
  const passes = (trial) => tests.every(([column, test]) => test === null || test(column.of(trial)));
  const found = [...state.trials.values()].filter((trial) => (!view.marked || view.marked.has(trial.index)) && passes(trial));
  return found.sort(comparison(all.find((one) => one.key === view.sort) ?? all[0], view.down));
}

/** Return a table as CSV (RFC 4180). A text that a spreadsheet would run as a formula begins with an apostrophe. */
export function csv(all, trials) {
  const cell = (value) => {
    if (isMissing(value)) return "";
    const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [all.map((column) => cell(column.label)), ...trials.map((trial) => all.map((column) => cell(column.of(trial))))];
  return `${lines.map((line) => line.join(",")).join("\r\n")}\r\n`;
}
