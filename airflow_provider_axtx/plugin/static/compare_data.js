// What several experiments have in common, and what differs.

/**
 * Return a definition as a map from path to JSON text. Members of a list that have a name are found by it, so that
 * another order is no difference.
 */
export function flat(value, path = "") {
  const found = new Map();
  const add = (one, name) => {
    for (const [key, text] of flat(one, path ? `${path}.${name}` : String(name))) found.set(key, text);
  };
  const isNamed = Array.isArray(value) && value.length > 0 && value.every((one) => typeof one?.name === "string");
  if (isNamed) for (const { name, ...rest } of value) add(rest, name);
  else if (value !== null && typeof value === "object" && !Array.isArray(value)) for (const [name, one] of Object.entries(value)) add(one, name);
  else found.set(path, JSON.stringify(value) ?? "null");
  return found;
}

/** Return `[path, texts]` for each path that is not the same in all definitions; null where one does not have it. */
export function differences(definitions, ignored = ["name", "description"]) {
  const all = definitions.map((one) => flat(one ?? {}));
  const paths = [...new Set(all.flatMap((one) => [...one.keys()]))].filter((path) => !ignored.includes(path));
  return paths.map((path) => [path, all.map((one) => one.get(path) ?? null)]).filter(([, texts]) => new Set(texts).size > 1);
}

/** Return the names of the parameters of all experiments' best trials, in the order in which they appear. */
export function parameterNames(experiments) {
  return [...new Set(experiments.flatMap((one) => Object.keys(one.best?.parameters ?? {})))];
}

/** What the best value may be drawn over; `of` takes a point `[trials, seconds, core-hours, GPU-hours, value]`. */
export const ACROSS = {
  trials: { title: "completed trials", of: (point) => point[0] },
  hours: { title: "hours since the first trial", of: (point) => point[1] / 3600 },
  "core-hours": { title: "core-hours", of: (point) => point[2] },
  "GPU-hours": { title: "GPU-hours", of: (point) => point[3] },
};

/** Return what can be chosen: GPU-hours only where an app has used any. */
export function acrossOptions(experiments) {
  const hasGpus = experiments.some((one) => one.progress.some((point) => point[3] > 0));
  return Object.keys(ACROSS).filter((name) => name !== "GPU-hours" || hasGpus);
}

/** Return whether all experiments have one objective and the same one: else their values do not compare. */
export function isComparable(experiments) {
  return new Set(experiments.map((one) => JSON.stringify(one.objective))).size === 1 && experiments[0].objective.length === 1;
}

/** Return the experiments in the order of their best values, the best first; those without one come last. */
export function ranking(experiments) {
  if (!isComparable(experiments)) return experiments;
  const [{ minimize }] = experiments[0].objective;
  const gain = (one) => (one.best ? (minimize ? -one.best.value : one.best.value) : -Infinity);
  return [...experiments].sort((a, b) => gain(b) - gain(a));
}
