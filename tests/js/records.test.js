import assert from "node:assert/strict";
import test from "node:test";

import { boundOf, byGain, completed, costOf, hasValues, isBest, isQueued, liveApps, queueSeconds, seconds } from "../../airflow_provider_axtx/plugin/static/records.js";
import { attempt, state, trial } from "./state.js";

test("completed trials, and those with every value", () => {
  const some = state([trial(2, 1), trial(0, null), trial(1, 3), trial(3, 2, { values: [null] })], { best: 2 });
  assert.deepEqual(completed(some).map((t) => t.index), [1, 2, 3]);
  assert.deepEqual(hasValues(some).map((t) => t.index), [1, 2]);
  assert.deepEqual([isBest(some, 2), isBest(some, 1)], [true, false]);
});

test("the best comes last in either direction", () => {
  const trials = [trial(0, 1), trial(1, 3), trial(2, 2)];
  assert.deepEqual(byGain(trials, 0, true).map((t) => t.index), [1, 2, 0]);
  assert.deepEqual(byGain(trials, 0, false).map((t) => t.index), [0, 2, 1]);
});

test("a duration begins when the app runs, not when it is submitted", () => {
  const open = { started_at: null, ended_at: null, finished_at: null };
  const queued = trial(0, 1, { status: "RUNNING", completed_at: null, attempts: [attempt(1, 100, open)] });
  assert.deepEqual([isQueued(queued), seconds(queued, 160), queueSeconds(queued.attempts[0])], [true, null, null]);
  const running = { ...queued, attempts: [attempt(1, 100, { ...open, started_at: 130 })] };
  assert.deepEqual([isQueued(running), seconds(running, 160), queueSeconds(running.attempts[0])], [false, 30, 30]);
  assert.equal(seconds(trial(0, 1)), 10);
  assert.equal(seconds(trial(0, 1, { attempts: [] })), null);
});

test("an app is live between its submission and its recorded end", () => {
  const writing = attempt(1, 5, { app_handle: null, finished_at: null });
  const live = attempt(2, 9, { finished_at: null });
  assert.deepEqual(liveApps(state([trial(0, 1), trial(1, null, { attempts: [writing, live] })])), [live]);
});

test("an attempt costs what its own prices say, and nothing is known without any", () => {
  const priced = (prices) => trial(0, 1, { attempts: [attempt(1, 0, { started_at: 0, ended_at: 3600, cpus: 2, gpus: 1, prices })] });
  assert.equal(costOf([priced({}), trial(1, 1)]), null);
  assert.equal(costOf([priced({ cpu_hour: 0.5 }), priced({ cpu_hour: 1, gpu_hour: 10 }), priced({})]), 13);
});

test("a value at a bound is recognised, a choice has none", () => {
  const range = { type: "range", bounds: [0, 100] };
  assert.deepEqual([0, 100, 50, 1e-7].map((value) => boundOf(range, value)), ["lower", "upper", null, "lower"]);
  assert.equal(boundOf({ type: "choice" }, 0), null);
});
