// Sorts the units of a cell by their values in one row, over the steps that ran.

import { logits } from "./answer.js";

/** The ways to sort for which a cell has the data: a key and its words. */
export function waysToSort(cell) {
  return [
    ["number", "number"],
    ...(cell.arrays.half_life
      ? [
          ["half-life", "half-life, longest first"],
          ["saturation", "saturation, most first"],
        ]
      : []),
    ["size", "size of c, largest first"],
    ...(cell.arrays.x ? [["input", "correlation of h with an input"]] : []),
    ...(cell.answer ? [["answer", "correlation of h with the logit"]] : []),
  ];
}

/** The indices of all units in the chosen order. feature, label: the other side of a correlation. */
export function orderOf(cell, row, way, feature, label) {
  const places = Array.from({ length: cell.size }, (_, unit) => unit);
  if (way === "number") return places;
  const marks = places.map(markOf(cell, row, way, feature, label));
  const size = (unit) => (Number.isNaN(marks[unit]) ? -Infinity : marks[unit]);
  return places.sort((a, b) => (size(a) === size(b) ? a - b : size(b) - size(a)));
}

/** The function from a unit to the number that it is sorted by. */
function markOf(cell, row, way, feature, label) {
  if (way === "half-life") return (unit) => cell.arrays.half_life.at(row, unit);
  if (way === "saturation") return (unit) => cell.arrays.saturated.at(row, unit);
  const times = timesThatRan(cell, row);
  const series = (name, unit) => times.map((time) => cell.value(name, row, time, unit));
  if (way === "size") return (unit) => mean(series("c", unit).map(Math.abs));
  const other = times.map((time) =>
    way === "input" ? cell.arrays.x.at(row, time, feature) : logits(cell, row, time)[label],
  );
  return (unit) => Math.abs(correlation(series("h", unit), other));
}

export function timesThatRan(cell, row) {
  return Array.from({ length: cell.steps }, (_, time) => time).filter((time) => cell.ran(row, time));
}

export function mean(numbers) {
  return numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
}

/** Pearson's correlation; NaN where one of the two never changes. */
export function correlation(a, b) {
  const [meanA, meanB] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  a.forEach((value, k) => {
    ab += (value - meanA) * (b[k] - meanB);
    aa += (value - meanA) ** 2;
    bb += (b[k] - meanB) ** 2;
  });
  return aa && bb ? ab / Math.sqrt(aa * bb) : NaN;
}
