import assert from "node:assert/strict";
import test from "node:test";

import { failureGroups, hypervolume, hypervolumes, kindOf, slots } from "../../airflow_provider_axtx/plugin/static/indicators.js";
import { attempt, trial } from "./state.js";

test("attempts that overlap take slots of their own, and a free slot is used again", () => {
  const at = (index, from) => trial(index, 1, { attempts: [attempt(1, from)] });
  const found = slots([at(0, 100), at(1, 105), at(2, 112), at(3, 113)]);
  assert.deepEqual(found.map((one) => one.slot), [0, 1, 0, 2]);
  assert.deepEqual([found[0].from, found[0].start, found[0].end, found[0].recorded], [100, 101, 111, 112]);
});

test("an attempt that is queued or runs ends now", () => {
  const open = { started_at: null, ended_at: null, finished_at: null };
  const [queued] = slots([trial(0, 1, { attempts: [attempt(1, 100, open)] })], 160);
  assert.deepEqual([queued.start, queued.end, queued.recorded], [160, 160, 160]);
  const [running] = slots([trial(0, 1, { attempts: [attempt(1, 100, { ...open, started_at: 120 })] })], 160);
  assert.deepEqual([running.start, running.end, running.recorded], [120, 160, 160]);
});

test("hypervolumes that can be computed by hand", () => {
  assert.equal(hypervolume([[3]], [1]), 2);
  assert.equal(hypervolume([[2, 1], [1, 2]], [0, 0]), 3);
  assert.equal(hypervolume([[2, 1], [1, 2], [1, 1], [2, 1]], [0, 0]), 3); // dominated and repeated points add nothing
  assert.equal(hypervolume([[1, 1, 1]], [0, 0, 0]), 1);
  assert.equal(hypervolume([[2, 1, 1], [1, 2, 1], [1, 1, 2]], [0, 0, 0]), 4);
  assert.equal(hypervolume([[-1, 5]], [0, 0]), 0);
});

test("the hypervolume over trials grows, with either direction of the objectives", () => {
  const trials = [[1, 5], [2, 6], [3, 2], [0, 9]].map((values, i) => trial(i, 1, { values }));
  const found = hypervolumes(trials, [{ minimize: false }, { minimize: true }]);
  assert.deepEqual(found.map(([index]) => index), [0, 1, 2, 3]); // trial 3 only ends the line
  const values = found.map(([, value]) => value);
  assert.deepEqual(values, [...values].sort((a, b) => a - b));
  assert.deepEqual(hypervolumes([], [{ minimize: true }]), []);
});

test("failures of one kind are one group, the largest first", () => {
  const failed = (index, reason, status = "FAILED") => trial(index, null, { status, reason });
  const traceback = (step) => `Traceback:\n  File "x.py", line ${step}\nValueError: step ${step} of 0123456789abcdef`;
  const groups = failureGroups([failed(0, "exit code 1"), failed(1, traceback(3)), failed(2, traceback(40)), failed(3, null, "ABANDONED"), trial(4, 1)]);
  assert.deepEqual(groups.map((one) => one.indexes), [[1, 2], [0], [3]]);
  assert.equal(groups[0].example, traceback(3));
  assert.equal(kindOf("killed after 12.5 s"), "killed after N s");
});
