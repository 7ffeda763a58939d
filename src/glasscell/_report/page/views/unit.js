// The views of the chosen unit alone: its gates, its states on one scale, and where its state and output come from.

import { extent } from "../data/scale.js";
import { activationOf, memorySources, outputSources, total } from "../data/sources.js";
import { styled } from "../drawing/colours.js";
import { drawBars, drawLines, lineOf } from "../drawing/lines.js";
import { describeSources } from "../text/describe.js";
import { element } from "../text/elements.js";
import { UNIT_TEXT } from "../text/views.js";
import { number, signed, stepText } from "../text/words.js";
import { readout } from "./heat.js";

export const LOW = 84; // pixels of the height of a view of lines or bars
const STYLES = {
  i: ["--one", []],
  f: ["--two", [7, 3]],
  o: ["--three", [2, 3]],
  c: ["--one", []],
  h: ["--two", [7, 3]],
};

export function unitViews(context) {
  const { cell, scales } = context;
  const { c0, h0 } = cell.arrays;
  return [
    linesView(cell, "unit-gates", ["i", "f", "o"], UNIT_TEXT.gates, () => [
      scales.f.low,
      Math.max(scales.i.high, scales.f.high, scales.o.high),
    ]),
    linesView(cell, "unit-states", ["c", "h"], UNIT_TEXT.states, (lines) =>
      extent(lines.flatMap((line) => line.values)),
    ),
    ...(c0 ? [sourcesView(cell, "memory", "c", UNIT_TEXT.memory, ofUnit(cell, memorySources))] : []),
    ...(c0 && h0 && activationOf(cell)
      ? [sourcesView(cell, "output", "h", UNIT_TEXT.output, ofUnit(cell, outputSources))]
      : []),
  ];
}

function ofUnit(cell, sources) {
  return (row, now) => sources(cell, row, now.time, now.unit);
}

/** Lines of some quantities of the chosen unit. rangeOf(lines): the lowest and the highest value of the axis. */
function linesView(cell, id, names, [title, short], rangeOf) {
  const value = (name, row, time, now) => cell.value(name, row, time, now.unit);
  return {
    id,
    symbol: names.join(" "),
    title,
    short,
    height: () => LOW,
    draw: (view, row, now) => {
      const lines = names.map((name) =>
        lineOf(cell, row, (time) => value(name, row, time, now), styled(STYLES[name][0]), 2, STYLES[name][1]),
      );
      drawLines(view, cell, row, lines, rangeOf(lines), now.time);
    },
    read: (row, now) =>
      element("span", { class: "keyed" }, ...names.map((name) => keyed(name, value(name, row, now.time, now)))),
    describe: (row, now) => {
      const said = names.map((name) => `${name} ${number(value(name, row, now.time, now))}`);
      return `${title}: ${cell.unitName(now.unit)} at ${stepText(cell, row, now.time)}: ${said.join(", ")}.`;
    },
  };
}

/** A number with its letter in the colour and dashes of its line. */
function keyed(name, value) {
  const key = element("span", { class: `key ${name}` }, name);
  return element("span", {}, key, " ", number(value));
}

/** A view of the parts of a sum over the steps. find(row, now): the parts. */
export function sourcesView(cell, id, symbol, [title, short], find) {
  return {
    id,
    symbol,
    title,
    short,
    height: () => LOW,
    draw: (view, row, now) => drawBars(view, cell, row, find(row, now), now.time),
    read: (row, now) => readout(`${id} ${row}`, total(find(row, now)), signed),
    describe: (row, now) => `${title}: ${describeSources(cell, row, symbol, find(row, now))}`,
    caption: (row, now) => describeSources(cell, row, symbol, find(row, now)),
  };
}
