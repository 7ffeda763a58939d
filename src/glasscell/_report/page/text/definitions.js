// Says what every letter on the page means, in this cell.

import { element } from "./elements.js";
import { HEAT_TEXT } from "./views.js";

const EQUATIONS = [
  ["i", "= s(x W_i + h R_i + b_i)", "input gate"],
  ["f", "= s(x W_f + h R_f + b_f)", "forget gate"],
  ["g", "= a(x W_g + h R_g + b_g)", "candidate"],
  ["o", "= s(x W_o + h R_o + b_o)", "output gate"],
  ["c'", "= f * c + i * g", "cell state, the memory"],
  ["h'", "= o * a(c')", "hidden state, and the output"],
];

/** The equations of the cell, and its letters. */
export function showDefinitions(place, cell) {
  const lines = EQUATIONS.map(([letter, text, words]) =>
    element("tr", {}, element("th", { scope: "row" }, letter), element("td", {}, text), element("td", {}, words)),
  );
  const letters = [
    ["x", cell.features ? `the input of a step: ${cell.features} numbers` : "the input of a step"],
    ["h, c", "the state before the step; h' and c' after it. A dash is the step after, * multiplies unit by unit"],
    ["W, R, b", "kernel, recurrent kernel and bias: the weights that were trained, a part of them for each gate"],
    ["s", named(cell.recurrentActivation, "sigmoid", "from 0, closed, to 1, open")],
    ["a", named(cell.activation, "tanh", "from −1 to 1")],
  ].map(([letter, text]) => element("div", {}, element("dt", {}, letter), element("dd", {}, text)));
  const order = cell.goBackwards
    ? "This cell reads from the last step to the first: step 0 is the last of the input."
    : "Time runs from left to right, step 0 first.";
  place.replaceChildren(
    element("table", { class: "equation-table" }, ...lines),
    element(
      "div",
      {},
      element("dl", { class: "letters" }, ...letters),
      element("p", {}, order, " Steps that a mask skipped are grey, and no mean counts them."),
    ),
  );
}

/** What to look for in each view. */
export function showAdvice(place) {
  const lines = Object.entries(HEAT_TEXT).map(([letter, [title, , text]]) =>
    element("div", {}, element("dt", {}, letter), element("dd", {}, `${title}. ${text}`)),
  );
  place.replaceChildren(...lines);
}

/** What a function is, where the trace knows it; its range where that is the usual one's. */
function named(name, usual, range) {
  if (!name) return "an activation that the trace does not know by name";
  return name === usual ? `the ${name}, ${range}` : `the activation ${name}`;
}
