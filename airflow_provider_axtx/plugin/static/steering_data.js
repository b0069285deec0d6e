// What the dialogs that steer an experiment ask for, without their elements.

/**
 * Return the fields of the dialog for limits: `name`, `label` and the properties of each. What is planned is no limit
 * that a user has set, so that it is not the value of a field.
 */
export function limitFields(limits, planned) {
  const field = (name, label, more) => ({ name, label, value: name in limits ? String(limits[name]) : "", ...more });
  const amount = (name, label, more) => field(name, label, { type: "number", step: "any", ...more });
  const deadline = limits.deadline ? new Date(limits.deadline * 1000).toISOString() : "";
  return [
    amount("max_trials", "Trials in all", { min: 1, step: 1, placeholder: planned }),
    amount("max_seconds", "Seconds since the task began", { min: 1 }),
    field("deadline", "Deadline with its time zone", { value: deadline, placeholder: "2030-01-31T18:00:00+00:00" }),
    amount("max_resource_hours", "Core-hours or GPU-hours", { min: 0 }),
    amount("max_cost", "Money, at the prices of the connection", { min: 0 }),
  ];
}

/**
 * Return the limits that a user has changed; null gives one back to the DAG. A field that still has its value is left
 * out: sent, it would replace the DAG's limit for good, or what another user has set meanwhile.
 */
export function changedLimits(fields, values) {
  const changed = fields.filter((one) => values[one.name] !== one.value);
  const read = ({ type }, text) => (type === "number" ? Number(text) : text);
  return Object.fromEntries(changed.map((one) => [one.name, values[one.name] === "" ? null : read(one, values[one.name])]));
}
