import assert from "node:assert/strict";
import test from "node:test";

import { extent, histogram, lineOptions, mix, scaleOf, spread, thinned, typicalRange } from "../../airflow_provider_axtx/plugin/static/scales.js";

const up = (n) => Array.from({ length: n }, (_, i) => i);

test("an outlier is outside the typical range, and an even row has none", () => {
  const [low, high] = typicalRange([...up(30), 1e9]);
  assert.ok(low < 0 && high > 29 && high < 35);
  assert.equal(typicalRange(up(30)), null);
  assert.equal(typicalRange([1, 2, 1e9]), null); // too few to tell
  assert.equal(typicalRange([...up(20).fill(1), 5]), null); // the middle half has no width
});

test("a selection keeps both ends, and what it has to keep", () => {
  assert.deepEqual(spread(up(101), 3), [0, 50, 100]);
  assert.deepEqual(spread(up(2), 3), [0, 1]);
  const some = thinned(up(10_000), 100, (i) => i === 4321);
  assert.ok(some.length <= 101 && some.includes(4321) && some.includes(0) && some.includes(9999));
  assert.deepEqual(some, [...some].sort((a, b) => a - b));
});

test("a range parameter is placed linearly or by its logarithm, a choice by its position", () => {
  assert.equal(scaleOf({ type: "range", bounds: [0, 10] }, [5]).at(5), 0.5);
  const log = scaleOf({ type: "range", bounds: [1e-4, 1], scaling: "log" }, [1e-2]);
  assert.ok(Math.abs(log.at(1e-2) - 0.5) < 1e-12);
  assert.deepEqual(log.ticks, [[0, "1.000e-4"], [1, "1"]]);
  const choice = scaleOf({ type: "choice", values: ["a", true, 3] }, []);
  assert.deepEqual(["a", true, 3].map(choice.at), [0, 0.5, 1]);
  assert.equal(scaleOf(null, [2, 2]).at(2), 0); // no width
});

test("a parameter that some trials lack keeps its scale", () => {
  const range = { type: "range", bounds: [0, 10] };
  const some = scaleOf(range, [2.5, undefined, 5]);
  assert.deepEqual([some.at(5), some.ticks], [0.5, [[0, "0"], [1, "10"]]]);
  assert.deepEqual(scaleOf(range, [undefined]).ticks, [[0, "0"], [1, "10"]]);
  const derived = { type: "derived" };
  assert.deepEqual([scaleOf(derived, [undefined, 2, 4]).at(3), scaleOf(derived, [undefined]).ticks], [0.5, []]);
  assert.deepEqual(scaleOf(derived, ["a", undefined, "b"]).ticks, [[0, "a"], [1, "b"]]);
});

test("the extent of very many values", () => {
  assert.deepEqual(extent(up(300_000)), [0, 299_999]);
});

test("many lines begin with the best ones", () => {
  assert.deepEqual(lineOptions(10), ["all"]);
  assert.deepEqual(lineOptions(150), ["all", "best 100", "best 20"]);
  assert.deepEqual(lineOptions(2000), ["best 100", "best 20", "all"]);
});

test("colours between three", () => {
  const colors = { low: "#000000", mid: "#808080", high: "#ffffff" };
  assert.deepEqual([0, 0.25, 0.5, 1].map((share) => mix(colors, share)), ["rgb(0,0,0)", "rgb(64,64,64)", "rgb(128,128,128)", "rgb(255,255,255)"]);
});

test("every value is counted once", () => {
  const bins = histogram([0, 0.1, 5, 10, 10], 5);
  assert.deepEqual(bins.map(([, , count]) => count), [2, 0, 1, 0, 2]);
  assert.deepEqual(histogram([3, 3], 5), [[3, 4, 2]]);
});
