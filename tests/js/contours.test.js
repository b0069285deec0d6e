import assert from "node:assert/strict";
import test from "node:test";

import { isolines, quantiles, rank, valueAt } from "../../airflow_provider_axtx/plugin/static/contours.js";

const at = Array.from({ length: 21 }, (_, i) => -1 + i / 10);
const bowl = at.map((y) => at.map((x) => x * x + y * y));

test("the line of a bowl's level is a circle, whose ends meet", () => {
  const segments = isolines(at, at, bowl, 0.47);
  assert.ok(segments.length > 20);
  for (const [x, y] of segments.flat()) assert.ok(Math.abs(Math.hypot(x, y) - Math.sqrt(0.47)) < 0.02);
  const ends = new Map();
  for (const end of segments.flat()) {
    const name = end.map((one) => one.toFixed(9)).join();
    ends.set(name, (ends.get(name) ?? 0) + 1);
  }
  assert.deepEqual(new Set(ends.values()), new Set([2]));
});

test("a saddle has two lines in its cell, and a level outside the grid none", () => {
  assert.equal(isolines([0, 1], [0, 1], [[1, 0], [0, 1]], 0.5).length, 2);
  assert.deepEqual(isolines(at, at, bowl, 9), []);
});

test("values between the points of the grid are interpolated, also where the points are uneven", () => {
  assert.equal(valueAt([0, 1, 10], [0, 2], [[0, 1, 10], [2, 3, 12]], 5.5, 1), 6.5);
  assert.equal(valueAt([0, 1], [0, 1], [[0, 1], [2, 3]], 1, 1), 3);
});

test("ranks and quantiles do not depend on one value far away", () => {
  assert.deepEqual(quantiles([1e9, 1, 2, 3, 4], 4), [2, 3, 4]);
  const sorted = [1, 2, 3, 4, 1e9];
  assert.deepEqual([0, 1, 3, 1e9, 2e9].map((value) => rank(sorted, value)), [0, 0, 0.5, 1, 1]);
});
