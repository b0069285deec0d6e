// What an experiment's trials say together: slots over time, hypervolume, reasons of failures.

import { endOf, startOf } from "./records.js";

/**
 * Place attempts in slots: each takes the lowest slot that is free when it is requested. Times are seconds.
 *
 * An attempt has three parts: queued until its app starts, running until the app ends, recording until its end is
 * recorded; one that goes on ends `now`.
 */
export function slots(trials, now = Date.now() / 1000) {
  const attempts = trials.flatMap((trial) => trial.attempts.map((attempt) => ({ trial, attempt })));
  attempts.sort((a, b) => a.attempt.requested_at - b.attempt.requested_at || a.trial.index - b.trial.index);
  const freeAt = [];
  return attempts.map(({ trial, attempt }) => {
    const ended = endOf(attempt);
    const from = attempt.requested_at;
    const isQueued = !attempt.started_at && !ended;
    const start = isQueued ? now : Math.max(from, startOf(attempt));
    const end = Math.max(start, ended ?? now);
    const recorded = attempt.finished_at ? Math.max(end, attempt.finished_at) : end;
    let slot = freeAt.findIndex((at) => at <= from);
    if (slot < 0) slot = freeAt.length;
    freeAt[slot] = recorded;
    return { index: trial.index, number: attempt.number, status: trial.status, slot, from, start, end, recorded };
  });
}

/** Return the points that no other one equals or exceeds everywhere; higher is better. */
function undominated(points) {
  return points.filter((point, i) => !points.some((other, j) => dominates(other, point) || (j < i && String(other) === String(point))));
}

function dominates(one, other) {
  return one.some((value, i) => value > other[i]) && one.every((value, i) => value >= other[i]);
}

/** Return the volume that points dominate above a reference point, by slicing along the last axis; higher is better. */
export function hypervolume(points, reference) {
  const inside = undominated(points.filter((point) => point.every((value, i) => value > reference[i])));
  if (!inside.length) return 0;
  const last = reference.length - 1;
  if (last === 0) return Math.max(...inside.map(([value]) => value)) - reference[0];
  const sorted = [...inside].sort((a, b) => b[last] - a[last]);
  return sorted.reduce((total, point, i) => {
    const height = point[last] - (sorted[i + 1]?.[last] ?? reference[last]);
    if (height === 0) return total;
    const area = hypervolume(sorted.slice(0, i + 1).map((one) => one.slice(0, last)), reference.slice(0, last));
    return total + height * area;
  }, 0);
}

/**
 * Return [trial index, hypervolume up to this trial] at each trial that changes it, and at the last one.
 *
 * `goals` are `{ minimize }`; the reference point is the worst value of each objective among the trials, and a tenth of
 * the range below it, so that also the ends of the frontier count.
 */
export function hypervolumes(trials, goals) {
  if (!trials.length) return [];
  const gains = trials.map((trial) => trial.values.map((value, i) => (goals[i].minimize ? -value : value)));
  const reference = goals.map((_, i) => {
    const [low, high] = gains.reduce(([least, most], gain) => [Math.min(least, gain[i]), Math.max(most, gain[i])], [Infinity, -Infinity]);
    return low - 0.1 * (high - low || 1);
  });
  let front = [];
  const found = [];
  trials.forEach((trial, n) => {
    if (!front.some((point) => point.every((value, i) => value >= gains[n][i]))) {
      front = [...front.filter((point) => !dominates(gains[n], point)), gains[n]];
      found.push([trial.index, hypervolume(front, reference)]);
    }
  });
  found.push([trials.at(-1).index, found.at(-1)[1]]);
  return found;
}

/** Return a reason without what differs between failures of one kind: numbers, ids, and all but its last line. */
export function kindOf(reason) {
  const lines = (reason ?? "").trim().split("\n");
  const line = lines.at(-1).trim().slice(0, 200) || "no reason is recorded";
  return line.replace(/\b[0-9a-f]{8,}\b/gi, "…").replace(/\d+(\.\d+)?/g, "N");
}

/** Return the trials without a result by kind of reason, the most frequent first: { kind, example, indexes }. */
export function failureGroups(trials) {
  const groups = new Map();
  for (const trial of trials) {
    if (trial.status !== "FAILED" && trial.status !== "ABANDONED") continue;
    const key = `${trial.status} ${kindOf(trial.reason)}`;
    if (!groups.has(key)) groups.set(key, { status: trial.status, example: trial.reason ?? "no reason is recorded", indexes: [] });
    groups.get(key).indexes.push(trial.index);
  }
  return [...groups.values()].sort((a, b) => b.indexes.length - a.indexes.length || a.indexes[0] - b.indexes[0]);
}
