// The views of the answer: the output of the Dense layer after each step, and the part of each step in a logit.

import { givesProbabilities, outputs } from "../data/answer.js";
import { extent } from "../data/scale.js";
import { activationOf, logitSources } from "../data/sources.js";
import { styled } from "../drawing/colours.js";
import { drawLines, lineOf } from "../drawing/lines.js";
import { describeAnswer } from "../text/describe.js";
import { ANSWER_TEXT } from "../text/views.js";
import { number } from "../text/words.js";
import { readout } from "./heat.js";
import { LOW, sourcesView } from "./unit.js";

export function answerViews({ cell, picture }) {
  const [title, short] = ANSWER_TEXT.beliefs;
  const seriesOf = (row) =>
    picture("answer", row, () => Array.from({ length: cell.steps }, (_, time) => outputs(cell, row, time)));
  const beliefs = {
    id: "answer",
    symbol: "",
    title,
    short,
    height: () => LOW,
    draw: (view, row, now) => {
      const series = seriesOf(row);
      const range = givesProbabilities(cell) ? [0, 1] : extent(series.flat());
      drawLines(view, cell, row, linesOf(cell, row, series, now.label), range, now.time);
    },
    read: (row, now) =>
      readout(
        `answer ${row}`,
        seriesOf(row)[now.time][now.label],
        (value) => `${cell.answer.classes[now.label]} ${number(value)}`,
      ),
    describe: (row, now) => describeAnswer(cell, row, now, seriesOf(row)[now.time]),
    caption: (row, now) => describeAnswer(cell, row, now, seriesOf(row)[now.time]),
  };
  if (!cell.arrays.c0 || !cell.arrays.h0 || !activationOf(cell)) return [beliefs];
  return [
    beliefs,
    sourcesView(cell, "logit", "", ANSWER_TEXT.logit, (row, now) => logitSources(cell, row, now.time, now.label)),
  ];
}

/** A line for each class: the chosen one solid, its strongest rival dashed, the others thin, drawn first. */
function linesOf(cell, row, series, label) {
  const peak = (k) => Math.max(...series.map((values) => values[k]));
  const others = series[0]
    .map((_, k) => k)
    .filter((k) => k !== label)
    .sort((a, b) => peak(a) - peak(b));
  const rival = others.pop();
  const line = (k, colour, wide, dash) => lineOf(cell, row, (time) => series[time][k], styled(colour), wide, dash);
  const strong = rival === undefined ? [] : [line(rival, "--two", 2, [7, 3])];
  return [...others.map((k) => line(k, "--faint", 1, [])), ...strong, line(label, "--one", 2.4, [])];
}
