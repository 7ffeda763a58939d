// Splits numbers of a cell into exact sums, as `glasscell.insight` does, from the arrays of the trace.

export const GATES = ["i", "f", "g", "o"];

// The activations a(.) whose values the page can find for any number. For others it does not split h.
const ACTIVATIONS = { tanh: Math.tanh, linear: (x) => x, relu: (x) => Math.max(x, 0) };

/** The function a(.), or undefined where the page does not know it. */
export function activationOf(cell) {
  return ACTIVATIONS[cell.activation];
}

/** The terms of a raw gate: bias, one for each input feature, one for the h of each unit before the step. */
export function gateTerms(cell, row, time, unit, gate) {
  const { x, h0, kernel, recurrent_kernel, bias, dropout_mask, recurrent_dropout_mask } = cell.arrays;
  const k = GATES.indexOf(gate);
  const masked = (mask, j) => (mask ? mask.at(k % mask.shape[0], row, j) : 1);
  const hBefore = (j) => (cell.wasReset(row, time) ? 0 : time ? cell.allH.at(row, time - 1, j) : h0.at(row, j));
  const inputs = new Float64Array(kernel.shape[0]);
  const recurrent = new Float64Array(recurrent_kernel.shape[0]);
  for (let j = 0; j < inputs.length; j++)
    inputs[j] = x.at(row, time, j) * masked(dropout_mask, j) * kernel.at(j, k, unit);
  for (let j = 0; j < recurrent.length; j++) {
    recurrent[j] = hBefore(j) * masked(recurrent_dropout_mask, j) * recurrent_kernel.at(j, k, unit);
  }
  return { bias: bias ? bias.at(k, unit) : 0, inputs, recurrent };
}

/** The parts of c after a step: the rest of the initial state, and the rest of each step's writing. */
export function memorySources(cell, row, time, unit) {
  const steps = new Float64Array(time + 1);
  let kept = 1; // the product of the forget gates after step s
  for (let s = time; s >= 0; s--) {
    if (cell.ran(row, s)) {
      steps[s] = kept * cell.value("i", row, s, unit) * cell.value("g", row, s, unit);
      kept *= cell.value("f", row, s, unit);
    }
    if (cell.wasReset(row, s)) return { initial: 0, steps };
  }
  return { initial: kept * cell.cellBefore(row, 0, unit), steps };
}

/** The parts of h after a step, as a telescoping sum; at a skipped step those of the last step that ran. */
export function outputSources(cell, row, time, unit) {
  const parts = new Float64Array(time + 1);
  let shown = time;
  let wasReset = false;
  while (shown >= 0 && !cell.ran(row, shown)) {
    wasReset ||= cell.wasReset(row, shown);
    shown--;
  }
  if (wasReset || shown < 0) return { initial: wasReset ? 0 : cell.hAtFirst(row, unit), steps: parts, constant: 0 };
  const a = activationOf(cell);
  const o = cell.value("o", row, shown, unit);
  const { initial, steps } = memorySources(cell, row, shown, unit);
  let sum = initial;
  let level = a(sum);
  const first = o * (level - a(0));
  for (let s = 0; s <= shown; s++) {
    sum += steps[s];
    parts[s] = o * (a(sum) - level);
    level = a(sum);
  }
  return { initial: first, steps: parts, constant: o * a(0) };
}

/** The parts of a logit of the Dense layer after a step: the parts of h of all units, times their weights. */
export function logitSources(cell, row, time, label) {
  const { kernel, bias } = cell.answer;
  const found = { initial: 0, steps: new Float64Array(time + 1), constant: bias.at(label) };
  for (let unit = 0; unit < cell.size; unit++) {
    const parts = outputSources(cell, row, time, unit);
    const weight = kernel.at(unit, label);
    found.initial += weight * parts.initial;
    found.constant += weight * parts.constant;
    parts.steps.forEach((part, s) => (found.steps[s] += weight * part));
  }
  return found;
}

/** The sum of parts. */
export function total({ initial, steps, constant = 0 }) {
  return steps.reduce((sum, part) => sum + part, initial + constant);
}
