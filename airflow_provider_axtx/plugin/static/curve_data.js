// The learning curves that the page has: which ones it asks for, and what it keeps of the answers.

/**
 * Return what a page knows of curves before it has asked: `curves` by metric and trial, the `metric` that is drawn
 * (null until the server has chosen one), all `metrics`, and `curvesAsked`, what was asked for.
 */
export function noCurves() {
  return { curves: {}, metric: null, metrics: [], curvesAsked: new Set(), curvesVisible: false };
}

/** What curves are wanted of: the metric's latest and best trials, for which `trial` is null, or one trial. */
function keyOf(metric, trial) {
  return JSON.stringify([metric, trial]);
}

/** Return what the page shows and has not asked for yet: { metric, trial }. */
export function wantedCurves(state) {
  const wanted = state.curvesVisible ? [null] : [];
  if (state.selected !== null && state.trials.has(state.selected)) wanted.push(state.selected);
  return wanted.filter((trial) => !state.curvesAsked.has(keyOf(state.metric, trial))).map((trial) => ({ metric: state.metric, trial }));
}

/** Return whether the curves of the latest trials have been asked for. */
export function hasAskedForCurves(state) {
  return state.curvesAsked.has(keyOf(state.metric, null));
}

/** Return the metric of which a refresh brings the curves that have changed, or null. */
export function refreshedMetric(state) {
  return state.metric !== null && state.curvesAsked.size ? state.metric : null;
}

/** Draw another metric. While it was not drawn, no refresh has brought its curves: they are asked for anew. */
export function chooseMetric(state, metric) {
  Object.assign(state, { metric, curvesAsked: new Set() });
}

/** Keep the curves of a metric. The reader may have chosen another one since they were asked for. */
export function keepCurves(state, metric, curves) {
  if (metric !== null) Object.assign(state.curves, { [metric]: { ...state.curves[metric], ...curves } });
}

/**
 * Keep the answer to what was wanted of `trial`: `metric`, which the server has chosen if none was named, `metrics` and
 * `curves`. Its metrics are those of the trials that were asked for: one of them may have none.
 */
export function receiveCurves(state, trial, { metric, metrics, curves }) {
  const all = [...new Set([...state.metrics, ...metrics])].sort();
  Object.assign(state, { metrics: all, metric: state.metric ?? metric });
  state.curvesAsked.add(keyOf(metric, trial));
  keepCurves(state, metric, curves);
}
