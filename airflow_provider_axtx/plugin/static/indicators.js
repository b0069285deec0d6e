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

/** Return whether a point equals or exceeds another one everywhere; higher is better. */
function covers(one, other) {
  return one.every((value, i) => value >= other[i]);
}

/** Compare points for a descending order by the first axis in which they differ: no point is covered by a later one. */
function descending(one, other) {
  const axis = one.findIndex((value, i) => value !== other[i]);
  return axis < 0 ? 0 : other[axis] - one[axis];
}

/** Return the points that no other one covers, in descending order. */
function undominated(points) {
  const front = [];
  for (const point of [...points].sort(descending)) if (!front.some((other) => covers(other, point))) front.push(point);
  return front;
}

/** Return the volume that points dominate above a reference point; higher is better. */
export function hypervolume(points, reference) {
  return volume(points.filter((point) => point.every((value, i) => value > reference[i])), reference);
}

/** Return the volume of points that are all above the reference point. */
function volume(points, reference) {
  const front = undominated(points);
  if (!front.length) return 0;
  if (reference.length === 1) return front[0][0] - reference[0];
  if (reference.length === 2) return area(front, reference);
  // From above along the last axis: what a point adds to those above it is a prism down to the reference.
  const last = reference.length - 1;
  const sorted = front.sort((a, b) => b[last] - a[last]);
  const flat = sorted.map((point) => point.slice(0, last));
  const base = reference.slice(0, last);
  return sorted.reduce((total, point, i) => total + (point[last] - reference[last]) * addition(flat[i], flat.slice(0, i), base), 0);
}

/** Return the area of points in descending order. */
function area(front, reference) {
  let [total, top] = [0, reference[1]];
  for (const [x, y] of front) {
    total += (x - reference[0]) * (y - top);
    top = y;
  }
  return total;
}

/** Return the volume that a point adds to others: its own box without the parts of their boxes that lie in it. */
function addition(point, others, reference) {
  const box = point.reduce((product, value, i) => product * (value - reference[i]), 1);
  const inside = others.map((other) => other.map((value, i) => Math.min(value, point[i])));
  return Math.max(0, box - volume(inside, reference));
}

/** Return the worst value of each objective, and a tenth of the range below it, so that also the ends of the frontier count. */
function referenceOf(gains) {
  return (gains[0] ?? []).map((_, i) => {
    const [low, high] = gains.reduce(([least, most], gain) => [Math.min(least, gain[i]), Math.max(most, gain[i])], [Infinity, -Infinity]);
    return low - 0.1 * (high - low || 1);
  });
}

/**
 * Return the hypervolume over trials, computed in pieces and kept between two calls: with several objectives it takes
 * seconds, in which the page would not answer.
 *
 * - `begin(trials, goals)` says of which trials; `goals` are `{ minimize }`. What is known of the first ones stays, as
 *   long as their values and the worst and best ones are the same.
 * - `go(milliseconds)` computes for about so long, and returns whether everything is known.
 * - `points()` returns [trial index, hypervolume up to this trial] at each trial that changes it, and at the last one.
 */
export function hypervolumeCourse() {
  let [trials, gains, reference] = [[], [], []];
  let [next, front, found] = [0, [], []];
  const add = (gain, index) => {
    if (front.some((point) => covers(point, gain))) return;
    found.push([index, (found.at(-1)?.[1] ?? 0) + addition(gain, front, reference)]);
    front = [...front.filter((point) => !covers(gain, point)), gain];
  };
  return {
    begin(wanted, goals) {
      const before = { gains: gains.slice(0, next), indexes: trials.slice(0, next).map((one) => one.index), reference };
      trials = wanted;
      gains = wanted.map((one) => one.values.map((value, i) => (goals[i].minimize ? -value : value)));
      reference = referenceOf(gains);
      const known = { gains: gains.slice(0, next), indexes: trials.slice(0, next).map((one) => one.index), reference };
      if (JSON.stringify(known) !== JSON.stringify(before)) [next, front, found] = [0, [], []];
    },
    go(milliseconds) {
      const end = performance.now() + milliseconds;
      for (; next < trials.length && performance.now() < end; next += 1) add(gains[next], trials[next].index);
      return next === trials.length;
    },
    points: () => (found.length ? [...found, [trials[next - 1].index, found.at(-1)[1]]] : []),
  };
}

/** Return the points of a course that is computed at once. */
export function hypervolumes(trials, goals) {
  const course = hypervolumeCourse();
  course.begin(trials, goals);
  course.go(Infinity);
  return course.points();
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
