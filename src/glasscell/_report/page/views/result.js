// Draws the result of a training run: its curves, and how often each class was taken for each other.

import { coloursOf, css, inkOn } from "../drawing/colours.js";
import { element, svgElement } from "../text/elements.js";
import { number } from "../text/words.js";

const [WIDTH, HEIGHT, LEFT_MARGIN, BOTTOM] = [560, 300, 52, 34];

/** Fills the places that the template of a training page has. */
export function showResult({ loss, valLoss, confusion, classes, asked, answered }) {
  document.getElementById("curves").replaceChildren(lossCurves(loss, valLoss));
  document.getElementById("confusion").replaceChildren(confusionTable(confusion, classes, asked, answered));
}

/** Two curves on a logarithmic axis; null, a loss that was not finite, leaves a gap. */
function lossCurves(loss, valLoss) {
  const values = [...loss, ...valLoss].filter((value) => value > 0);
  const [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0.1, 1];
  const x = (epoch) => LEFT_MARGIN + 8 + ((WIDTH - LEFT_MARGIN - 20) * epoch) / Math.max(1, loss.length - 1);
  const y = (value) => 12 + (HEIGHT - BOTTOM - 20) * (1 - Math.log(value / low) / (Math.log(high / low) || 1));
  const marks = logMarks(low, high).flatMap((value) => [
    svgElement("line", { x1: LEFT_MARGIN, x2: WIDTH, y1: y(value), y2: y(value), class: "ground" }),
    svgElement("text", { x: LEFT_MARGIN - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)),
  ]);
  const epochs = [1, Math.ceil(loss.length / 2), loss.length].filter((epoch, k, all) => all.indexOf(epoch) === k);
  const anchor = (epoch) => (epoch === 1 ? "start" : epoch === loss.length ? "end" : "middle"); // inside the picture
  const below = epochs.map((epoch) =>
    svgElement("text", { x: x(epoch - 1), y: HEIGHT - 12, "text-anchor": anchor(epoch) }, `epoch ${epoch}`),
  );
  const label = `Loss by epoch. Training ends at ${lastOf(loss)}, validation at ${lastOf(valLoss)}.`;
  return svgElement(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, class: "chart" },
    ...marks,
    ...below,
    ...curve(loss, x, y, "one"),
    ...curve(valLoss, x, y, "two"),
  );
}

function curve(values, x, y, kind) {
  let drawing = false;
  const d = values.map((value, k) => {
    const command = value > 0 ? `${drawing ? "L" : "M"}${x(k).toFixed(1)} ${y(value).toFixed(1)}` : "";
    drawing = value > 0;
    return command;
  });
  const dots =
    values.length < 3
      ? values.flatMap((v, k) =>
          v > 0 ? [svgElement("circle", { cx: x(k), cy: y(v), r: 4, class: `dot ${kind}` })] : [],
        )
      : [];
  return [svgElement("path", { d: d.join(" "), class: `curve ${kind}` }), ...dots];
}

/** Values 1, 2 and 5 times a power of ten, inside the range. */
function logMarks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const k of [1, 2, 5]) found.push(Number((k * 10 ** power).toPrecision(1)));
  }
  return found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
}

export function lastOf(values) {
  const last = values[values.length - 1];
  return last === null ? "no finite number" : number(last);
}

/** How often each class, a row, was taken for each class, a column. */
function confusionTable(counts, classes, asked, answered) {
  const colours = coloursOf({ kind: "signed" });
  const cellOf = (count, row, column, sum) => {
    const td = element(
      "td",
      { class: row === column ? "right" : count ? "wrong" : "none" },
      count ? String(count) : "·",
    );
    if (count) {
      const share = 0.5 + (row === column ? -0.42 : 0.42) * Math.sqrt(count / sum);
      const colour = colours[Math.round(255 * share)];
      td.style.background = css(colour);
      td.style.color = inkOn(colour);
    }
    return td;
  };
  const rows = counts.map((row, k) => {
    const sum = row.reduce((a, b) => a + b, 0) || 1;
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, classes[k]),
      ...row.map((count, column) => cellOf(count, k, column, sum)),
    );
  });
  const head = element(
    "tr",
    {},
    element("th", {}, `${asked} ↓  ${answered} →`),
    ...classes.map((name) => element("th", { scope: "col" }, name)),
  );
  return element("table", { class: "counts" }, element("thead", {}, head), element("tbody", {}, ...rows));
}
