import assert from "node:assert/strict";
import test from "node:test";

import { activeNames, changedLimits, firstValue, inputsOf, limitFields, typedParameters } from "../../airflow_provider_axtx/plugin/static/steering_data.js";

/** Return what a form with these fields is sent with after the user has typed `typed`. */
const filled = (fields, typed) => ({ ...Object.fromEntries(fields.map((one) => [one.name, one.value])), ...typed });

test("the number of planned trials is shown and not sent", () => {
  const fields = limitFields({}, 40);
  assert.equal(fields[0].placeholder, 40);
  assert.deepEqual(changedLimits(fields, filled(fields, { max_seconds: "100" })), { max_seconds: 100 });
});

test("only the limits that a user has changed are sent", () => {
  const fields = limitFields({ max_trials: 30, max_seconds: 3600.5, max_cost: 0, deadline: 2208988800 }, 30);
  assert.deepEqual(fields.map((one) => one.value), ["30", "3600.5", "2040-01-01T00:00:00.000Z", "", "0"]);
  const sent = (typed) => changedLimits(fields, filled(fields, typed));
  assert.deepEqual(sent({}), {});
  assert.deepEqual(sent({ max_resource_hours: "12.5" }), { max_resource_hours: 12.5 });
  assert.deepEqual(sent({ max_trials: "60", deadline: "2041-01-01T00:00:00Z" }), { max_trials: 60, deadline: "2041-01-01T00:00:00Z" });
  assert.deepEqual(sent({ max_trials: "", deadline: "" }), { max_trials: null, deadline: null });
});

const PARAMETERS = [
  { type: "choice", name: "model", values: ["svm", "net"], dependent_parameters: { svm: ["c"], net: ["deep"] } },
  { type: "choice", name: "deep", values: [true, false], dependent_parameters: { true: ["rate"] } },
  { type: "choice", name: "rate", values: [1e-5, 1], dependent_parameters: { "1e-05": ["width"], "1.0": ["c"] } },
  { type: "range", name: "width", parameter_type: "int", bounds: [1, 8] },
  { type: "range", name: "c", parameter_type: "float", scaling: "log", bounds: [0.01, 100] },
  { type: "derived", name: "double", expression_str: "2 * width" },
];

/** Return the parameters that are sent of a form which begins with those of `model`, after the user has typed `typed`. */
function queued(model, typed) {
  const inputs = inputsOf({ parameters: PARAMETERS });
  const shown = (one) => (one.type === "choice" ? JSON.stringify(firstValue(one, model)) : String(firstValue(one, model)));
  const texts = { ...Object.fromEntries(inputs.map((one) => [one.name, shown(one)])), ...typed };
  return typedParameters(inputs, (name) => texts[name]);
}

test("a trial by hand has only the parameters that exist with the chosen values", () => {
  assert.deepEqual(queued(null, {}), { model: "svm", c: 1 });
  assert.deepEqual(queued(null, { model: '"net"' }), { model: "net", deep: true, rate: 1e-5, width: 5 });
  assert.deepEqual(queued(null, { model: '"net"', rate: "1", c: "7", width: "" }), { model: "net", deep: true, rate: 1, c: 7 });
  const like = { parameters: { model: "net", deep: false } };
  assert.deepEqual(queued(like, {}), { model: "net", deep: false });
  assert.deepEqual(queued(like, { model: '"svm"' }), { model: "svm", c: 1 });
});

test("a frozen parameter begins with its value, unless a trial is to be repeated", () => {
  const frozen = { type: "range", name: "x", parameter_type: "float", bounds: [0, 1], frozen_value: 0 };
  const earlier = { parameters: { x: 0.75 } };
  assert.deepEqual([firstValue(frozen, null), firstValue(frozen, null, earlier), firstValue(frozen, earlier)], [0, 0, 0.75]);
  const { frozen_value, ...tuned } = frozen;
  assert.deepEqual([frozen_value, firstValue(tuned, null), firstValue(tuned, null, earlier)], [0, 0.5, 0.75]);
});

test("every parameter exists where none depends on another one", () => {
  assert.deepEqual([...activeNames(PARAMETERS.slice(3, 5), {})], ["width", "c"]);
});
