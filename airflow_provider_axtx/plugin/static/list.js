// The list of experiments.

import { isBusy } from "./experiment.js";
import { number } from "./format.js";
import { airflowLink, badge, dagsUrl, el, load, pageUrl, statusBar, time } from "./ui.js";

const DEFAULT = "ax_default";
const PAGE = 50;

function bestOf(line) {
  if (line.objective.length > 1) return line.frontier ? `${line.frontier} on the Pareto frontier` : "–";
  return line.best === null ? "–" : `${number(line.best.value)} (trial ${line.best.trial_index})`;
}

/** Return the `conn_id` of a line for addresses; null for the default store. */
export function storeOf(line) {
  return line.conn_id === DEFAULT ? null : line.conn_id;
}

/** Show the store of a line if it is not the page's own. */
function elsewhere(line, conn) {
  return line.conn_id === (conn ?? DEFAULT) ? null : el("div", { class: "muted small" }, line.conn_id);
}

/** Return a line; `picked`, a set of names, adds a box to pick it. */
function row(line, conn, picked, changed) {
  const goals = line.objective.map((goal) => `${goal.minimize ? "min" : "max"} ${goal.label}`).join(", ");
  const progress = line.planned_trials ? `${line.ended} of ${line.planned_trials}` : `${line.ended} of ${line.trials}`;
  return el(
    "tr",
    { "data-experiment": line.name },
    el("th", { scope: "row" }, picked ? [box(line, picked, changed), " "] : null, el("a", { href: pageUrl({ experiment: line.name, conn_id: storeOf(line) }) }, line.name), elsewhere(line, conn)),
    el("td", {}, badge(line.status), line.tags.map((tag) => el("span", { class: "tag" }, tag)), line.stop_reason ? el("div", { class: "muted small" }, line.stop_reason) : null),
    el("td", {}, line.problem ? el("div", { class: "warning small" }, line.problem) : goals),
    el("td", { class: "value" }, bestOf(line)),
    el("td", { class: "progress" }, statusBar(line.trial_counts, line.planned_trials), el("span", {}, progress)),
    el("td", {}, time(line.last_activity_at)),
  );
}

function box(line, picked, changed) {
  const made = el("input", { type: "checkbox", checked: picked.has(line.name), "aria-label": `Pick ${line.name} to compare it` });
  made.addEventListener("change", () => {
    picked[made.checked ? "add" : "delete"](line.name);
    changed();
  });
  return made;
}

export function lineTable(lines, caption, conn, picked = null, changed = null) {
  const heads = ["Experiment", "Status", "Objective", "Best so far", "Trials ended", "Last activity"];
  return el(
    "table",
    { class: "list" },
    el("caption", { class: "unseen" }, caption),
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, lines.map((line) => row(line, conn, picked, changed))),
  );
}

/** Add a field to choose the experiment store, if there is more than one. */
async function addStores(place, conn) {
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

/** Show the list in `main`. `page` has `conn`, `keepRefreshing` and `showProblem`. */
export function showList(main, { conn, keepRefreshing, showProblem }) {
  let offset = 0;
  let last = "";
  const picked = new Set();
  const place = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Experiments" });
  const pager = el("nav", { class: "pager", "aria-label": "Pages of experiments" });
  const search = el("input", { type: "search", placeholder: "Name contains…", "aria-label": "Search experiments by name" });
  const archive = el("input", { type: "checkbox", id: "show-archived" });
  const compare = el("button", { type: "button", id: "compare", onclick: () => location.assign(pageUrl({ compare: [...picked], conn_id: conn })) });
  const count = () => {
    compare.textContent = picked.size ? `Compare ${picked.size}` : "Compare";
    compare.disabled = picked.size < 2;
  };
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
    place.replaceChildren(experiments.length ? lineTable(experiments, "Experiments", conn, picked, count) : none);
    const button = (text, to, usable) => el("button", { type: "button", disabled: !usable, onclick: () => turn(to) }, text);
    const shown = `${offset + 1}–${offset + experiments.length} of ${total}`;
    const buttons = [button("Previous", offset - PAGE, offset > 0), shown, button("Next", offset + PAGE, offset + PAGE < total)];
    pager.replaceChildren(...(total > PAGE ? buttons : []));
  };
  search.addEventListener("input", () => turn(0));
  archive.addEventListener("change", () => turn(0));
  const fields = el("div", { class: "choosers" }, el("label", {}, archive, " Archived"), search, compare);
  count();
  main.replaceChildren(el("header", { class: "top" }, el("h1", {}, "Experiments"), fields), place, pager);
  document.title = "Experiments";
  addStores(fields, conn).catch(showProblem);
  keepRefreshing(refresh);
}

