// The table of trials: sorted, filtered, with the columns that a reader chooses; marked trials stand out in all charts.

import { plural, words } from "./format.js";
import { isBest, isQueued, lastAttempt } from "./records.js";
import { FILTER_HELP, cellText, chosenTrials, columns, csv, filterOf } from "./table_data.js";
import { taskLinks } from "./trial_view.js";
import { badge, download, el } from "./ui.js";

const PAGE = 100;
/** The reader's choices; kept while the table is redrawn. `shown` overrides which columns are shown at first. */
const view = { sort: "index", down: true, filters: {}, page: 0, shown: {}, filtering: false, onlyMarked: false };

/**
 * Draw the table into `place`. `select` opens a trial; `mark` is called with indexes and whether they are marked.
 * The heads, with the fields of the filters, stay while the columns do: a reader may be typing.
 */
export function trialTable(place, state, select, mark) {
  const all = columns(state);
  const shown = all.filter((one) => view.shown[one.key] ?? !one.extra);
  const again = (change) => {
    Object.assign(view, change);
    trialTable(place, state, select, mark);
  };
  const focused = document.activeElement?.id;
  const found = chosenTrials(state, all, { ...view, marked: view.onlyMarked ? state.marked : null });
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  view.page = Math.min(view.page, pages - 1);
  const key = JSON.stringify([shown.map((one) => one.key), view.filtering, view.sort, view.down, Object.keys(state.data.trial_counts), state.marked.size, view.onlyMarked]);
  if (place.dataset.key !== key) {
    place.dataset.key = key;
    place.replaceChildren(toolbar(state, all, again), el("p", { class: "small muted", id: "filter-result" }), scrolled(state, shown, again), el("div", {}));
  }
  for (const button of place.querySelectorAll("[data-for]")) button.onclick = () => COMMANDS[button.dataset.for](state, shown, found, mark);
  place.querySelector("tbody").replaceChildren(...found.slice(view.page * PAGE, (view.page + 1) * PAGE).map((trial) => row(trial, shown, state, select, mark)));
  const filtered = found.length === state.trials.size ? "" : `${plural(found.length, "trial")} of ${state.trials.size}. `;
  place.querySelector("#filter-result").textContent = view.filtering ? `${filtered}${FILTER_HELP}` : filtered;
  place.lastElementChild.replaceWith(pager(pages, found.length, again));
  if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

const COMMANDS = {
  csv: (state, shown, found) => download(`${state.name}.csv`, csv(shown, found), "text/csv"),
  mark: (state, shown, found, mark) => mark(found.map((one) => one.index), true),
  unmark: (state, shown, found, mark) => mark([...state.marked], false),
};

function toolbar(state, all, again) {
  const statuses = Object.keys(state.data.trial_counts).map(words);
  const options = ["", ...statuses].map((s) => el("option", { value: s, selected: s === (view.filters.status ?? "") }, s || "all"));
  const choose = (event) => again({ filters: { ...view.filters, status: event.target.value }, page: 0 });
  const toggle = () => again({ filtering: !view.filtering, filters: {}, page: 0 });
  const command = (name, label, title) => el("button", { type: "button", "data-for": name, id: `table-${name}`, title }, label);
  const only = (event) => again({ onlyMarked: event.target.checked, page: 0 });
  return el(
    "header",
    { class: "top" },
    el("h2", {}, "Trials"),
    el(
      "div",
      { class: "actions" },
      el("label", {}, "Status ", el("select", { id: "status-filter", onchange: choose }, options)),
      el("button", { type: "button", id: "table-filter", "aria-pressed": String(view.filtering), onclick: toggle }, "Filter"),
      columnChooser(all, again),
      command("mark", "Mark these", "Marked trials stand out in the charts"),
      state.marked.size ? command("unmark", `Unmark ${state.marked.size}`) : "",
      state.marked.size ? el("label", {}, el("input", { type: "checkbox", id: "only-marked", checked: view.onlyMarked, onchange: only }), " marked only") : "",
      command("csv", "CSV", "Download these trials with these columns"),
    ),
  );
}

function columnChooser(all, again) {
  const box = (column) => {
    const change = (event) => again({ shown: { ...view.shown, [column.key]: event.target.checked } });
    const input = el("input", { type: "checkbox", id: `column-${column.key}`, checked: view.shown[column.key] ?? !column.extra, onchange: change });
    return el("label", {}, input, ` ${column.label}`);
  };
  // The number of a trial is how it is opened.
  const menu = el("details", { class: "menu", ontoggle: () => (view.choosing = menu.open), open: view.choosing }, el("summary", {}, "Columns"), el("div", { class: "card" }, all.slice(1).map(box)));
  return menu;
}

function scrolled(state, shown, again) {
  const filters = () => el("tr", { class: "filters" }, shown.map((column) => el("td", {}, filterField(column, again))));
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of trials" },
    el(
      "table",
      { class: "trials" },
      el("caption", { class: "unseen" }, `Trials of ${state.name}; the column buttons sort`),
      el("thead", {}, el("tr", {}, shown.map((one) => headCell(one, again))), view.filtering ? filters() : null),
      el("tbody", {}),
    ),
  );
}

