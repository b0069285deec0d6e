import assert from "node:assert/strict";
import test from "node:test";

import { failureGroups, hypervolume, hypervolumeCourse, hypervolumes, kindOf, slots } from "../../airflow_provider_axtx/plugin/static/indicators.js";
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

/** Return trials near a sphere, most of which are on the frontier of so many objectives; the second one is minimized. */
function onSphere(count, dimensions) {
  let seed = 1;
  const chance = () => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return 0.01 + seed / 2147483648;
  };
  return Array.from({ length: count }, (_, index) => {
    const at = Array.from({ length: dimensions }, chance);
    const size = Math.hypot(...at) / (0.98 + 0.02 * chance());
    return trial(index, 1, { values: at.map((value, i) => (i === 1 ? -value : value) / size) });
  });
}

const GOALS = [{ minimize: false }, { minimize: true }, { minimize: false }, { minimize: false }];

test("each hypervolume over trials is that of the trials up to there", () => {
  for (const dimensions of [1, 2, 3, 4]) {
    const trials = onSphere(25, dimensions);
    const gains = trials.map((one) => one.values.map((value, i) => (GOALS[i].minimize ? -value : value)));
    const reference = gains[0].map((_, i) => {
      const all = gains.map((gain) => gain[i]);
      return Math.min(...all) - 0.1 * (Math.max(...all) - Math.min(...all));
    });
    for (const [index, value] of hypervolumes(trials, GOALS.slice(0, dimensions))) {
      const boxes = gains.slice(0, index + 1);
      assert.ok(Math.abs(value - volumeOfCells(boxes, reference)) < 1e-9 * value, `${dimensions} objectives, trial ${index}`);
    }
  }
});

/** Return the volume of a union of boxes, cell by cell between the coordinates of all points. */
function volumeOfCells(points, reference) {
  const cut = (axis, inside) => {
    if (axis === reference.length) return 1;
    const marks = [reference[axis], ...inside.map((point) => point[axis])].sort((a, b) => a - b);
    return marks.slice(1).reduce((total, high, i) => {
      const above = inside.filter((point) => point[axis] >= high);
      return high === marks[i] || !above.length ? total : total + (high - marks[i]) * cut(axis + 1, above);
    }, 0);
  };
  return cut(0, points);
}

test("a course that goes on with more trials, in pieces, has the values of one that is computed at once", () => {
  const trials = onSphere(60, 3);
  const goals = GOALS.slice(0, 3);
  const course = hypervolumeCourse();
  assert.deepEqual(course.points(), []);
  const wanted = [20, 40, 60].map((count) => trials.slice(0, count));
  const infeasible = trials.filter((one) => one.index !== 7);
  const changed = trials.map((one) => (one.index === 3 ? { ...one, values: [0.5, 0.1, 0.9] } : one));
  for (const some of [...wanted, infeasible, changed, trials.slice(0, 30), []]) {
    course.begin(some, goals);
    while (!course.go(0.01)) continue;
    assert.deepEqual(course.points(), hypervolumes(some, goals));
  }
});

test("what is known stays while the worst and the best values do", () => {
  const ends = [[9, 9, -9], [-9, -9, -9], [-9, 9, 9]].map((values, i) => trial(100 + i, 1, { values }));
  const trials = [...ends, ...onSphere(40, 3)];
  const course = hypervolumeCourse();
  course.begin(trials, GOALS.slice(0, 3));
  assert.equal(course.go(Infinity), true);
  const known = course.points();
  assert.ok(known.length > 20);
  course.begin([...trials, trial(200, 1, { values: [5, 0, 5] })], GOALS.slice(0, 3));
  assert.deepEqual(course.points(), known);
  assert.equal(course.go(Infinity), true);
  assert.deepEqual(course.points().at(-1)[0], 200);
  course.begin([...trials, trial(200, 1, { values: [10, 0, 5] })], GOALS.slice(0, 3)); // another best value
  assert.deepEqual(course.points(), []);
});

test("three hundred trials on a frontier of three objectives, which once took minutes", () => {
  assert.ok(hypervolumes(onSphere(300, 3), GOALS.slice(0, 3)).length > 200);
});

test("failures of one kind are one group, the largest first", () => {
  const failed = (index, reason, status = "FAILED") => trial(index, null, { status, reason });
  const traceback = (step) => `Traceback:\n  File "x.py", line ${step}\nValueError: step ${step} of 0123456789abcdef`;
  const groups = failureGroups([failed(0, "exit code 1"), failed(1, traceback(3)), failed(2, traceback(40)), failed(3, null, "ABANDONED"), trial(4, 1)]);
  assert.deepEqual(groups.map((one) => one.indexes), [[1, 2], [0], [3]]);
  assert.equal(groups[0].example, traceback(3));
  assert.equal(kindOf("killed after 12.5 s"), "killed after N s");
});
