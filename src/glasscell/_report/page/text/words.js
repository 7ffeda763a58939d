// Writes numbers and short sentences.

/** A number with three decimals, or three digits where it is large; a dash for one that was never computed. */
export function number(value) {
  if (Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const text = Math.abs(value) >= 1000 ? value.toExponential(2) : value.toFixed(Math.abs(value) >= 100 ? 1 : 3);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

/** A number that always shows its sign. */
export function signed(value) {
  const text = number(value);
  return value > 0 && text !== "∞" ? `+${text}` : text;
}

export function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

/** A step, with its name where it has one. */
export function stepText(cell, row, time) {
  const name = cell.stepName(row, time);
  return name === null ? `step ${time}` : `step ${time} “${name}”`;
}

/** The ends of a colour scale, in words. */
export function endsOf(scale) {
  if (scale.kind === "gate") {
    const whole = scale.low === 0 && scale.high === 1;
    return whole ? ["0 closed", "1 open"] : [`${number(scale.low)} smallest`, `${number(scale.high)} largest`];
  }
  return [number(scale.low), signed(scale.high)];
}

/** Says what the ends of a colour scale are. */
export function scaleText(scale) {
  if (scale.kind === "gate") return "";
  if (scale.high === scale.largest) return "the largest of all rows";
  return `98 of 100 lie within; largest ${number(scale.largest)}`;
}
