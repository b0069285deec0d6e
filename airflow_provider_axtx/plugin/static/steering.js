// What users want of an experiment: what is shown of it, and the buttons of those who may change it.

import { askDefinition, askExplanation } from "./definition_change.js";
import { ask, choiceField, textField } from "./dialogs.js";
import { number, plural } from "./format.js";
import { isOpen, liveApps } from "./records.js";
import { requestId, send } from "./requests.js";
import { changedLimits, firstValue, inputsOf, limitFields, typedParameters } from "./steering_data.js";
import { badge, el, time } from "./ui.js";

const DONE = { pause: "Paused", run: "Resumed", drain: "Drained", stop: "Stopped" };

/** Return what each state would do to the apps that are live now. */
function consequences(state) {
  const live = liveApps(state).length;
  const now = live ? `${plural(live, "app")} ${live === 1 ? "is" : "are"} live now.` : "No app is live now.";
  const let_end = live ? `${live === 1 ? "It goes" : "They go"} on to ${live === 1 ? "its" : "their"} end.` : "";
  return {
    pause: `${now} ${let_end} No other app is started until you resume the experiment.`,
    run: `${now} Free slots are filled with the next trials.`,
    drain: `${now} ${let_end} No other app is started, and the experiment ends then.`,
    stop: `${now} ${live ? `${live === 1 ? "It is" : "All of them are"} cancelled, and ${live === 1 ? "its trial is" : "their trials are"} abandoned. ` : ""}The experiment ends.`,
  };
}

/** Draw what is wanted of the experiment into `place`; `changed` is called after each change. */
export function drawSteering(place, state, changed) {
  const { data, mayEdit } = state;
  const text = JSON.stringify([data.steering, data.changes, data.tags, data.archived, mayEdit, liveApps(state).length]);
  if (place.dataset.shown === text) return; // a button that has the focus keeps it
  place.dataset.shown = text;
  const focused = document.activeElement?.id;
  const open = place.querySelector("details")?.open;
  place.replaceChildren(
    ...[
      wantedLine(data),
      data.tags.length ? el("p", { class: "small" }, "Tags: ", data.tags.map((tag) => el("span", { class: "tag" }, tag))) : "",
      mayEdit ? buttons(state, changed) : "",
      history(state, changed, open),
    ].filter(Boolean),
  );
  if (focused && place.querySelector(`#${CSS.escape(focused)}`)) document.getElementById(focused).focus({ preventScroll: true });
}

function wantedLine(data) {
  const { asked, limits } = data.steering;
  const parts = [];
  if (asked && data.steering.state !== "run") {
    parts.push(el("p", { id: "wanted" }, badge(data.status), ` ${DONE[asked.action]} by ${asked.requested_by} `, time(asked.requested_at), asked.reason ? `: ${asked.reason}` : "."));
  }
  const names = Object.keys(limits);
  if (names.length) parts.push(el("p", { class: "small muted" }, `Limits set by hand: ${names.map((name) => `${name} ${limitText(name, limits[name])}`).join(", ")}.`));
  return parts.length ? el("div", {}, parts) : "";
}

function limitText(name, value) {
  return name === "deadline" ? new Date(value * 1000).toLocaleString() : number(value);
}

function buttons(state, changed) {
  const { data } = state;
  const wanted = data.steering.state;
  const button = (id, label, onclick) => el("button", { type: "button", id: `do-${id}`, onclick }, label);
  const set = (to, title) => () => askState(state, to, title, changed);
  return el(
    "div",
    { class: "actions", role: "toolbar", "aria-label": "Steer the experiment" },
    wanted === "run" ? button("pause", "Pause", set("pause", "Pause the experiment?")) : button("resume", "Resume", set("run", "Resume the experiment?")),
    wanted === "drain" || wanted === "stop" ? "" : button("drain", "Drain", set("drain", "Drain the experiment?")),
    wanted === "stop" ? "" : button("stop", "Stop", set("stop", "Stop the experiment?")),
    button("extend", "Change limits", () => askLimits(state, changed)),
    state.spec ? button("queue", "Queue a trial", () => askTrial(state, null, changed)) : "",
    state.spec ? button("define", "Change the definition", () => askDefinition(state, changed)) : "",
    button("explain", "Explain", () => askExplanation(state, changed)),
    button("note", "Write a note", () => askNote(state, changed)),
    button("tags", "Tags", () => askTags(state, changed)),
    button("archive", data.archived ? "Take out of the archive" : "Archive", () => askArchive(state, changed)),
    data.changes.some((one) => one.is_open && one.action === "delete") ? "" : button("delete", "Delete", () => askDelete(state, changed)),
  );
}

