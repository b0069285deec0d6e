// Contours of a grid of values: no drawing, only numbers.

/** Return the values below which each of `count` equal shares of the numbers lie, without the ends. */
export function quantiles(numbers, count) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const at = (i) => sorted[Math.round((i * (sorted.length - 1)) / count)];
  return [...new Set(Array.from({ length: count - 1 }, (_, i) => at(i + 1)))];
}

/** Return the share of the sorted numbers that is below a value, between 0 and 1. */
export function rank(sorted, value) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return sorted.length < 2 ? 0.5 : Math.min(1, low / (sorted.length - 1));
}

/** Return between which two of the ascending positions a position lies: the first one's index, and the share beyond it. */
function between(positions, at) {
  let i = 0;
  while (i < positions.length - 2 && at > positions[i + 1]) i += 1;
  const width = positions[i + 1] - positions[i];
  return [i, Math.max(0, Math.min(1, (at - positions[i]) / width))];
}

/** Return the value at a point, linear between the points of the grid; `grid[j][i]` is the value at `xs[i]`, `ys[j]`. */
export function valueAt(xs, ys, grid, x, y) {
  const [i, s] = between(xs, x);
  const [j, t] = between(ys, y);
  const lower = grid[j][i] * (1 - s) + grid[j][i + 1] * s;
  const upper = grid[j + 1][i] * (1 - s) + grid[j + 1][i + 1] * s;
  return lower * (1 - t) + upper * t;
}

/** For each corner above the level (1, 2, 4, 8: from the lower left, against the clock): the sides that a line joins. */
const JOINED = {
  1: [[3, 0]], 2: [[0, 1]], 3: [[3, 1]], 4: [[1, 2]], 5: [[3, 2], [0, 1]], 6: [[0, 2]], 7: [[3, 2]],
  8: [[2, 3]], 9: [[0, 2]], 10: [[0, 3], [1, 2]], 11: [[1, 2]], 12: [[1, 3]], 13: [[0, 1]], 14: [[3, 0]],
};

/** Return the lines along which a grid has the value `level`, as segments `[[x, y], [x, y]]`. */
export function isolines(xs, ys, grid, level) {
  const found = [];
  for (let j = 0; j + 1 < ys.length; j += 1) {
    for (let i = 0; i + 1 < xs.length; i += 1) {
      const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
      const values = corners.map(([a, b]) => grid[b][a]);
      const above = values.reduce((sum, value, k) => sum + (value > level ? 1 << k : 0), 0);
      const crossing = (side) => {
        const [from, to] = [side, (side + 1) % 4];
        const share = (level - values[from]) / (values[to] - values[from]);
        const [[a, b], [c, d]] = [corners[from], corners[to]];
        return [xs[a] + share * (xs[c] - xs[a]), ys[b] + share * (ys[d] - ys[b])];
      };
      for (const [one, other] of JOINED[above] ?? []) found.push([crossing(one), crossing(other)]);
    }
  }
  return found;
}
