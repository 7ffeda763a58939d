// Draws the raw value of each gate as a sum, with the largest terms named.

import { GATES, gateTerms } from "../data/sources.js";
import { element, shownNumber } from "../text/elements.js";
import { number, signed } from "../text/words.js";

const NAMED = 4; // terms that are named beside the bias

/** The terms of a gate as [name, value]: the bias, the largest terms, and the sum of all others. */
export function namedTerms(cell, row, time, unit, gate) {
  const { bias, inputs, recurrent } = gateTerms(cell, row, time, unit, gate);
  const terms = [
    ...Array.from(inputs, (value, k) => [cell.featureName(k), value]),
    ...Array.from(recurrent, (value, k) => [cell.unitNames ? `h of ${cell.unitNames[k]}` : `h[${k}]`, value]),
  ].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const others = terms.slice(NAMED);
  const rest = others.reduce((sum, [, value]) => sum + value, 0);
  const named = [["bias", bias], ...terms.slice(0, NAMED)];
  return others.length ? [...named, [`${others.length} others`, rest]] : named;
}

/** The four gates, each with the bars of its terms. */
export function gateReasons(cell, row, time, unit) {
  return GATES.map((gate) => {
    const terms = namedTerms(cell, row, time, unit, gate);
    const raw = cell.value(`z${gate}`, row, time, unit);
    const value = cell.value(gate, row, time, unit);
    const largest = Math.max(...terms.map(([, term]) => Math.abs(term)), 1e-9);
    const heading = element(
      "h4",
      {},
      element("b", {}, gate),
      ` = ${gate === "g" ? "a" : "s"}(`,
      shownNumber(`z${gate}`, raw, signed(raw)),
      ") = ",
      shownNumber(gate, value, number(value)),
    );
    return element(
      "div",
      { class: "reason" },
      heading,
      element("table", {}, ...terms.map((term) => termRow(term, largest))),
    );
  });
}

/** A row of a table of terms: a name, a bar from the middle, and a number. */
export function termRow([name, value], largest, attributes = {}) {
  const share = (50 * Math.abs(value)) / largest;
  const bar = element("span", { class: `bar ${value < 0 ? "minus" : "plus"}` });
  bar.style.width = `${share.toFixed(1)}%`;
  bar.style[value < 0 ? "right" : "left"] = "50%";
  return element(
    "tr",
    attributes,
    element("th", { scope: "row" }, name),
    element("td", { class: "bar-cell", "aria-hidden": "true" }, bar),
    element("td", {}, shownNumber(`term of ${name}`, value, signed(value))),
  );
}
