import assert from "node:assert/strict";
import test from "node:test";

import { changedLimits, limitFields } from "../../airflow_provider_axtx/plugin/static/steering_data.js";

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