/** Open a dialog, and send the change that its values make; an error stays in the dialog. */
export async function change(state, changed, { method = "PATCH", path = "", body, said, ...dialog }) {
  const id = requestId(); // of the dialog: sending it twice changes nothing twice
  const sent = await ask({
    ...dialog,
    submit: (values) => send(method, state, path, body(values), id),
  });
  if (sent) changed(said);
}

export const why = () => textField("reason", "Why (recorded with the change)");

function askState(state, to, title, changed) {
  const text = consequences(state)[to];
  return change(state, changed, {
    title,
    text,
    confirm: { pause: "Pause", run: "Resume", drain: "Drain", stop: "Stop" }[to],
    danger: to === "stop",
    fields: [why()],
    body: ({ reason }) => ({ state: to, reason }),
    said: `Recorded: ${to === "run" ? "resume" : to}. The experiment's task carries it out.`,
  });
}

function askLimits(state, changed) {
  const planned = state.data.planned_trials;
  const fields = limitFields(state.data.steering.limits, planned);
  return change(state, changed, {
    title: "Change the limits",
    text: `${planned ? `${planned} trials are planned now. ` : ""}A field that you leave as it is changes nothing, and one that you empty gives its limit back to the DAG. A lower limit lets live apps end.`,
    confirm: "Change",
    fields: [...fields.map(({ name, label, ...properties }) => textField(name, label, properties)), why()],
    body: (values) => ({ limits: changedLimits(fields, values), reason: values.reason }),
    said: "Recorded: other limits.",
  });
}

function askNote(state, changed) {
  return change(state, changed, {
    title: "Write a note",
    text: "Everybody who may read the experiment can read it. It cannot be removed.",
    confirm: "Write",
    method: "POST",
    path: "/notes",
    fields: [textField("text", "Note", { lines: 4, required: true })],
    body: ({ text }) => ({ text }),
    said: "The note is recorded.",
  });
}

function askTags(state, changed) {
  return change(state, changed, {
    title: "Tags",
    text: "Words that describe the experiment, separated by commas.",
    confirm: "Set",
    fields: [textField("tags", "Tags", { value: state.data.tags.join(", ") })],
    body: ({ tags }) => ({ tags: tags.split(",").map((tag) => tag.trim()).filter(Boolean) }),
    said: "The tags are recorded.",
  });
}

function askArchive(state, changed) {
  const archived = !state.data.archived;
  return change(state, changed, {
    title: archived ? "Archive the experiment?" : "Take the experiment out of the archive?",
    text: archived ? "The list shows it only with “Archived”. Its tasks go on as before." : "The list shows it again.",
    confirm: archived ? "Archive" : "Take out",
    fields: [why()],
    body: ({ reason }) => ({ archived, reason }),
    said: archived ? "The experiment is archived." : "The experiment is not archived any more.",
  });
}

function askDelete(state, changed) {
  return change(state, changed, {
    title: "Delete the experiment?",
    text: "The next cleanup (a maintenance DAG, or airflow ax cleanup) removes it with its trials, and the results and logs of their apps. Until then you can withdraw this.",
    confirm: "Delete",
    danger: true,
    method: "DELETE",
    fields: [],
    body: () => undefined,
    said: "Recorded: the experiment is to be deleted.",
  });
}

/** Ask for a trial by hand; its fields begin with the parameters of `trial`, or with those of the best trial. */
export function askTrial(state, trial, changed) {
  const best = state.trials.get(state.data.best) ?? null;
  const model = trial ?? best;
  const inputs = inputsOf(state.spec);
  const fields = inputs.map((one) => {
    const value = firstValue(one, trial, best);
    if (one.type === "choice") return choiceField(`p:${one.name}`, one.name, one.values, value);
    const step = one.parameter_type === "int" ? 1 : "any";
    return textField(`p:${one.name}`, `${one.name} (${number(one.bounds[0])} … ${number(one.bounds[1])})`, { type: "number", step, value, required: true });
  });
  const parametersOf = (values) => typedParameters(inputs, (name) => values[`p:${name}`]);
  return change(state, changed, {
    title: "Queue a trial by hand",
    text: `The next task that generates a trial runs these parameters before the optimizer's own${model ? `; they begin with those of trial ${model.index}` : ""}.`,
    confirm: "Queue",
    method: "POST",
    path: "/trials",
    fields: [...fields, why()],
    applies: (name, values) => !name.startsWith("p:") || name.slice(2) in parametersOf(values),
    body: (values) => ({ parameters: parametersOf(values), reason: values.reason }),
    said: "The trial is queued.",
  });
}

