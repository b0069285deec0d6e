// States of the page, as the server's answers make them.

/** Return a trial with one attempt; `more` replaces fields. */
export function trial(index, value, more = {}) {
  return {
    index, arm: `${index}_0`, status: value === null ? "FAILED" : "COMPLETED", reason: null, parameters: { x: index, kernel: "rbf" },
    metrics: value === null ? {} : { loss: [value, null] }, values: [value], node: "Sobol", origin: "generated",
    created_at: 1000 + index, completed_at: 1100 + index, attempts: [attempt(1, 1000 + index)], ...more,
  };
}

/** Return an attempt that was submitted at a time, began a second later and ended after ten more. */
export function attempt(number, at, more = {}) {
  return {
    number, scheduler: "s", app_handle: `s://x/app${at}`, app_state: "SUCCEEDED", message: "", cancel_reason: null, requested_at: at,
    submitted_at: at, started_at: at + 1, ended_at: at + 11, finished_at: at + 12, cpus: 2, gpus: 0, task: ["dag", "run", "task", -1, 1], ...more,
  };
}

/** Return the page's state with these trials. */
export function state(trials, data = {}) {
  return {
    name: "digits", curves: {}, mayEdit: true, selected: null,
    spec: { parameters: [{ type: "range", name: "x", parameter_type: "float", bounds: [0, 10] }, { type: "choice", name: "kernel", values: ["rbf", "sigmoid"] }] },
    trials: new Map(trials.map((one) => [one.index, one])),
    data: { objective: [{ label: "loss", minimize: true }], metrics: ["loss"], best: null, frontier: [], infeasible: [], best_so_far: [], trial_counts: {}, changes: [], ...data },
  };
}
