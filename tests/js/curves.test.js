import assert from "node:assert/strict";
import test from "node:test";

import { chooseMetric, hasAskedForCurves, keepCurves, noCurves, receiveCurves, refreshedMetric, wantedCurves } from "../../airflow_provider_axtx/plugin/static/curve_data.js";
import { state, trial } from "./state.js";

/** Return the state of a page that has shown the curves of `loss`, which the server has chosen. */
function shown() {
  const some = { ...state([trial(0, 1), trial(1, 2)]), ...noCurves(), curvesVisible: true };
  receiveCurves(some, null, { metric: "loss", metrics: ["accuracy", "loss"], curves: { 0: [[1, 0.5]] } });
  return some;
}

test("curves are asked for once their chart is seen or a trial is opened", () => {
  const some = { ...state([trial(0, 1), trial(1, 2)]), ...noCurves() };
  assert.deepEqual(wantedCurves(some), []);
  some.selected = 1;
  assert.deepEqual(wantedCurves(some), [{ metric: null, trial: 1 }]);
  receiveCurves(some, 1, { metric: null, metrics: [], curves: {} });
  assert.deepEqual([wantedCurves(some), some.curves, refreshedMetric(some)], [[], {}, null]);
  some.curvesVisible = true;
  assert.deepEqual(wantedCurves(some), [{ metric: null, trial: null }]);
  assert.deepEqual([wantedCurves(shown()), hasAskedForCurves(shown()), refreshedMetric(shown())], [[], true, "loss"]);
});

test("a trial without curves or with fewer metrics takes no metric away", () => {
  const some = { ...shown(), selected: 1 };
  receiveCurves(some, 1, { metric: "loss", metrics: [], curves: {} });
  assert.deepEqual([some.metrics, some.metric], [["accuracy", "loss"], "loss"]);
  receiveCurves(some, 0, { metric: "loss", metrics: ["epoch"], curves: {} });
  assert.deepEqual(some.metrics, ["accuracy", "epoch", "loss"]);
});

test("the metric that is drawn is always one of those to choose from", () => {
  const some = { ...state([trial(0, 1)]), ...noCurves(), selected: 0 };
  receiveCurves(some, 0, { metric: "rare", metrics: ["rare"], curves: { 0: [[1, 1]] } });
  some.curvesVisible = true;
  receiveCurves(some, null, { metric: "rare", metrics: ["accuracy", "loss"], curves: {} });
  assert.deepEqual([some.metric, some.metrics], ["rare", ["accuracy", "loss", "rare"]]);
});

test("a metric that is chosen again is asked for again, since no refresh has brought its curves", () => {
  const some = shown();
  chooseMetric(some, "accuracy");
  assert.deepEqual(wantedCurves(some), [{ metric: "accuracy", trial: null }]);
  receiveCurves(some, null, { metric: "accuracy", metrics: ["accuracy", "loss"], curves: {} });
  chooseMetric(some, "loss");
  assert.deepEqual([wantedCurves(some), hasAskedForCurves(some)], [[{ metric: "loss", trial: null }], false]);
  assert.deepEqual(some.curves.loss, { 0: [[1, 0.5]] }); // drawn meanwhile
});

test("an answer that arrives after another metric was chosen belongs to its own metric", () => {
  const some = shown();
  const asked = refreshedMetric(some);
  chooseMetric(some, "accuracy");
  keepCurves(some, asked, { 1: [[1, 7]] });
  receiveCurves(some, 0, { metric: "loss", metrics: ["loss"], curves: { 0: [[1, 0.4]] } });
  assert.deepEqual([some.metric, some.curves], ["accuracy", { loss: { 0: [[1, 0.4]], 1: [[1, 7]] } }]);
  assert.deepEqual(wantedCurves(some), [{ metric: "accuracy", trial: null }]);
});