/** Return the buttons for one trial, for users who may change the experiment. */
export function trialActions(state, trial, changed) {
  if (!state.mayEdit) return [];
  const button = (id, label, onclick) => el("button", { type: "button", id: `trial-do-${id}`, onclick }, label);
  const ended = !isOpen(trial);
  const asked = state.data.changes.some((one) => one.is_open && one.trial_index === trial.index);
  return [
    ended || asked ? "" : button("stop", "Stop this trial", () => askStopTrial(state, trial, changed)),
    trial.status !== "FAILED" || asked ? "" : button("retry", "Run again", () => askRetry(state, trial, changed)),
    asked ? el("span", { class: "muted small" }, "A request for this trial is open.") : "",
    state.spec ? button("queue", "Queue a trial like this", () => askTrial(state, trial, changed)) : "",
  ].filter(Boolean);
}

function askStopTrial(state, trial, changed) {
  const live = trial.attempts.some((one) => one.app_handle && !one.finished_at);
  return change(state, changed, {
    title: `Stop trial ${trial.index}?`,
    text: `${live ? "Its app is live and is cancelled." : "It has no live app, and none is started."} The trial is abandoned, and its slot is free for the next one.`,
    confirm: "Stop the trial",
    danger: true,
    method: "POST",
    path: `/trials/${trial.index}/stop`,
    fields: [why()],
    body: ({ reason }) => ({ reason }),
    said: `Recorded: stop trial ${trial.index}.`,
  });
}

function askRetry(state, trial, changed) {
  return change(state, changed, {
    title: `Run trial ${trial.index} again?`,
    text: "Its task runs the same parameters in another attempt. When that task has ended, the next task that generates a trial runs them in a new trial.",
    confirm: "Run again",
    method: "POST",
    path: `/trials/${trial.index}/retry`,
    fields: [why()],
    body: ({ reason }) => ({ reason }),
    said: `Recorded: run trial ${trial.index} again.`,
  });
}

const SAID = {
  run: () => "resumed",
  pause: () => "paused",
  drain: () => "drained",
  stop: () => "stopped",
  limits: (one) => `set limits: ${Object.entries(one.arguments.limits).map(([name, value]) => `${name} ${value === null ? "as in the DAG" : limitText(name, value)}`).join(", ")}`,
  note: (one) => `wrote: ${one.arguments.text}`,
  tags: (one) => `set tags: ${one.arguments.tags.join(", ") || "none"}`,
  archive: () => "archived it",
  unarchive: () => "took it out of the archive",
  queue_trial: (one) => `queued a trial: ${Object.entries(one.arguments.parameters).map(([name, value]) => `${name} ${number(value)}`).join(", ")}`,
  retry_trial: (one) => `asked to run trial ${one.trial_index} again`,
  stop_trial: (one) => `stopped trial ${one.trial_index}`,
  change_definition: (one) => `changed the definition: ${one.arguments.differences?.join("; ") ?? JSON.stringify(one.arguments.changes)}`,
  analyze: () => "asked for an explanation",
  delete: () => "asked to delete the experiment",
  withdraw: (one) => `withdrew change ${one.arguments.position}`,
};

function history(state, changed, open) {
  const { changes } = state.data;
  if (!changes.length) return "";
  const pending = changes.filter((one) => one.is_open).length;
  const line = (one) => {
    const outcome = one.is_open ? el("strong", {}, " open") : one.outcome ? el("span", { class: "muted" }, ` → ${one.outcome}`) : "";
    const withdraw = state.mayEdit && one.is_open ? el("button", { type: "button", class: "link", id: `withdraw-${one.position}`, onclick: () => askWithdraw(state, one, changed) }, "withdraw") : "";
    const said = SAID[one.action] ?? (() => one.action);
    return el("li", {}, time(one.requested_at), ` ${one.requested_by} ${said(one)}${one.reason ? ` (${one.reason})` : ""}`, outcome, " ", withdraw);
  };
  const title = `Changes by users (${changes.length}${pending ? `, ${pending} open` : ""})`;
  return el("details", { class: "small", open: open || pending > 0 }, el("summary", {}, title), el("ul", { class: "history" }, [...changes].reverse().map(line)));
}

function askWithdraw(state, one, changed) {
  return change(state, changed, {
    title: "Withdraw this change?",
    text: "No task has carried it out yet, and none will.",
    confirm: "Withdraw",
    method: "DELETE",
    path: `/changes/${one.position}`,
    fields: [],
    body: () => undefined,
    said: "The change is withdrawn.",
  });
}
