// The bar of choices: which cell, row and unit, how units are sorted, and which step.

import { waysToSort } from "../data/order.js";
import { element } from "../text/elements.js";
import { stepText } from "../text/words.js";

const filled = new WeakMap(); // what each select holds

/** Fills a select with [value, text] pairs, unless it holds them already, and selects one. */
function fill(select, pairs, chosen) {
  const content = JSON.stringify(pairs);
  if (filled.get(select) !== content) {
    select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
    filled.set(select, content);
  }
  select.value = String(chosen);
}

export class ChoiceBar {
  /** cells: all cells of the page. cellOf: returns the chosen cell. orderNow: returns its units from top to bottom. */
  constructor(bar, choice, cells, cellOf, orderNow) {
    this.parts = Object.fromEntries(
      [...bar.querySelectorAll("[data-choice]")].map((part) => [part.dataset.choice, part]),
    );
    Object.assign(this, { choice, cells, cellOf, orderNow });
    fill(
      this.parts.cell,
      cells.map((cell, k) => [k, cell.name || "cell"]),
      0,
    );
    for (const [name, part] of Object.entries(this.parts)) {
      part.addEventListener("input", () => this.chosen(name, part.value));
    }
    choice.onChange((now) => this.show(now));
  }

  chosen(name, value) {
    const texts = ["way", "input", "colour"];
    if (name === "cell") return this.choice.set({ cell: Number(value), fresh: true });
    if (name === "other") return this.choice.set({ other: value === "" ? null : Number(value) });
    const row =
      name === "row"
        ? { label: null, other: Number(value) === this.choice.now.other ? null : this.choice.now.other }
        : {};
    this.choice.set({ ...row, [name]: texts.includes(name) ? value : Number(value) });
  }

  show(now) {
    const cell = this.cellOf();
    const { parts } = this;
    const rows = cell.rows.map((name, row) => [row, name]);
    const features = Array.from({ length: cell.features }, (_, k) => [k, cell.featureName(k)]);
    parts.cell.value = String(now.cell);
    fill(parts.row, rows, now.row);
    fill(parts.other, [["", "none"], ...rows.filter(([row]) => row !== now.row)], now.other ?? "");
    fill(
      parts.unit,
      this.orderNow().map((unit) => [unit, cell.unitName(unit)]),
      now.unit,
    );
    fill(parts.way, waysToSort(cell), now.way);
    fill(parts.feature, features, now.feature);
    fill(parts.label, cell.answer ? cell.answer.classes.map((name, k) => [k, name]) : [], now.label);
    parts.time.max = String(cell.steps - 1);
    parts.time.value = String(now.time);
    parts.time.setAttribute("aria-valuetext", stepText(cell, now.row, now.time));
    this.hide(now, cell);
  }

  /** Hides the menus that have only one choice. */
  hide(now, cell) {
    const needed = {
      cell: this.cells.length > 1,
      row: cell.rows.length > 1,
      other: cell.rows.length > 1,
      feature: cell.features > 0 && (now.way === "input" || now.input === "lines"),
      label: Boolean(cell.answer),
      input: cell.features > 0,
      colour: Boolean(cell.stepNames),
    };
    for (const [name, shown] of Object.entries(needed)) this.parts[name].closest("label").hidden = !shown;
  }
}
