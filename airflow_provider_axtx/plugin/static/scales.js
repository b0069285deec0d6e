// Where a value lies on a scale, and which values a scale shows.

import { number } from "./format.js";

/** Return the range without values that are far away from the middle half; null when there are none. */
export function typicalRange(values) {
  if (values.length < 8) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const quantile = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const [low, high] = [quantile(0.25), quantile(0.75)];
  const reach = 4 * (high - low);
  const typical = sorted.filter((value) => value >= low - reach && value <= high + reach);
  if (reach === 0 || typical.length === sorted.length) return null;
  const pad = 0.05 * (typical.at(-1) - typical[0]);
  return [typical[0] - pad, typical.at(-1) + pad];
}

/** Return at most `most` items, evenly spread, with the first and the last. */
export function spread(items, most) {
  if (items.length <= most) return items;
  return Array.from({ length: most }, (_, i) => items[Math.round((i * (items.length - 1)) / (most - 1))]);
}

/** Return at most about `most` items: those that `keep` wants, and an even selection of the others, in their order. */
export function thinned(items, most, keep = () => false) {
  if (items.length <= most) return items;
  const kept = new Set(items.filter(keep));
  for (const one of spread(items.filter((item) => !kept.has(item)), Math.max(2, most - kept.size))) kept.add(one);
  return items.filter((item) => kept.has(item));
}

/**
 * Return the scale of a parameter or of values from 0 to 1: `at` places a value, `ticks` are places with their texts. A
 * trial that lacks the parameter, since it depends on another one or was added later, has the value undefined.
 */
export function scaleOf(parameter, values) {
  const known = values.filter((v) => v !== undefined);
  const numeric = known.every((v) => typeof v === "number");
  if (parameter?.type === "choice" || !numeric) {
    const names = [...new Set((parameter?.values ?? known).map(String))];
    const at = (v) => (names.length < 2 ? 0.5 : names.indexOf(String(v)) / (names.length - 1));
    return { at, ticks: names.map((name) => [at(name), name]) };
  }
  if (!parameter?.bounds && !known.length) return { at: () => 0.5, ticks: [] };
  const [low, high] = parameter?.bounds ?? extent(known);
  const log = parameter?.scaling === "log";
  const of = (v) => (log ? Math.log(v) : v);
  const width = of(high) - of(low) || 1;
  return { at: (v) => (of(v) - of(low)) / width, ticks: [[0, number(low)], [1, number(high)]] };
}

/** Return the least and the greatest value; a spread argument list would end at some 100,000 values. */
export function extent(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

/** Choices of how many trials are drawn as lines. */
export const LINES = { "best 100": 100, "best 20": 20 };

/** Return the choices for so many trials; more lines than the first limit would be one solid block. */
export function lineOptions(count) {
  const fewer = Object.keys(LINES).filter((name) => LINES[name] < count);
  return count > 300 ? [...fewer, "all"] : ["all", ...fewer];
}

/** Return the colour between `low`, `mid` and `high` (as #rrggbb) at a share from 0 to 1. */
export function mix({ low, mid, high }, share) {
  const parse = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const [from, to, t] = share < 0.5 ? [low, mid, share * 2] : [mid, high, share * 2 - 1];
  const [a, b] = [parse(from), parse(to)];
  return `rgb(${a.map((one, i) => Math.round(one + (b[i] - one) * t)).join()})`;
}

/** Count values in bins of one width: `[[start, end, count], ...]`. */
export function histogram(values, bins) {
  const [low, high] = extent(values);
  const width = (high - low) / bins || 1;
  const counts = Array.from({ length: high > low ? bins : 1 }, (_, i) => [low + i * width, low + (i + 1) * width, 0]);
  for (const value of values) counts[Math.min(counts.length - 1, Math.floor((value - low) / width))][2] += 1;
  return counts;
}
