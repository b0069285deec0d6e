import assert from "node:assert/strict";
import test from "node:test";

import { ACROSS, acrossOptions, differences, flat, isComparable, parameterNames, ranking } from "../../airflow_provider_axtx/plugin/static/compare_data.js";

const experiment = (name, value, more = {}) => ({
  name, objective: [{ label: "loss", minimize: true }], best: value === null ? null : { value, trial_index: 1, parameters: { x: value } }, progress: [[1, 7200, 2, 0, value]], ...more,
});

test("definitions differ by what they say, not by the order of their parameters", () => {
  const x = { name: "x", type: "range", bounds: [0, 1] };
  const one = { name: "a", parameters: [x, { name: "y", type: "range", bounds: [0, 1] }], objective: "-loss" };
  const other = { name: "b", parameters: [{ name: "y", type: "range", bounds: [0, 2] }, x], objective: "-loss", generation: { method: "fast" } };
  assert.deepEqual(differences([one, other]), [["parameters.y.bounds", ["[0,1]", "[0,2]"]], ["generation.method", [null, '"fast"']]]);
  assert.deepEqual(differences([one, { ...one, name: "c" }, null]).length, 5); // one that cannot be read has nothing
  assert.deepEqual([...flat({ list: [1, 2], empty: [] })], [["list", "[1,2]"], ["empty", "[]"]]);
});

test("the best comes first, and experiments with other objectives do not compare", () => {
  const some = [experiment("a", 3), experiment("b", null), experiment("c", 1)];
  assert.deepEqual(ranking(some).map((one) => one.name), ["c", "a", "b"]);
  const more = [...some, experiment("d", 0, { objective: [{ label: "loss", minimize: false }] })];
  assert.deepEqual([isComparable(some), isComparable(more)], [true, false]);
  assert.deepEqual(ranking(more), more);
  assert.deepEqual(parameterNames([experiment("a", 1), experiment("b", 2, { best: { parameters: { y: 1, x: 2 } } })]), ["x", "y"]);
});

test("GPU-hours are offered where there are any", () => {
  assert.deepEqual(acrossOptions([experiment("a", 1)]), ["trials", "hours", "core-hours"]);
  assert.ok(acrossOptions([experiment("a", 1), experiment("b", 1, { progress: [[1, 1, 1, 0.5, 1]] })]).includes("GPU-hours"));
  assert.equal(ACROSS.hours.of([1, 7200, 2, 0, 3]), 2);
});
