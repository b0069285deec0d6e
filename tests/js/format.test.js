import assert from "node:assert/strict";
import test from "node:test";

import { FORMATS, ago, countsText, duration, measured, number, plain, plural, queryOf } from "../../airflow_provider_axtx/plugin/static/format.js";

test("numbers are short, and the smallest ones are not zero", () => {
  const shown = [0, 12, 1e6, 0.1 + 0.2, 1e-12, -123456.789, null, undefined, "text", true].map(number);
  assert.deepEqual(shown, ["0", "12", "1.000e+6", "0.3", "1.000e-12", "-123460", "–", "–", "text", "true"]);
});

test("a metric is shown with its standard error, if it has one", () => {
  assert.deepEqual([[0.5, 0.01234], [0.5, null], [0.5, 0], null].map(measured), ["0.5 ±\u00a00.012", "0.5", "0.5", "–"]);
});

test("durations", () => {
  assert.deepEqual([0.25, 9.96, 59.9, 61, 3600, 90061, -1, null].map(duration), ["250 ms", "10.0 s", "59 s", "1 min 1 s", "1 h 0 min", "25 h 1 min", "–", "–"]);
});

test("times are relative for a day", () => {
  const at = new Date("2026-01-01T00:00:00Z");
  assert.equal(ago(at, at.getTime() + 1000), "just now");
  assert.equal(ago(at, at.getTime() - 1000), "just now");
  assert.equal(ago(at, at.getTime() + 120_000), "2 min 0 s ago");
  assert.equal(ago(at, at.getTime() + 90_000_000), at.toLocaleString());
});

test("counts come in one order, with words", () => {
  assert.equal(countsText({ FAILED: 1, EARLY_STOPPED: 2, COMPLETED: 3 }), "3 completed, 2 early stopped, 1 failed");
  assert.deepEqual([plural(1, "app"), plural(0, "app")], ["1 app", "0 apps"]);
});

test("plotly's markup in a name stays text", () => {
  assert.equal(plain("<a href='x'>&</a>"), "&lt;a href='x'&gt;&amp;&lt;/a&gt;");
});

test("a query leaves out what is empty and repeats lists", () => {
  assert.equal(queryOf({ name: "a b&c", conn_id: null, since: 0, search: "", compare: ["x", "y"] }), "name=a+b%26c&since=0&compare=x&compare=y");
});

test("parameters are copied so that a shell and Python read the same values", () => {
  const parameters = { rate: 0.1, name: "it's $HOME", deep: true };
  assert.deepEqual(JSON.parse(FORMATS.JSON(parameters)), parameters);
  assert.equal(FORMATS.flags(parameters), "--rate=0.1 --name='it'\\''s $HOME' --deep=true");
  assert.equal(FORMATS.Python(parameters), '{"rate": 0.1, "name": "it\'s $HOME", "deep": True}');
});
