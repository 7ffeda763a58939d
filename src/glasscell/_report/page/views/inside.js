// The inside of the cell at the chosen step and unit: the diagram, the terms of the gates, the unit's logits.

import { partOfUnit } from "../data/answer.js";
import { activationOf } from "../data/sources.js";
import { cellDiagram, describeCell, equations, flows } from "../drawing/cell.js";
import { gateReasons, termRow } from "../drawing/terms.js";
import { describeUnit } from "../text/describe.js";
import { element } from "../text/elements.js";
import { stepText } from "../text/words.js";

const WHY =
  "Each gate is s(z), the candidate a(z), and z is the sum of these: the bias, what each input feature brings, and " +
  "what the h of each unit brings from the step before. The largest are named.";
const UNKNOWN = "The page does not have the weights and the input.";
const SKIPPED = "The mask skipped this step: its gates were never computed, and c and h stay as they were.";

/** Shows the cell in a place of the page: the diagram of each row, then the terms of its gates. scales: by quantity. */
export function showInside(place, cell, scales, now) {
  const rows = now.other === null ? [now.row] : [now.row, now.other];
  const heading = (row) => (rows.length > 1 ? [element("p", { class: "of" }, cell.rows[row])] : []);
  const diagrams = rows.map((row) =>
    element("div", { class: "inside", "data-row": row }, ...heading(row), ...diagramOf(cell, scales, row, now)),
  );
  const whys = rows
    .map((row) => [...reasons(cell, row, now), ...votes(cell, row, now)])
    .map((parts, k) => [rows[k], parts]);
  const shown = whys.filter(([, parts]) => parts.length);
  place.replaceChildren(
    ...diagrams,
    ...shown.map(([row, parts]) => element("div", { class: "inside why", "data-row": row }, ...heading(row), ...parts)),
  );
}

function diagramOf(cell, scales, row, { time, unit }) {
  const flow = flows(cell, row, time, unit, activationOf(cell));
  const largest = { c: scales.c.largest, h: scales.h.largest };
  const lines = equations(flow).map(([text, shown]) =>
    element("div", {}, element("dt", {}, text), element("dd", {}, ...shown)),
  );
  return [
    element("h3", {}, `${cell.unitName(unit)} at ${stepText(cell, row, time)}`),
    ...notes(cell, row, time),
    cellDiagram(flow, largest, describeCell(flow)),
    element("dl", { class: "equations" }, ...lines),
    element("p", { class: "soft" }, describeUnit(cell, row, unit)),
  ];
}

function notes(cell, row, time) {
  const said = [];
  if (cell.wasReset(row, time)) said.push("Before this step the state was set to zero.");
  if (!cell.ran(row, time)) said.push(SKIPPED);
  return said.map((text) => element("p", { class: "note" }, text));
}

function reasons(cell, row, { time, unit }) {
  if (!cell.ran(row, time)) return [];
  const heading = element("h3", {}, "Why each gate stands as it does");
  if (!cell.knowsWeights) return [heading, element("p", { class: "soft" }, UNKNOWN)];
  return [
    heading,
    element("p", { class: "soft" }, WHY),
    element("div", { class: "reasons" }, ...gateReasons(cell, row, time, unit)),
  ];
}

/** The terms of the unit in the logit of each class. */
function votes(cell, row, { time, unit, label }) {
  if (!cell.answer) return [];
  const parts = partOfUnit(cell, row, time, unit);
  const largest = Math.max(...parts.map(Math.abs), 1e-9);
  const rows = parts.map((value, k) =>
    termRow([cell.answer.classes[k], value], largest, { class: k === label ? "chosen" : null }),
  );
  return [
    element("h3", {}, "What this unit does for the answer"),
    element("p", { class: "soft" }, "Its h times its weight, in the logit of each class."),
    element("table", { class: "votes" }, ...rows),
  ];
}
