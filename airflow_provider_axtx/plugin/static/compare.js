// Several experiments side by side: the best value so far, the best parameters, what differs in their definitions.

import { chooser, chosen } from "./choosers.js";
import { drawCharts, loadPlotly } from "./charts.js";
import { ACROSS, acrossOptions, differences, isComparable, parameterNames, ranking } from "./compare_data.js";
import { duration, number, plain, plural } from "./format.js";
import { isBusy } from "./experiment.js";
import { badge, el, load, pageUrl, time } from "./ui.js";

/** Experiments that are compared at once. */
const MOST = 10;

/** Show a comparison in `main`: of the experiments named, or of the latest of a DAG; return the function that refreshes it. */
export function showComparison(main, names, dagId, conn) {
  const charts = el("section", { id: "charts", "aria-label": "charts" });
  const tables = el("section", { id: "comparison", "aria-label": "tables" });
  const title = dagId ? `The latest experiments of ${dagId}` : "Compare experiments";
  const crumbs = el("nav", { class: "crumbs", "aria-label": "Breadcrumb" }, el("a", { href: pageUrl({ conn_id: conn }) }, "Experiments"), " /");
  loadPlotly();
  document.title = title;
  let state = null;
  const draw = () => drawCharts(charts, [bestSoFar], state, (name) => location.assign(pageUrl({ experiment: name, conn_id: conn })));
  window.addEventListener("themechange", () => state && draw());
  return async () => {
    const wanted = dagId ? await latestOf(dagId, conn) : names.slice(0, MOST);
    const { data, isNew } = wanted.length ? await load("compare", { name: wanted, conn_id: conn }) : { data: { experiments: [], missing: [] }, isNew: state === null };
    main.setAttribute("aria-busy", "false");
    if (isNew) {
      state = { experiments: ranking(data.experiments) };
      if (!main.contains(charts)) main.replaceChildren(crumbs, el("h1", {}, title), charts, tables);
      draw();
      const missing = data.missing.length ? [el("p", { class: "muted" }, `Not found, or without your right to read: ${data.missing.join(", ")}.`)] : [];
      tables.replaceChildren(...missing, ...(state.experiments.length ? sections(state.experiments, conn) : [el("p", { class: "muted" }, "There is nothing to compare.")]));
    }
    return data.experiments.some(isBusy) ? 5 : 30;
  };
}

async function latestOf(dagId, conn) {
  const { data } = await load("experiments", { dag_id: dagId, conn_id: conn, limit: MOST });
  return data.experiments.map((line) => line.name);
}

const bestSoFar = {
  id: "best-so-far",
  title: "Best so far",
  wide: true,
  applies: (state) => state.experiments.length > 0 && isComparable(state.experiments) && state.experiments.some((one) => one.progress.length),
  choosers: (state, redraw) => [chooser("across", "Over", acrossOptions(state.experiments), redraw)],
  draw(state, c) {
    const across = ACROSS[chosen.across];
    const [goal] = state.experiments[0].objective;
    const traces = state.experiments.map((one, i) => ({
      type: "scatter", mode: "lines+markers", name: plain(one.name), x: one.progress.map(across.of), y: one.progress.map((point) => point[4]),
      customdata: one.progress.map(() => one.name), hoverinfo: "text", text: one.progress.map((point) => `<b>${plain(one.name)}</b><br>${number(point[4])} after ${plural(point[0], "trial")}`),
      line: { shape: "hv", width: 2, color: c.series[i % c.series.length], dash: i < c.series.length ? "solid" : "dash" }, marker: { size: 5 },
    }));
    return {
      traces,
      axes: { height: 380, xaxis: { title: { text: across.title }, rangemode: "tozero" }, yaxis: { title: { text: plain(goal.label) } } },
      summary: `${goal.minimize ? "Lower" : "Higher"} is better. The best is ${state.experiments[0].name}${state.experiments[0].best ? ` with ${number(state.experiments[0].best.value)}` : ""}.`,
    };
  },
};

function sections(experiments, conn) {
  const heads = experiments.map((one) => el("a", { href: pageUrl({ experiment: one.name, conn_id: conn }) }, one.name));
  const note = isComparable(experiments) ? "" : el("p", { class: "muted" }, "They do not have one and the same objective, so their values do not compare.");
  const facts = [
    ["Status", experiments.map((one) => badge(one.status))],
    ["Best value", experiments.map(bestText)],
    ["Completed trials", experiments.map((one) => `${one.trial_counts.COMPLETED ?? 0} of ${one.trials}`)],
    ["Time", experiments.map((one) => duration(one.seconds))],
    ["Core-hours", experiments.map((one) => number(one.cpu_hours))],
    ["GPU-hours", experiments.map((one) => number(one.gpu_hours))],
    ["Created", experiments.map((one) => time(one.created_at))],
  ];
  const parameters = parameterNames(experiments).map((name) => [name, experiments.map((one) => number(one.best?.parameters[name]))]);
  const different = differences(experiments.map((one) => one.spec));
  return [
    note,
    side("Overview", heads, facts),
    parameters.length ? side("Best parameters", heads, parameters, "mono") : "",
    different.length ? side("Differences of the definitions", heads, different.map(([path, texts]) => [path, texts.map((text) => text ?? "–")]), "mono") : el("p", { class: "muted" }, "Their definitions are the same, apart from name and description."),
  ].filter(Boolean);
}

function bestText(one) {
  if (one.objective.length > 1) return `${one.frontier} on the frontier`;
  return one.best ? `${number(one.best.value)} (trial ${one.best.trial_index})` : "–";
}

/** Return a table with a column for each experiment. */
function side(title, heads, rows, kind = null) {
  const line = ([name, cells]) => el("tr", {}, el("th", { scope: "row" }, name), cells.map((cell) => el("td", { class: kind }, cell)));
  return el(
    "section",
    {},
    el("h2", {}, title),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": title },
      el(
        "table",
        { class: "side" },
        el("caption", { class: "unseen" }, title),
        el("thead", {}, el("tr", {}, el("td", {}), heads.map((head) => el("th", { scope: "col" }, head.cloneNode(true))))),
        el("tbody", {}, rows.map(line)),
      ),
    ),
  );
}
