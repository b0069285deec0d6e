// The last lines of an app's output, from the log of the task that waits for it, followed while the trial is open.

import { queryOf } from "./format.js";
import { linesOf, linesOfTrial, tail, taskInstancePath, taskWithOutput } from "./log_text.js";
import { isOpen, lastAttempt } from "./records.js";
import { ROOT, airflowLink, el, taskUrl } from "./ui.js";

const SHOWN_LINES = 200;
/** Lines that are kept: a log may have millions. */
const KEPT_LINES = 2000;
const FOLLOW_SECONDS = 3;

/** Fetch JSON from Airflow's API, with the rights of the user who looks. */
async function airflow(path) {
  const answer = await fetch(`${ROOT}${path}`, { credentials: "same-origin", headers: { Accept: "application/json" } });
  if (answer.ok) return answer.json();
  if (answer.status === 404) throw new Error("There is no log yet, or Airflow has removed it.");
  if (answer.status === 403) throw new Error("You do not have the right to read the logs of this DAG.");
  throw new Error(`Airflow answered ${answer.status}.`);
}

/** Return the number of the latest try of a task instance. */
async function latestTry(task) {
  const mapped = task[3] >= 0 ? `/${task[3]}` : "";
  return (await airflow(`${taskInstancePath(task)}${mapped}`)).try_number;
}

/** Read a log from where the last reading ended; return its new lines and where it ended. */
async function read(task, tryNumber, token) {
  const query = queryOf({ map_index: task[3], token, full_content: token ? null : false });
  const found = await airflow(`${taskInstancePath(task)}/logs/${tryNumber}?${query}`);
  return { lines: linesOf(found.content), token: found.continuation_token };
}

/** Return the section with a trial's log; it is read when a reader opens it. */
export function logSection(trial, state) {
  const attempt = lastAttempt(trial);
  if (!attempt?.task) return "";
  const task = taskWithOutput(attempt.task);
  const shares = [...state.trials.values()].some((other) => other.index !== trial.index && String(lastAttempt(other)?.task) === String(attempt.task));
  const text = el("pre", { class: "log", tabindex: "0", role: "region", "aria-label": `Log of trial ${trial.index}` }, "Loading…");
  const about = el("p", { class: "small muted" }, `The last ${SHOWN_LINES} lines ${shares ? "about this trial " : ""}in the log of the task ${task[2]}. `, airflowLink(taskUrl(task), "Whole log"));
  const section = el("details", { class: "log", id: "trial-log" }, el("summary", {}, "Log"), about, text);
  const wanted = shares ? (lines) => linesOfTrial(lines, trial.index, attempt.app_handle) : (lines) => lines;
  const isWanted = () => section.isConnected && section.open;
  const goesOn = () => isOpen(state.trials.get(trial.index) ?? trial);
  section.addEventListener("toggle", () => section.open && follow(task, text, wanted, isWanted, goesOn));
  return section;
}

/** Show a log until it has ended, the reader closes it, or something fails; a hidden tab makes no request. */
async function follow(task, text, wanted, isWanted, goesOn) {
  if (text.dataset.followed) return;
  text.dataset.followed = "1";
  let kept = [];
  let token = null;
  try {
    const tryNumber = task[4] ?? (await latestTry(task));
    while (isWanted()) {
      const open = goesOn(); // before the reading: what the app writes last is read once more
      if (!document.hidden) {
        const answer = await read(task, tryNumber, token);
        kept = [...kept, ...wanted(answer.lines)].slice(-KEPT_LINES);
        show(text, kept);
        token = answer.token;
        if (!token || !open) break;
      }
      await new Promise((done) => setTimeout(done, FOLLOW_SECONDS * 1000));
    }
  } catch (error) {
    text.textContent = error.message;
  }
  delete text.dataset.followed;
}

function show(text, lines) {
  const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 30;
  text.replaceChildren(tail(lines, SHOWN_LINES) || "There is no line yet.");
  if (atEnd) text.scrollTop = text.scrollHeight;
}
