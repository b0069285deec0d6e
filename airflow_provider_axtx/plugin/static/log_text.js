// Lines of a task's log, as Airflow's API sends them.

// eslint-disable-next-line no-control-regex -- the escape character begins a colour
const COLORS = /\u001b\[[0-9;]*m/g;

/** Return the lines of an answer's `content`: texts, or objects with `event` and `level`. */
export function linesOf(content) {
  return content.flatMap((one) => {
    const event = typeof one === "string" ? one : one.event;
    if (event === undefined || event === null || /^::(end)?group::/.test(event)) return [];
    const bad = ["error", "critical"].includes(typeof one === "string" ? "" : one.level);
    return String(event).replace(COLORS, "").split("\n").map((text) => ({ text, bad }));
  });
}

/** Return the lines that name a trial or its app: the log of a task that runs several trials. */
export function linesOfTrial(lines, index, handle) {
  const name = new RegExp(`\\btrial ${index}\\b`, "i");
  return lines.filter(({ text }) => name.test(text) || (handle && text.includes(handle)));
}

/** Return the text of the last lines. */
export function tail(lines, most) {
  return lines.slice(-most).map(({ text }) => text).join("\n");
}

/**
 * Return the task whose log has an app's output: in the groups of `ax_trial_loop` the app is awaited by the neighbour
 * of the task that submits it. The neighbour's try is not known.
 */
export function taskWithOutput([dag, run, task, mapIndex, tryNumber]) {
  // Without a try it is the first task of a trial that Airflow tasks do, whatever its name.
  if (tryNumber === null || !task.endsWith(".submit")) return [dag, run, task, mapIndex, tryNumber];
  return [dag, run, task.replace(/\.submit$/, ".wait"), mapIndex, null];
}

/** Return the path of a task instance in Airflow's API. */
export function taskInstancePath([dag, run, task]) {
  return `api/v2/dags/${encodeURIComponent(dag)}/dagRuns/${encodeURIComponent(run)}/taskInstances/${encodeURIComponent(task)}`;
}
