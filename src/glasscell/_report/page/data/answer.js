// Computes the answer of the Dense layer after each step.

/** The logits of the Dense layer on the h of a step. */
export function logits(cell, row, time) {
  const { kernel, bias } = cell.answer;
  return Array.from(cell.answer.classes, (_, label) => {
    let sum = bias.at(label);
    for (let unit = 0; unit < cell.size; unit++) sum += cell.value("h", row, time, unit) * kernel.at(unit, label);
    return sum;
  });
}

/** The output of the layer after a step: probabilities for a softmax, logits for any other activation. */
export function outputs(cell, row, time) {
  const raw = logits(cell, row, time);
  if (!givesProbabilities(cell)) return raw;
  const largest = Math.max(...raw);
  const powers = raw.map((z) => Math.exp(z - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((p) => p / sum);
}

export function givesProbabilities(cell) {
  return cell.answer.activation === "softmax";
}

/** The class that the layer names after the last step of a row. */
export function answerOf(cell, row) {
  const last = logits(cell, row, cell.lastStep(row));
  return last.indexOf(Math.max(...last));
}

/** The term of a unit in the logit of each class: its h times its weight. */
export function partOfUnit(cell, row, time, unit) {
  const h = cell.value("h", row, time, unit);
  return cell.answer.classes.map((_, label) => h * cell.answer.kernel.at(unit, label));
}
