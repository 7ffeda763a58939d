/* Runs an LSTM cell over a sequence, in double precision.
 *
 * `cellEquations` stands in the page: the six lines of `step` in src/glasscell/_cells/lstm.py. Here are only the sums
 * before them. Weights are named and laid out as glasscell.LSTMWeights has them: kernel (I, 4H), recurrent_kernel
 * (H, 4H), bias (4H), with the columns in the order i, f, g, o.
 */
"use strict";

const GATES = ["i", "f", "g", "o"];
const tanh = (z) => Math.tanh(z);
const sigmoid = (z) => 1 / (1 + Math.exp(-z));

/* The sum of values[k] * matrix[k][column]. */
function product(values, matrix, column) {
  return values.reduce((sum, value, k) => sum + value * matrix[k][column], 0);
}

/* The raw gates of one unit, each with its three parts: what x brings, what h brings, and the bias. */
function rawGates(weights, x, h, unit) {
  const units = h.length;
  const parts = {}, z = {};
  GATES.forEach((gate, k) => {
    const column = k * units + unit;
    const fromX = product(x, weights.kernel, column);
    const fromH = product(h, weights.recurrent_kernel, column);
    parts[gate] = { x: fromX, h: fromH, b: weights.bias[column] };
    z[gate] = fromX + fromH + weights.bias[column];
  });
  return { z, parts };
}

/* One step of all units: a list with i, f, g, o, c and h after the step, and the sums before them. */
function cellStep(weights, x, before) {
  const h = before.map((unit) => unit.h);
  return before.map(({ c }, unit) => {
    const { z, parts } = rawGates(weights, x, h, unit);
    return { z, parts, before: { h, c }, ...cellEquations(z, c, tanh, sigmoid, null) };
  });
}

/* All steps of a sequence, a list for each step with what each unit did. It starts from h = c = 0. */
function runCell(weights, sequence) {
  let state = weights.recurrent_kernel.map(() => ({ h: 0, c: 0 }));
  return sequence.map((x) => (state = cellStep(weights, x, state)));
}
