// The views of all units: heat maps of the gates and states, and of the input or its lines.

import { extent } from "../data/scale.js";
import { styled } from "../drawing/colours.js";
import { drawHeatMap, pictureOf, placeAt } from "../drawing/heatmap.js";
import { drawLines, lineOf } from "../drawing/lines.js";
import { describeHeatMap, describeInput, typical } from "../text/describe.js";
import { shownNumber } from "../text/elements.js";
import { HEAT_TEXT } from "../text/views.js";
import { number } from "../text/words.js";

export function heatViews({ cell, scales, orderNow, picture }) {
  return ["i", "f", "g", "o", "c", "h"].map((name) => {
    const scale = scales[name];
    const [title, short] = HEAT_TEXT[name];
    const read = (row) => (time, unit) => cell.value(name, row, time, unit);
    return {
      id: name,
      symbol: name,
      title,
      short,
      scale,
      height: () => Math.max(60, Math.min(112, 6 * cell.size)),
      draw: (view, row, now) => {
        const order = orderNow();
        const drawn = picture(name, row, () => pictureOf(cell, row, order, scale, read(row)));
        drawHeatMap(
          view,
          drawn,
          now.time,
          order.indexOf(now.unit),
          order.map((unit) => String(cell.units[unit])),
        );
      },
      pick: (share) => ({ unit: orderNow()[placeAt(share, cell.size)] }),
      read: (row, now) => readout(`${name} ${row}`, cell.value(name, row, now.time, now.unit)),
      describe: (row, now) =>
        describeHeatMap(
          cell,
          name,
          title,
          row,
          now,
          picture(`words of ${name}`, row, () => typical(cell, name, row)),
        ),
    };
  });
}

export function inputView({ cell, scales, inputNow, picture }) {
  const [title, short] = HEAT_TEXT.x;
  const features = Array.from({ length: cell.features }, (_, k) => k);
  const ends = extent(cell.arrays.x.values);
  const value = (row, time, k) => cell.inputValue(row, time, k);
  const drawHeat = (view, row, now) => {
    const drawn = picture("x", row, () => pictureOf(cell, row, features, scales.x, (time, k) => value(row, time, k)));
    drawHeatMap(view, drawn, now.time, now.feature, features.map(String));
  };
  const drawAsLines = (view, row, now) => {
    const others = features.filter((k) => k !== now.feature);
    const line = (k, colour, wide) => lineOf(cell, row, (time) => value(row, time, k), styled(colour), wide);
    drawLines(
      view,
      cell,
      row,
      [...others.map((k) => line(k, "--faint", 1)), line(now.feature, "--one", 2.2)],
      ends,
      now.time,
    );
  };
  return {
    id: "x",
    symbol: "x",
    title,
    short,
    scale: scales.x,
    height: () => (inputNow() === "lines" ? 96 : Math.max(60, Math.min(112, 8 * cell.features))),
    draw: (...given) => (inputNow() === "lines" ? drawAsLines : drawHeat)(...given),
    pick: (share) => (inputNow() === "lines" ? {} : { feature: placeAt(share, cell.features) }),
    read: (row, now) =>
      readout(`x ${row}`, value(row, now.time, now.feature), (x) => `${cell.featureName(now.feature)} ${number(x)}`),
    describe: (row, now) => describeInput(cell, row, now),
  };
}

/** The number in the head of a view. */
export function readout(name, value, text = number) {
  return shownNumber(name, value, text(value));
}
