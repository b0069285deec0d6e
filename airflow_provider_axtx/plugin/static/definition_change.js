// Changes of the definition, and the request for an explanation: dialogs of users who may change the experiment.

import { textField } from "./dialogs.js";
import { change, why } from "./steering.js";

/** Return JSON values as a user edits them: separated by commas. */
function listText(values) {
  return values.map((value) => JSON.stringify(value)).join(", ");
}

function read(label, text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${label}: ${text || "nothing"} is not JSON; texts need double quotes.`);
  }
}

/** Return the field of a parameter that holds its values. */
function domainField(one) {
  return one.type === "range" ? "bounds" : "values";
}

function fieldsOf(one) {
  const field = domainField(one);
  return [
    textField(`${field}:${one.name}`, `${one.name}: ${field}`, { value: listText(one[field]), required: true }),
    textField(`frozen:${one.name}`, `${one.name}: frozen at (empty: it is tuned)`, { value: one.frozen_value === undefined ? "" : JSON.stringify(one.frozen_value) }),
  ];
}

/** Return the fields of a parameter that the user has changed. */
function changedFields(one, values) {
  const field = domainField(one);
  const domain = values[`${field}:${one.name}`];
  const frozen = values[`frozen:${one.name}`];
  const found = {};
  if (domain !== listText(one[field])) found[field] = read(one.name, `[${domain}]`);
  const before = one.frozen_value === undefined ? "" : JSON.stringify(one.frozen_value);
  if (frozen !== before) found.frozen_value = frozen === "" ? null : read(one.name, frozen);
  return found;
}

/** Return the changes that the fields of the dialog make. */
export function changesOf(spec, values) {
  const tuned = spec.parameters.filter((one) => one.type !== "derived");
  const parameters = Object.fromEntries(tuned.map((one) => [one.name, changedFields(one, values)]).filter(([, fields]) => Object.keys(fields).length));
  if (values.added) Object.assign(parameters, read("Parameters to add", values.added));
  const constraints = values.outcome_constraints.split("\n").map((line) => line.trim()).filter(Boolean);
  const before = spec.outcome_constraints ?? [];
  return {
    ...(Object.keys(parameters).length ? { parameters } : {}),
    ...(values.objective === spec.objective ? {} : { objective: values.objective }),
    ...(constraints.join("\n") === before.join("\n") ? {} : { outcome_constraints: constraints }),
  };
}

export function askDefinition(state, changed) {
  const { spec } = state;
  return change(state, changed, {
    title: "Change the definition",
    text: "The trials that follow have the new definition; the earlier ones stay, and the model goes on with them. Ax checks it when the next trial is generated.",
    confirm: "Change",
    path: "/definition",
    fields: [
      textField("objective", "Objective", { value: spec.objective, required: true }),
      textField("outcome_constraints", "Outcome constraints, one on a line", { lines: 2, value: (spec.outcome_constraints ?? []).join("\n") }),
      ...spec.parameters.filter((one) => one.type !== "derived").flatMap(fieldsOf),
      textField("added", "Parameters to add, as a JSON object by name; backfill_value is what earlier trials had", {
        lines: 3, placeholder: '{"depth": {"type": "range", "bounds": [1, 9], "parameter_type": "int", "backfill_value": 3}}',
      }),
      why(),
    ],
    body: (values) => ({ ...changesOf(spec, values), reason: values.reason }),
    said: "Recorded: another definition.",
  });
}

export function askExplanation(state, changed) {
  return change(state, changed, {
    title: "Explain the experiment?",
    text: "The next task that works on the experiment computes importance, contours and cross-validation from the trials that have completed. It takes as long as several generations; live apps go on.",
    confirm: "Explain",
    method: "POST",
    path: "/explanation",
    fields: [why()],
    body: ({ reason }) => ({ reason }),
    said: "Recorded: explain.",
  });
}
