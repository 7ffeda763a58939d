// Shows the steps by their names, as running text: each character or word coloured by one number of the chosen unit.

import { colourOf, coloursOf, css, inkOn } from "../drawing/colours.js";
import { element } from "../text/elements.js";
import { number, stepText } from "../text/words.js";

/** The steps of a row as buttons in running text. letters: whether each name is a single character. */
export function namedSteps(cell, row, unit, name, scale) {
  const colours = coloursOf(scale);
  const letters = cell.stepNames[row].every((text) => Array.from(text).length <= 1);
  const buttons = cell.stepNames[row].map((text, step) => {
    const value = cell.ran(row, step) ? cell.value(name, row, step, unit) : NaN;
    const attributes = { type: "button", tabindex: -1, "data-step": step };
    const button = element(
      "button",
      { ...attributes, title: `${stepText(cell, row, step)}: ${name} ${number(value)}` },
      text || " ",
    );
    if (Number.isNaN(value)) {
      button.classList.add("skipped");
    } else {
      const colour = colourOf(value, scale, colours);
      button.style.background = css(colour);
      button.style.color = inkOn(colour);
    }
    return button;
  });
  return element(
    "div",
    { class: letters ? "steps characters" : "steps", role: "group", "aria-label": "Steps by name" },
    ...buttons,
  );
}
