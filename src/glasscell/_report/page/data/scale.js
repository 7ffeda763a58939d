// Chooses the ends of colour scales: one for each quantity of a cell, the same in all its rows, so that rows compare.

const SHARE = 0.98; // of the values: a signed scale holds these where the others are much larger

/** The scale of a gate: from 0 to 1, and further if a value lies there. */
export function gateScale(values) {
  let [low, high] = [0, 1];
  for (const value of values) {
    if (Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  return { kind: "gate", low, high, largest: high };
}

/** A scale around zero that holds all values, or 98 of 100; `largest` is the largest absolute value. */
export function signedScale(values) {
  const sizes = Float32Array.from(values, Math.abs).filter(Number.isFinite).sort();
  const largest = sizes.length ? sizes[sizes.length - 1] : 1;
  const most = sizes.length ? sizes[Math.ceil(SHARE * sizes.length) - 1] : 1;
  const high = most > 0 && most < 0.8 * largest ? most : largest || 1;
  return { kind: "signed", low: -high, high, largest };
}

/** The lowest and the highest finite value, with zero between them. */
export function extent(values) {
  let [low, high] = [0, 0];
  for (const value of values) {
    if (Number.isFinite(value)) [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  return [low, high];
}
