// Draws the time axis that all views share: the positions of steps, marks, and the crosshair.

import { styled } from "./colours.js";

export const LEFT = 44; // pixels before the first step, for the marks of the other axis
export const RIGHT = 12;
export const AXIS = 20; // pixels below a view, for the marks of time
const FONT = "11px system-ui, sans-serif";

/** Prepares a canvas of this size, with room for the axis below. Returns its context and the positions of steps. */
export function prepared(canvas, width, height, steps, hasAxis) {
  const ratio = Math.max(window.devicePixelRatio || 1, 1);
  canvas.width = Math.round(width * ratio);
  const whole = height + (hasAxis ? AXIS : 3);
  canvas.height = Math.round(whole * ratio);
  canvas.style.height = `${whole}px`;
  canvas.toggleAttribute("data-axis", hasAxis);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, whole);
  context.font = FONT;
  const step = (width - LEFT - RIGHT) / steps;
  return {
    context,
    width,
    height,
    step,
    steps,
    hasAxis,
    left: (time) => LEFT + time * step,
    middle: (time) => LEFT + (time + 0.5) * step,
  };
}

/** The step below a point of a canvas, kept inside the axis. */
export function stepAt(canvas, x, steps) {
  const step = (canvas.clientWidth - LEFT - RIGHT) / steps;
  return Math.max(0, Math.min(steps - 1, Math.floor((x - LEFT) / step)));
}

/** Marks steps below a view that has the axis. */
export function drawTimeAxis({ context, width, height, steps, middle, hasAxis }) {
  if (!hasAxis) return;
  const every = niceStep(steps, Math.max(2, Math.floor((width - LEFT) / 70)));
  context.fillStyle = styled("--soft");
  context.textAlign = "center";
  context.textBaseline = "top";
  for (let time = 0; time < steps; time += every) context.fillText(String(time), middle(time), height + 5);
}

/** Marks values left of a view: texts with their heights. */
export function drawSideMarks({ context }, marks) {
  context.fillStyle = styled("--soft");
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const [text, y] of marks) context.fillText(text, LEFT - 6, y);
}

/** Frames the chosen step, and the chosen row of pixels where there is one. */
export function drawCrosshair({ context, height, width, left, step }, time, band = null) {
  context.lineWidth = 1.5;
  context.strokeStyle = styled("--cross");
  const [x, wide] = [left(time), Math.max(step, 3)];
  context.strokeRect(x - (wide - step) / 2, 0.75, wide, height - 1.5);
  if (band) context.strokeRect(LEFT, band.top, width - LEFT - RIGHT, Math.max(band.height, 3));
}

/** Shades the steps that were skipped. */
export function drawSkipped({ context, height, left, step }, cell, row) {
  context.fillStyle = styled("--skipped");
  for (let time = 0; time < cell.steps; time++) {
    if (!cell.ran(row, time)) context.fillRect(left(time), 0, step + 0.5, height);
  }
}

/** A round number of steps between marks, so that there are at most `most`. */
export function niceStep(size, most) {
  const rough = Math.max(1, size / most);
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((k) => k * power).find((every) => every >= rough);
}
