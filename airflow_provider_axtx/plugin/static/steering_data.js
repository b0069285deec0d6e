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

/** Return the parameters that a trial by hand may give: a derived one is computed. */
export function inputsOf(spec) {
  return spec.parameters.filter((one) => one.type === "range" || one.type === "choice");
}

/**
 * Return what a parameter begins with in the form of a trial by hand: its value in `trial`, which is to be repeated; the
 * value that it is frozen at, since the form sends what the user leaves as it is; its value in `best`; or its middle.
 */
export function firstValue(one, trial, best = null) {
  return trial?.parameters[one.name] ?? one.frozen_value ?? best?.parameters[one.name] ?? middle(one);
}

function middle(one) {
  if (one.type === "choice") return one.values[0];
  const [low, high] = one.bounds;
  const value = one.scaling === "log" ? Math.sqrt(low * high) : (low + high) / 2;
  return one.parameter_type === "int" ? Math.round(value) : value;
}

/** Return whether a key of a JSON object, which is a text like "1.0" or "true", stands for a value. */
function isKeyOf(value, key) {
  return typeof value === "number" ? Number(key) === value : key === String(value);
}

/** Return the names of the parameters that exist with these values; all of them where none depends on another one. */
export function activeNames(parameters, values) {
  const dependents = (one) => Object.entries(one.dependent_parameters ?? {});
  const below = new Set(parameters.flatMap((one) => dependents(one).flatMap(([, names]) => names)));
  const active = new Set();
  const add = (one) => {
    active.add(one.name);
    const chosen = dependents(one).flatMap(([key, names]) => (isKeyOf(values[one.name], key) ? names : []));
    for (const next of parameters) if (chosen.includes(next.name) && !active.has(next.name)) add(next);
  };
  for (const one of parameters) if (!below.has(one.name)) add(one);
  return active;
}

/** Return the parameters of a trial by hand from the texts of their fields, without those that do not exist with the others. */
export function typedParameters(inputs, textOf) {
  const read = (one) => (one.type === "choice" ? JSON.parse(textOf(one.name)) : Number(textOf(one.name)));
  const values = Object.fromEntries(inputs.map((one) => [one.name, read(one)]));
  const active = activeNames(inputs, values);
  return Object.fromEntries(Object.entries(values).filter(([name]) => active.has(name)));
}
