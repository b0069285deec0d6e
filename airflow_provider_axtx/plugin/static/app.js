// The page: a list of experiments, or one experiment. It refreshes while its tab is visible.

import { showComparison } from "./compare.js";
import { showExperiment } from "./experiment.js";
import { lineTable, showList, storeOf } from "./list.js";
import { el, followTheme, framed, load, refreshTimes, Refused } from "./ui.js";

const main = document.getElementById("main");
const problem = document.getElementById("problem");
const asked = new URLSearchParams(location.search);
/** The Airflow connection of the experiment store; null is the default connection. */
const conn = asked.get("conn_id");

let stop = () => {};

/** Show an error; the content of the page stays. */
function showProblem(error) {
  problem.hidden = !error;
  problem.textContent = error ? error.message : "";
}

/**
 * Call `refresh` repeatedly until the page shows another view; a hidden tab makes no calls.
 * `refresh` returns the number of seconds until the next call.
 */
function keepRefreshing(refresh) {
  let timer = 0;
  let ended = false;
  let isRunning = false;
  let isAsked = false;
  const again = async () => {
    clearTimeout(timer);
    isAsked = isRunning; // by an event: one more call when the present one has ended, never two at the same time
    if (ended || document.hidden || isRunning) return;
    isRunning = true;
    let pause = 10;
    try {
      pause = await refresh();
      refreshTimes();
      showProblem(null);
    } catch (error) {
      showProblem(error);
      if (error instanceof Refused) {
        main.setAttribute("aria-busy", "false");
        if (main.querySelector("h1") === null) main.replaceChildren(el("h1", {}, "Experiments"));
        return;
      }
    } finally {
      isRunning = false;
    }
    if (!ended) timer = setTimeout(again, isAsked ? 0 : pause * 1000);
  };
  document.addEventListener("visibilitychange", again);
  window.addEventListener("refresh", again);
  stop();
  stop = () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", again);
    window.removeEventListener("refresh", again);
  };
  again();
}

/** Show why experiments may be missing from the default store. */
async function showWarning() {
  const { data } = await load("stores", {});
  if (data.warning && (conn ?? data.default) === data.default) {
    main.before(el("p", { id: "warning", class: "warning", role: "status" }, data.warning));
  }
}

function showDagRun(dagId, runId) {
  let last = "";
  const refresh = async () => {
    const { text, data } = await load("dag-runs", { dag_id: dagId, run_id: runId });
    main.setAttribute("aria-busy", "false");
    const lines = data.experiments;
    const unreadable = Object.values(data.unreadable);
    if (lines.length === 1 && !unreadable.length) {
      openExperiment(lines[0].name, storeOf(lines[0]));
      return 3600;
    }
    if (text !== last) {
      const none = "No experiment yet: this DAG run has not asked for a trial.";
      const shown = lines.length ? lineTable(lines, "Experiments of this DAG run", conn) : el("p", { class: "muted" }, none);
      main.replaceChildren(el("h1", {}, "Experiments of this DAG run"), el("div", { class: "scroll" }, shown));
    }
    last = text;
    if (unreadable.length) throw new Error(unreadable.join(" "));
    return 3;
  };
  keepRefreshing(refresh);
}

function openExperiment(name, store, trial = null) {
  document.title = name;
  keepRefreshing(showExperiment(main, name, store, trial));
}

function start() {
  if (asked.has("experiment")) openExperiment(asked.get("experiment"), conn, asked.get("trial"));
  else if (asked.has("compare") || asked.has("compare_dag")) keepRefreshing(showComparison(main, asked.getAll("compare"), asked.get("compare_dag"), conn));
  else if (asked.has("dag_id")) showDagRun(asked.get("dag_id"), asked.get("run_id"));
  else showList(main, { conn, keepRefreshing, showProblem });
  showWarning().catch(showProblem);
}

document.documentElement.classList.toggle("framed", framed);
followTheme(() => window.dispatchEvent(new Event("themechange")));
start();
