// Helpers for every part of the page: elements, times, links into Airflow, light and dark, requests.

import { STATUSES, ago, countsText, queryOf, words } from "./format.js";

/** Make an element. Text is always set as text, never as markup: names come from users. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function time(seconds) {
  if (!seconds) return "–";
  const at = new Date(seconds * 1000);
  return el("time", { datetime: at.toISOString(), title: at.toLocaleString() }, ago(at));
}

/** Update every relative time, such as "3 min ago". */
export function refreshTimes() {
  for (const one of document.querySelectorAll("time")) one.textContent = ago(new Date(one.dateTime));
}

export function badge(status) {
  return el("span", { class: `badge ${String(status).toLowerCase()}` }, words(status));
}

/** Return the trials by status as a bar; its text states the numbers. */
export function statusBar(counts, planned) {
  const total = Object.values(counts).reduce((sum, one) => sum + one, 0);
  const label = countsText(counts) || "no trial yet";
  const bar = el("span", { class: "bar", role: "img", "aria-label": label, title: label });
  for (const status of STATUSES) {
    if (!counts[status]) continue;
    const part = el("span", { class: status.toLowerCase() });
    part.style.flexGrow = counts[status];
    bar.append(part);
  }
  const left = Math.max(0, (planned ?? total) - total);
  if (left || !total) {
    const rest = el("span", { class: "rest" });
    rest.style.flexGrow = left || 1;
    bar.append(rest);
  }
  return bar;
}

/** Return an address of this page with those `parameters` that are not empty. */
export function pageUrl(parameters) {
  const query = queryOf(parameters);
  return query ? `?${query}` : "./";
}

export const framed = window.parent !== window;

/** Where Airflow's own pages begin: this page is at <root>axtx/. */
export const ROOT = location.pathname.replace(/[^/]*\/[^/]*$/, "");

export function taskUrl([dag, run, task, mapIndex, tryNumber]) {
  const mapped = mapIndex >= 0 ? `/mapped/${mapIndex}` : "";
  const path = `dags/${encodeURIComponent(dag)}/runs/${encodeURIComponent(run)}/tasks/${encodeURIComponent(task)}`;
  return `${ROOT}${path}${mapped}${tryNumber === null ? "" : `?try_number=${tryNumber}`}`;
}

export function dagsUrl(dag) {
  return `${ROOT}dags/${encodeURIComponent(dag)}`;
}

export function runUrl([dag, run]) {
  return `${ROOT}dags/${encodeURIComponent(dag)}/runs/${encodeURIComponent(run)}`;
}

/** Return a link to one of Airflow's own pages. The frame may not navigate Airflow's window, so it clicks a link there. */
export function airflowLink(url, ...children) {
  const leave = (event) => {
    if (!framed) return;
    event.preventDefault();
    const outer = window.parent.document.createElement("a");
    outer.href = url;
    if (event.ctrlKey || event.metaKey || event.shiftKey) outer.target = "_blank";
    window.parent.document.body.append(outer);
    outer.click();
    outer.remove();
  };
  return el("a", { href: url, onclick: leave, class: "outer" }, ...children);
}

/** The part of Airflow's address before the frame's own path; see `links.page_url`. */
const VIEW = /^(.*\/plugin\/experiments)(\/|$)/;

/** Set a parameter of this page's address, and of Airflow's address around it; null removes it. */
export function setAddress(name, value) {
  const query = new URLSearchParams(location.search);
  if (value === null) query.delete(name);
  else query.set(name, value);
  history.replaceState(history.state, "", `?${query}`);
  const outer = framed ? window.parent : null;
  const view = outer?.location.pathname.match(VIEW);
  if (view) outer.history.replaceState(outer.history.state, "", `${view[1]}${location.pathname}${location.search}`);
}

/** Let the browser save a text as a file. The frame may not be allowed to, so it clicks a link in Airflow's window. */
export function download(name, text, type) {
  const outer = framed ? window.parent : window;
  const link = outer.document.createElement("a");
  link.href = outer.URL.createObjectURL(new outer.Blob([text], { type }));
  link.download = name;
  outer.document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => outer.URL.revokeObjectURL(link.href), 60_000);
}

/** Follow Airflow's light or dark, or the system's when the page stands alone. */
export function followTheme(changed) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const outer = framed ? window.parent.document.documentElement : null;
  const apply = () => {
    const dark = outer && /\b(dark|light)\b/.test(outer.className) ? outer.classList.contains("dark") : system.matches;
    const theme = dark ? "dark" : "light";
    if (document.documentElement.dataset.theme === theme) return;
    document.documentElement.dataset.theme = theme;
    changed();
  };
  system.addEventListener("change", apply);
  if (outer) new MutationObserver(apply).observe(outer, { attributes: true, attributeFilter: ["class"] });
  apply();
}

export class Refused extends Error {}

/** The last answer of each path: the server does not send the same answer again. */
const answers = new Map();

/** Fetch JSON from this page's server; `isNew` says whether it is another answer than the last one of this path. */
export async function load(path, parameters) {
  const url = `api/${path}?${queryOf(parameters)}`;
  const known = answers.get(path);
  const headers = known?.url === url ? { "If-None-Match": known.etag } : {};
  const answer = await fetch(url, { credentials: "same-origin", headers });
  if (answer.status === 304) return { ...known, isNew: false };
  const text = await answer.text();
  if (answer.ok) {
    const loaded = { url, etag: answer.headers.get("ETag"), text, data: JSON.parse(text) };
    answers.set(path, loaded);
    return { ...loaded, isNew: known?.text !== text };
  }
  if (answer.status === 401) throw new Refused("You are not logged in. Log in to Airflow and load this page again.");
  if (answer.status === 403) throw new Refused("You do not have the right to see this.");
  let detail = `The server answered ${answer.status}.`;
  try {
    detail = JSON.parse(text).detail ?? detail;
  } catch {
    // A proxy in between has answered, and not in JSON.
  }
  throw answer.status === 404 ? new Refused(detail) : new Error(detail);
}
