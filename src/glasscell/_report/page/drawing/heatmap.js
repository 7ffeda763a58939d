// Draws heat maps: time across, units or features down.

import { LEFT, RIGHT, drawCrosshair, drawSideMarks, drawTimeAxis, niceStep } from "./axis.js";
import { colourOf, coloursOf, css, parts, styled } from "./colours.js";

/** A picture with one pixel for each value. read(time, place): the value. NaN and skipped steps are grey. */
export function pictureOf(cell, row, places, scale, read) {
  const picture = new OffscreenCanvas(cell.steps, places.length);
  const context = picture.getContext("2d");
  const image = context.createImageData(cell.steps, places.length);
  const colours = coloursOf(scale);
  const skipped = parts(styled("--skipped"));
  places.forEach((place, down) => {
    for (let time = 0; time < cell.steps; time++) {
      const value = cell.ran(row, time) ? read(time, place) : NaN;
      const colour = Number.isNaN(value) ? skipped : colourOf(value, scale, colours);
      image.data.set([...colour, 255], 4 * (down * cell.steps + time));
    }
  });
  context.putImageData(image, 0, 0);
  return picture;
}

/** Draws a picture into a view, with its marks and the crosshair. chosen: the number of the chosen row of pixels. */
export function drawHeatMap(view, picture, time, chosen, labels) {
  const { context, width, height, steps } = view;
  context.imageSmoothingEnabled = picture.height > height * devicePixelRatio;
  context.drawImage(picture, 0, 0, steps, picture.height, LEFT, 0, width - LEFT - RIGHT, height);
  const each = height / picture.height;
  const every = niceStep(picture.height, Math.max(2, Math.floor(height / 22)));
  const marks = labels
    .map((text, place) => [text, (place + 0.5) * each])
    .filter(([, y], place) => place % every === 0 && (y > 6 || each > 8));
  drawSideMarks(view, marks);
  drawTimeAxis(view);
  drawCrosshair(view, time, chosen < 0 ? null : { top: chosen * each, height: each });
}

/** Draws the bar that explains the colours of a scale. */
export function drawLegend(canvas, scale) {
  const context = canvas.getContext("2d");
  coloursOf(scale).forEach((colour, k) => {
    context.fillStyle = css(colour);
    context.fillRect((k / 256) * canvas.width, 0, canvas.width / 256 + 1, canvas.height);
  });
}

/** The place down a heat map at a share of its height. */
export function placeAt(share, count) {
  return Math.max(0, Math.min(count - 1, Math.floor(share * count)));
}
