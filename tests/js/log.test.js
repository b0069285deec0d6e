import assert from "node:assert/strict";
import test from "node:test";

import { linesOf, linesOfTrial, tail, taskInstancePath, taskWithOutput } from "../../airflow_provider_axtx/plugin/static/log_text.js";

test("lines of a log in either form, without groups and colours", () => {
  const content = [{ event: "::group::Source" }, { event: "\u001b[31mone\ntwo", level: "error" }, { event: null }, "three"];
  assert.deepEqual(linesOf(content), [{ text: "one", bad: true }, { text: "two", bad: true }, { text: "three", bad: false }]);
  assert.equal(tail(linesOf(content), 2), "two\nthree");
});

test("in the log of a task with several trials only the lines of one count", () => {
  const lines = linesOf(["Trial 1: started", "Trial 11: started", "app s://x/a said", "other"]);
  assert.equal(tail(linesOfTrial(lines, 1, "s://x/a"), 9), "Trial 1: started\napp s://x/a said");
  assert.equal(tail(linesOfTrial(lines, 1, null), 9), "Trial 1: started");
});

test("the output of an app is in the log of the task that waits for it", () => {
  assert.deepEqual(taskWithOutput(["d", "r", "tune.round_0.submit", 3, 2]), ["d", "r", "tune.round_0.wait", 3, null]);
  assert.deepEqual(taskWithOutput(["d", "r", "run", -1, 2]), ["d", "r", "run", -1, 2]);
  const body = ["d", "r", "tune.round_0.body.submit", 3, null];
  assert.deepEqual(taskWithOutput(body), body);
  assert.equal(taskInstancePath(["a/b", "m:1+2", "t"]), "api/v2/dags/a%2Fb/dagRuns/m%3A1%2B2/taskInstances/t");
});
