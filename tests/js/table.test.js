import assert from "node:assert/strict";
import test from "node:test";

import { cellText, chosenTrials, columns, csv, filterOf } from "../../airflow_provider_axtx/plugin/static/table_data.js";
import { attempt, state, trial } from "./state.js";

const view = (more) => ({ sort: "index", down: false, filters: {}, marked: null, ...more });
const chosen = (some, more) => chosenTrials(some, columns(some), view(more)).map((t) => t.index);

test("each filter keeps what it says", () => {
  const values = [0, 1, 2.5, -3, null, undefined, "rbf", "RBF sigmoid", true, "1"];
  const kept = (text) => values.filter(filterOf(text));
  assert.deepEqual(kept(""), values);
  assert.deepEqual(kept(">=1"), [1, 2.5]);
  assert.deepEqual(kept("< 1"), [0, -3]);
  assert.deepEqual(kept("=1"), [1]);
  assert.deepEqual(kept("0..2.5"), [0, 1, 2.5]);
  assert.deepEqual(kept("..0"), [0, -3]);
  assert.deepEqual(kept("1e0.."), [1, 2.5]);
  assert.deepEqual(kept("rbf"), ["rbf", "RBF sigmoid"]);
  assert.deepEqual(kept("=rbf"), ["rbf"]);
  assert.deepEqual(kept("!rbf"), [0, 1, 2.5, -3, null, undefined, true, "1"]);
  assert.deepEqual(kept("1"), [1, "1"]);
  assert.deepEqual(["> x", "1..b", "a.."].map(filterOf), [null, null, null]);
});

test("trials are filtered by several columns and sorted, those without a value last", () => {
  const some = state([trial(0, 3), trial(1, null), trial(2, 1), trial(3, 2), trial(4, 2)]);
  assert.deepEqual(chosen(some, { sort: "m:loss" }), [2, 3, 4, 0, 1]);
  assert.deepEqual(chosen(some, { sort: "m:loss", down: true }), [0, 3, 4, 2, 1]);
  assert.deepEqual(chosen(some, { filters: { "m:loss": "2..3", "p:x": "<4" } }), [0, 3]);
  assert.deepEqual(chosen(some, { filters: { status: "failed" } }), [1]);
  assert.deepEqual(chosen(some, { marked: new Set([4, 0]), sort: "nothing" }), [0, 4]);
  assert.deepEqual(chosen(some, { filters: { "m:loss": "> x" } }), [0, 1, 2, 3, 4]); // not yet a filter
});

test("a parameter and a metric of one name have two columns that can be told apart", () => {
  const some = state([trial(0, 1)]);
  some.spec.parameters[0].name = "loss";
  const labels = columns(some).map((one) => one.label);
  assert.ok(labels.includes("loss (metric)") && labels.includes("loss (parameter)"));
});

test("a queued app is no running one, and its trial has no duration", () => {
  const open = { started_at: null, ended_at: null, finished_at: null };
  const some = state([trial(0, 1, { status: "RUNNING", completed_at: null, attempts: [attempt(1, 100, open)] })]);
  const texts = Object.fromEntries(columns(some).map((one) => [one.key, cellText(one, some.trials.get(0))]));
  assert.deepEqual([texts.status, texts.duration, texts["hours:cpu"]], ["running (queued)", "–", "0"]);
});

test("resource hours count every attempt", () => {
  const some = state([trial(0, 1, { attempts: [attempt(1, 0, { ended_at: 1801 }), attempt(2, 2000, { gpus: 1, ended_at: 3801 })] })]);
  const hours = columns(some).filter((one) => one.key.startsWith("hours:")).map((one) => one.of(some.trials.get(0)));
  assert.deepEqual(hours, [2, 0.5]);
});

test("a CSV file survives commas, quotes and formulas", () => {
  const some = state([trial(0, -1, { reason: '=HYPERLINK("x"), said it' }), trial(1, null)]);
  const wanted = columns(some).filter((one) => ["index", "m:loss", "reason"].includes(one.key));
  assert.equal(csv(wanted, [...some.trials.values()]), 'Trial,loss,Reason\r\n0,-1,"\'=HYPERLINK(""x""), said it"\r\n1,,\r\n');
});
