// Numbers, times and names as text. No module that the unit tests import touches the document.

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(3) : String(Number(value.toPrecision(5)));
}

/** Return the text of a metric, given as [mean, sem]. */
export function measured(pair) {
  if (!pair) return "–";
  return pair[1] ? `${number(pair[0])} ±\u00a0${number(Number(pair[1].toPrecision(2)))}` : number(pair[0]);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || seconds < 0) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Return how long ago a `Date` was; `now` is in milliseconds. */
export function ago(at, now = Date.now()) {
  const seconds = Math.max(0, (now - at) / 1000);
  if (seconds < 5) return "just now";
  return seconds < 86400 ? `${duration(seconds)} ago` : at.toLocaleString();
}

/** Return a count with its noun, for example "1 app" or "3 apps". */
export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

export const STATUSES = ["COMPLETED", "EARLY_STOPPED", "RUNNING", "STAGED", "CANDIDATE", "FAILED", "ABANDONED"];

/** Return a status as a word, for example "early stopped". */
export function words(status) {
  return String(status).toLowerCase().replace("_", " ");
}

export function countsText(counts) {
  return STATUSES.filter((s) => counts[s]).map((s) => `${counts[s]} ${words(s)}`).join(", ");
}

/** Escape a text for plotly, which interprets a small markup in its texts. */
export function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Return the parameters that are not empty as the query of an address; a list becomes a repeated parameter. */
export function queryOf(parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") query.append(name, one);
    }
  }
  return String(query);
}

function python(value) {
  if (typeof value === "boolean") return value ? "True" : "False";
  return JSON.stringify(value);
}

/** Quote a value for a POSIX shell. */
function shell(value) {
  const text = String(value);
  return /^[\w.,:/@+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A trial's parameters as text, to be used elsewhere. */
export const FORMATS = {
  JSON: (parameters) => JSON.stringify(parameters, null, 2),
  flags: (parameters) => Object.entries(parameters).map(([name, value]) => `--${name}=${shell(value)}`).join(" "),
  Python: (parameters) => `{${Object.entries(parameters).map(([name, value]) => `${JSON.stringify(name)}: ${python(value)}`).join(", ")}}`,
};