function headCell(column, again) {
  const sorted = view.sort === column.key;
  const click = () => again({ sort: column.key, down: sorted ? !view.down : Boolean(column.numeric), page: 0 });
  const mark = sorted ? (view.down ? " ▾" : " ▴") : "";
  const button = el("button", { type: "button", id: `sort-${column.key}`, onclick: click }, column.label, el("span", { "aria-hidden": "true" }, mark));
  const order = sorted ? (view.down ? "descending" : "ascending") : null;
  return el("th", { scope: "col", "aria-sort": order, class: column.numeric ? "value" : null }, button);
}

function filterField(column, again) {
  const input = el("input", { type: "text", id: `filter-${column.key}`, size: 8, "aria-label": `Filter by ${column.label}`, title: FILTER_HELP, autocomplete: "off" });
  input.value = view.filters[column.key] ?? "";
  input.addEventListener("input", () => {
    input.setAttribute("aria-invalid", String(filterOf(input.value) === null));
    again({ filters: { ...view.filters, [column.key]: input.value }, page: 0 });
  });
  return input;
}

function row(trial, shown, state, select, mark) {
  const cells = shown.map((column) => {
    if (column.key === "index") return indexCell(trial, state, select, mark);
    if (column.key === "status") return statusCell(trial, state);
    if (column.key === "app") return appCell(lastAttempt(trial));
    if (column.key === "task") return el("td", {}, ...taskLinks(lastAttempt(trial)));
    if (column.key === "reason") return el("td", { class: "clip", title: trial.reason }, trial.reason ?? "–");
    return el("td", { class: column.numeric ? "value" : null }, cellText(column, trial));
  });
  const classes = [trial.index === state.selected ? "selected" : "", state.marked.has(trial.index) ? "marked" : ""].join(" ").trim();
  return el("tr", { "data-trial": trial.index, class: classes || null }, cells);
}

function indexCell(trial, state, select, mark) {
  const best = isBest(state, trial.index);
  const label = `Trial ${trial.index}${best ? ", best" : ""}: show details`;
  const box = el("input", { type: "checkbox", id: `mark-${trial.index}`, "aria-label": `Mark trial ${trial.index}`, checked: state.marked.has(trial.index) });
  box.addEventListener("change", () => mark([trial.index], box.checked));
  const button = el("button", { type: "button", class: "link", id: `trial-${trial.index}`, "aria-label": label, onclick: () => select(trial.index) }, String(trial.index));
  return el("th", { scope: "row" }, box, " ", button, best ? el("span", { class: "star", "aria-hidden": "true" }, " ★") : null);
}

function statusCell(trial, state) {
  const infeasible = state.data.infeasible.includes(trial.index) ? el("div", { class: "small muted" }, "violates a constraint") : null;
  const reason = trial.reason ? el("div", { class: "small muted clip", title: trial.reason }, trial.reason) : null;
  return el("td", {}, isQueued(trial) ? badge("QUEUED") : badge(trial.status), infeasible, reason);
}

function appCell(attempt) {
  if (!attempt) return el("td", { class: "muted" }, "–");
  const text = attempt.app_handle ?? "being submitted";
  return el("td", { class: "mono small clip", title: text }, text.replace(/^(\w+):\/\/[^/]*\//, "$1 "));
}

function pager(pages, total, again) {
  if (pages < 2) return el("div", {});
  const button = (text, page) => el("button", { type: "button", id: `page-${text}`, disabled: page < 0 || page >= pages, onclick: () => again({ page }) }, text);
  const shown = `page ${view.page + 1} of ${pages}, ${total} trials`;
  return el("nav", { class: "pager", "aria-label": "Pages of trials" }, button("Previous", view.page - 1), shown, button("Next", view.page + 1));
}
