// What follows from an experiment's trials and attempts, as the server sends them.

export const LOST = ["FAILED", "ABANDONED", "EARLY_STOPPED"];
const OPEN = ["CANDIDATE", "STAGED", "RUNNING"];

export function isOpen(trial) {
  return OPEN.includes(trial.status);
}

export function goalLabels(state) {
  return state.data.objective.map((goal) => goal.label);
}

/** Return the COMPLETED trials in order of their index. */
export function completed(state) {
  return [...state.trials.values()].filter((t) => t.status === "COMPLETED").sort((a, b) => a.index - b.index);
}

/** Return the COMPLETED trials with a value of each objective. */
export function hasValues(state) {
  return completed(state).filter((t) => t.values.every((v) => v !== null));
}

/** Return whether a trial is the best one, or on the Pareto frontier. */
export function isBest(state, index) {
  return index === state.data.best || state.data.frontier.includes(index);
}

/** Return the trials in the order of an objective, the best last. */
export function byGain(trials, goal, minimize) {
  return [...trials].sort((a, b) => (minimize ? b.values[goal] - a.values[goal] : a.values[goal] - b.values[goal]));
}

export function lastAttempt(trial) {
  return trial.attempts.at(-1) ?? null;
}

/** When the app began to run; before that is known, when it was submitted. */
export function startOf(attempt) {
  return attempt.started_at ?? attempt.submitted_at ?? attempt.requested_at;
}

export function endOf(attempt) {
  return attempt.ended_at ?? attempt.finished_at;
}

/** Return the seconds that a trial's last app has run, until now if it goes on; null before it begins. */
export function seconds(trial, now = Date.now() / 1000) {
  const attempt = lastAttempt(trial);
  if (!attempt || isQueued(trial)) return null;
  return (endOf(attempt) ?? (trial.completed_at || now)) - startOf(attempt);
}

/** Return the seconds between an app's submission and its start; null while it is queued, or when nothing tells. */
export function queueSeconds(attempt) {
  if (!attempt.submitted_at || !attempt.started_at) return null;
  return Math.max(0, attempt.started_at - attempt.submitted_at);
}

/** Return whether a trial's app is submitted and not seen running yet. */
export function isQueued(trial) {
  const attempt = lastAttempt(trial);
  return trial.status === "RUNNING" && Boolean(attempt?.app_handle) && !attempt.started_at && !endOf(attempt);
}

/** Return the apps that were submitted and have not ended. */
export function liveApps(state) {
  return [...state.trials.values()].flatMap((trial) => trial.attempts.filter((one) => one.app_handle && !one.finished_at));
}

/** Return which bound of its range a value lies at, or null. */
export function boundOf(parameter, value) {
  if (parameter?.type !== "range") return null;
  const [low, high] = parameter.bounds;
  const near = Math.abs(high - low) * 1e-6;
  if (Math.abs(value - low) <= near) return "lower";
  return Math.abs(value - high) <= near ? "upper" : null;
}

/** Return the core-hours, the GPU-hours and the cost of all attempts of a trial, which is null without prices. Those that go on count until now. */
export function resourceHours(trial, now = Date.now() / 1000) {
  const total = { cpu: 0, gpu: 0, cost: null };
  for (const attempt of trial.attempts) {
    if (!attempt.started_at && !endOf(attempt)) continue;
    const hours = Math.max(0, (endOf(attempt) ?? now) - startOf(attempt)) / 3600;
    total.cpu += hours * (attempt.cpus ?? 0);
    total.gpu += hours * (attempt.gpus ?? 0);
    const { cpu_hour, gpu_hour } = attempt.prices ?? {};
    if (cpu_hour === undefined && gpu_hour === undefined) continue;
    total.cost = (total.cost ?? 0) + hours * ((attempt.cpus ?? 0) * (cpu_hour ?? 0) + (attempt.gpus ?? 0) * (gpu_hour ?? 0));
  }
  return total;
}

/** Return the recorded changes of the definition that hold by now: the first trial of each, and what differs. */
export function definitionChanges(state) {
  const made = state.data.changes.filter((one) => one.action === "change_definition" && one.trial_index !== null);
  return made.map((one) => [one.trial_index, one.arguments.differences.join("; ")]);
}

/** Return the cost of trials, or null when none has a price. */
export function costOf(trials, now = Date.now() / 1000) {
  const known = trials.map((one) => resourceHours(one, now).cost).filter((cost) => cost !== null);
  return known.length ? known.reduce((sum, cost) => sum + cost, 0) : null;
}
