// Puts the page together: reads the data, and lets every view follow what the reader chooses.

import { Cell } from "./data/arrays.js";
import { answerOf } from "./data/answer.js";
import { orderOf } from "./data/order.js";
import { gateScale, signedScale } from "./data/scale.js";
import { GATES, gateTerms, logitSources, memorySources, outputSources } from "./data/sources.js";
import { forgetStyles, isDark, setPrinting } from "./drawing/colours.js";
import { namedSteps } from "./views/steps.js";
import { ChoiceBar } from "./control/choices.js";
import { showInside } from "./views/inside.js";
import { listenToKeys } from "./control/keys.js";
import { Player } from "./control/play.js";
import { Choice, firstChoice } from "./control/state.js";
import { Views } from "./views/frame.js";
import { describePlace } from "./text/describe.js";
import { showAdvice, showDefinitions } from "./text/definitions.js";
import { showResult } from "./views/result.js";

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const cells = data.cells.map((cell) => new Cell(cell));

let cell;
let scales;
let order;
let ordered; // the choice that the order belongs to
let stepsFor; // the choice that the steps by name belong to
const cellOf = () => cell;
const orderNow = () => order;

const choice = new Choice({ cell: 0, colour: "c", ...firstChoice(cells[0], data.hasBeside) });
const views = new Views(byId("views"), choice, orderNow);
const player = new Player(choice, cellOf, byId("play"));
const bar = new ChoiceBar(byId("choices"), choice, cells, cellOf, orderNow);
listenToKeys(byId("glass"), choice, cellOf, orderNow, player);

/** Opens a cell: its scales, its views and its words. */
function open(next) {
  cell = next;
  ordered = null;
  scales = Object.fromEntries(["i", "f", "o"].map((name) => [name, gateScale(cell.arrays[name].values)]));
  for (const name of ["g", "c", "h", ...(cell.features ? ["x"] : [])])
    scales[name] = signedScale(cell.arrays[name].values);
  views.open(cell, scales);
  byId("left-out").textContent = cell.leftOut;
  byId("left-out").hidden = !cell.leftOut;
  showDefinitions(byId("definitions"), cell);
}

/** Sorts the units again when a choice has changed their order. */
function sort({ row, way, feature, label }) {
  const key = [row, way, feature, label].join();
  if (key === ordered) return;
  order = orderOf(cell, row, way, feature, label ?? (cell.answer ? answerOf(cell, row) : 0));
  ordered = key;
  views.forget();
}

function show(now) {
  if (now.fresh) {
    open(cells[now.cell]);
    Object.assign(choice.now, firstChoice(cell, data.hasBeside), { label: null, fresh: false });
    now = choice.now;
  }
  if (cell.answer && now.label == null) {
    Object.assign(choice.now, { label: cell.answer.truth ? cell.answer.truth[now.row] : answerOf(cell, now.row) });
    now = choice.now;
  }
  sort(now);
  views.draw(now);
  showInside(byId("inside"), cell, scales, now);
  showSteps(now);
  byId("place").setAttribute("aria-live", player.playing ? "off" : "polite"); // too fast for speech
  byId("place").textContent = describePlace(cell, now);
}

/** Shows the steps by name; where only the time has changed, only the mark moves. */
function showSteps({ cell: number, row, unit, time, colour }) {
  byId("steps").hidden = !cell.stepNames;
  if (!cell.stepNames) return;
  const key = [number, row, unit, colour, isDark()].join();
  if (key !== stepsFor) byId("steps").replaceChildren(namedSteps(cell, row, unit, colour, scales[colour]));
  stepsFor = key;
  for (const step of byId("steps").querySelectorAll(".chosen")) step.classList.remove("chosen");
  byId("steps").querySelector(`[data-step="${time}"]`).classList.add("chosen");
}

byId("steps").addEventListener("click", (event) => {
  const step = event.target.closest("[data-step]")?.dataset.step;
  if (step !== undefined) choice.set({ time: Number(step) });
});

/** Draws everything again, where its size or its colours have changed. */
function redraw() {
  forgetStyles();
  views.forget();
  show(choice.now);
  if (data.result) showResult(data.result);
}

choice.onChange(show);
choice.onChange((now) => bar.show(now));
showAdvice(byId("advice"));
open(cells[0]);
redraw();
bar.show(choice.now);
new ResizeObserver(() => choice.set({})).observe(byId("views"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
for (const [event, printing] of [
  ["beforeprint", true],
  ["afterprint", false],
]) {
  addEventListener(event, () => {
    setPrinting(printing);
    redraw();
  });
}

// For the browser's console, and for the tests.
globalThis.glasscell = { cells, choice, GATES, gateTerms, memorySources, outputSources, logitSources };
