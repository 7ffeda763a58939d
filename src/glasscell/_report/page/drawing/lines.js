// Draws lines and bars over time.

import { LEFT, RIGHT, drawCrosshair, drawSideMarks, drawSkipped, drawTimeAxis } from "./axis.js";
import { styled } from "./colours.js";
import { number } from "../text/words.js";

/** A line of values over time, NaN at the steps that were skipped. */
export function lineOf(cell, row, read, colour, wide, dash = []) {
  const values = Array.from({ length: cell.steps }, (_, time) => (cell.ran(row, time) ? read(time) : NaN));
  return { values, colour, wide, dash };
}

/** Lines over time. series: as `lineOf` gives them; they break at NaN. range: the lowest and highest value. */
export function drawLines(view, cell, row, series, [low, high], time) {
  const y = heights(view, low, high);
  drawSkipped(view, cell, row);
  drawGround(view, y, low, high);
  for (const line of series) {
    drawLine(view, line, y);
    drawPoint(view, line, y, time);
  }
  drawTimeAxis(view);
  drawCrosshair(view, time);
}

function drawLine({ context, middle }, { values, colour, wide, dash }, y) {
  context.strokeStyle = colour;
  context.lineWidth = wide;
  context.setLineDash(dash);
  context.beginPath();
  let drawing = false;
  values.forEach((value, time) => {
    if (Number.isFinite(value)) context[drawing ? "lineTo" : "moveTo"](middle(time), y(value));
    drawing = Number.isFinite(value);
  });
  context.stroke();
  context.setLineDash([]);
}

function drawPoint({ context, middle }, { values, colour, wide }, y, time) {
  if (!Number.isFinite(values[time]) || wide < 1.5) return;
  context.fillStyle = colour;
  context.beginPath();
  context.arc(middle(time), y(values[time]), 3.5, 0, 2 * Math.PI);
  context.fill();
}

/** Bars over time, up and down from zero: the parts of a sum. The initial part stands left of the first step. */
export function drawBars(view, cell, row, parts, time) {
  const all = [parts.initial, ...parts.steps];
  const [low, high] = [Math.min(0, ...all), Math.max(0, ...all)];
  const y = heights(view, low, low === high ? 1 : high);
  const { context, left, step } = view;
  drawSkipped(view, cell, row);
  drawGround(view, y, low, high);
  const bar = (x, wide, value) => {
    context.fillStyle = styled(value > 0 ? "--plus" : "--minus");
    context.fillRect(x, Math.min(y(0), y(value)), wide, Math.max(Math.abs(y(value) - y(0)), value ? 1 : 0));
  };
  parts.steps.forEach((value, s) => bar(left(s) + step * 0.1, Math.max(step * 0.8, 1), value));
  bar(LEFT - 5, 5, parts.initial);
  drawTimeAxis(view);
  drawCrosshair(view, time);
}

/** The function from a value to its height in a view, with room for half a point above and below. */
function heights({ height }, low, high) {
  const room = 6;
  return (value) => room + (height - 2 * room) * (1 - (value - low) / (high - low || 1));
}

/** The lines of the lowest value, of zero, and of the highest. */
function drawGround(view, y, low, high) {
  const { context, width } = view;
  const marks = [...new Set([low, low < 0 && high > 0 ? 0 : low, high])];
  context.lineWidth = 1;
  for (const value of marks) {
    context.strokeStyle = styled(value === 0 ? "--soft" : "--line");
    context.beginPath();
    context.moveTo(LEFT, Math.round(y(value)) + 0.5);
    context.lineTo(width - RIGHT, Math.round(y(value)) + 0.5);
    context.stroke();
  }
  const apart = (value) => value === low || Math.abs(y(value) - y(low)) > 12;
  const short = (value) =>
    Number.isInteger(value) ? String(value).replace("-", "−") : number(value).replace(/\d$/, "");
  drawSideMarks(
    view,
    marks.filter(apart).map((value) => [short(value), y(value)]),
  );
}
