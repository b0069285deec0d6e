// The page: a list of experiments, or one experiment. It refreshes while its tab is visible.

import { isBusy, showExperiment } from "./experiment.js";
import { number } from "./format.js";
import { airflowLink, badge, dagsUrl, el, followTheme, framed, load, pageUrl, refreshTimes, Refused, statusBar, time } from "./ui.js";

const main = document.getElementById("main");
const problem = document.getElementById("problem");
const asked = new URLSearchParams(location.search);
/** The Airflow connection of the experiment store; null is the default connection. */
const conn = asked.get("conn_id");
const DEFAULT = "ax_default";
const PAGE = 50;

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
  const again = async () => {
    clearTimeout(timer);
    if (ended || document.hidden) return;
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
    }
    if (!ended) timer = setTimeout(again, pause * 1000);
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

function bestOf(line) {
  if (line.objective.length > 1) return line.frontier ? `${line.frontier} on the Pareto frontier` : "–";
  return line.best === null ? "–" : `${number(line.best.value)} (trial ${line.best.trial_index})`;
}

/** Return the `conn_id` of a line for addresses; null for the default store. */
function storeOf(line) {
  return line.conn_id === DEFAULT ? null : line.conn_id;
}

/** Show the store of a line if it is not the page's own. */
function elsewhere(line) {
  return line.conn_id === (conn ?? DEFAULT) ? null : el("div", { class: "muted small" }, line.conn_id);
}

function row(line) {
  const goals = line.objective.map((goal) => `${goal.minimize ? "min" : "max"} ${goal.label}`).join(", ");
  const progress = line.planned_trials ? `${line.ended} of ${line.planned_trials}` : `${line.ended} of ${line.trials}`;
  return el(
    "tr",
    { "data-experiment": line.name },
    el("th", { scope: "row" }, el("a", { href: pageUrl({ experiment: line.name, conn_id: storeOf(line) }) }, line.name), elsewhere(line)),
    el("td", {}, badge(line.status), line.tags.map((tag) => el("span", { class: "tag" }, tag)), line.stop_reason ? el("div", { class: "muted small" }, line.stop_reason) : null),
    el("td", {}, line.problem ? el("div", { class: "warning small" }, line.problem) : goals),
    el("td", { class: "value" }, bestOf(line)),
    el("td", { class: "progress" }, statusBar(line.trial_counts, line.planned_trials), el("span", {}, progress)),
    el("td", {}, time(line.last_activity_at)),
  );
}

function table(lines, caption) {
  const heads = ["Experiment", "Status", "Objective", "Best so far", "Trials ended", "Last activity"];
  return el(
    "table",
    { class: "list" },
    el("caption", { class: "unseen" }, caption),
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, lines.map(row)),
  );
}

/** Show why experiments may be missing from the default store. */
async function showWarning() {
  const { data } = await load("stores", {});
  if (data.warning && (conn ?? data.default) === data.default) {
    main.before(el("p", { id: "warning", class: "warning", role: "status" }, data.warning));
  }
}

/** Add a field to choose the experiment store, if there is more than one. */
async function addStores(place) {
  const { data } = await load("stores", {});
  const shown = conn ?? data.default;
  const stores = data.stores.includes(shown) ? data.stores : [...data.stores, shown];
  if (stores.length < 2) return;
  const choose = (event) => location.assign(pageUrl({ conn_id: event.target.value === data.default ? null : event.target.value }));
  const options = stores.map((one) => el("option", { value: one, selected: one === shown }, one));
  place.prepend(el("label", {}, "Store ", el("select", { id: "choose-store", onchange: choose }, options)));
}

/** Return what to do when there is no experiment. */
function emptyList() {
  const example = airflowLink(dagsUrl("tune_from_ui"), "tune_from_ui");
  return el(
    "div",
    { class: "muted" },
    el("p", {}, "There is no experiment yet, or none that you have the right to read."),
    el("p", {}, "To create one, trigger the example DAG ", example, ", or write a DAG with ax_trial_loop or AxOptimizeOperator."),
  );
}

function showList() {
  let offset = 0;
  let last = "";
  const place = el("div", { class: "scroll" });
  const pager = el("nav", { class: "pager", "aria-label": "Pages of experiments" });
  const search = el("input", { type: "search", placeholder: "Name contains…", "aria-label": "Search experiments by name" });
  const archive = el("input", { type: "checkbox", id: "show-archived" });
  const refresh = async () => {
    const wanted = search.value;
    const archived = archive.checked || null;
    const { text, data } = await load("experiments", { search: wanted, limit: PAGE, offset, conn_id: conn, archived });
    main.setAttribute("aria-busy", "false");
    if (wanted !== search.value) return 0; // the reader has typed more meanwhile
    if (text !== last) draw(data);
    last = text;
    return data.total === 0 || data.experiments.some(isBusy) ? 3 : 10; // an empty list: the first experiment may appear soon
  };
  const turn = (to) => {
    offset = to;
    keepRefreshing(refresh);
  };
  const draw = ({ experiments, total }) => {
    const missing = search.value ? "No experiment has such a name." : archive.checked ? "No experiment is archived." : null;
    const none = missing ? el("p", { class: "muted" }, missing) : emptyList();
    place.replaceChildren(experiments.length ? table(experiments, "Experiments") : none);
    const button = (text, to, usable) => el("button", { type: "button", disabled: !usable, onclick: () => turn(to) }, text);
    const shown = `${offset + 1}–${offset + experiments.length} of ${total}`;
    const buttons = [button("Previous", offset - PAGE, offset > 0), shown, button("Next", offset + PAGE, offset + PAGE < total)];
    pager.replaceChildren(...(total > PAGE ? buttons : []));
  };
  search.addEventListener("input", () => turn(0));
  archive.addEventListener("change", () => turn(0));
  const fields = el("div", { class: "choosers" }, el("label", {}, archive, " Archived"), search);
  main.replaceChildren(el("header", { class: "top" }, el("h1", {}, "Experiments"), fields), place, pager);
  document.title = "Experiments";
  addStores(fields).catch(showProblem);
  keepRefreshing(refresh);
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
      const shown = lines.length ? table(lines, "Experiments of this DAG run") : el("p", { class: "muted" }, none);
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
  else if (asked.has("dag_id")) showDagRun(asked.get("dag_id"), asked.get("run_id"));
  else showList();
  showWarning().catch(showProblem);
}

document.documentElement.classList.toggle("framed", framed);
followTheme(() => window.dispatchEvent(new Event("themechange")));
start();
