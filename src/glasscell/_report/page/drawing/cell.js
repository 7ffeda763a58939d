// Draws the cell as a diagram: one step of one unit, with its numbers, each path as wide as its number.

import { number, signed } from "../text/words.js";
import { element, shownNumber, svgElement } from "../text/elements.js";

// The paths, with both ends; `flows` gives the number in each.
const PATHS = {
  c: "M14 56 H137",
  kept: "M163 56 H287",
  new: "M313 56 H586",
  f: "M150 214 V69",
  i: "M250 214 C250 180 284 190 292 158",
  g: "M350 214 C350 180 316 190 308 158",
  written: "M300 137 V69",
  seen: "M450 56 V95 M450 121 V151",
  o: "M450 214 V177",
  h: "M463 164 H586",
};
const NODES = {
  "×": [
    [150, 56],
    [300, 148],
    [450, 164],
  ],
  "+": [[300, 56]],
};
const GATE_BOXES = { f: 150, i: 250, g: 350, o: 450 };
// The places of the numbers: x, y, and where the text is anchored.
const LABELS = {
  c: [14, 40, "start"],
  kept: [225, 40, "middle"],
  new: [586, 40, "end"],
  written: [310, 104, "start"],
  seen: [464, 141, "start"],
  h: [586, 190, "end"],
};
const WIDEST = 15;
const WORDS = { c: "c", kept: "f * c", new: "c'", written: "i * g", seen: "a(c')", h: "h'" };

/** Everything that flows through the cell at a step: the trace's numbers, and the three products between them. */
export function flows(cell, row, time, unit, activation) {
  const at = (name) => cell.value(name, row, time, unit);
  const [c, i, f, g, o] = [cell.cellBefore(row, time, unit), at("i"), at("f"), at("g"), at("o")];
  const seen = activation ? activation(at("c")) : NaN;
  return { c, i, f, g, o, kept: f * c, written: i * g, new: at("c"), seen, h: at("h"), ran: cell.ran(row, time) };
}

/** The diagram. flow: the result of `flows`. largest: the largest |c| and |h| of the cell, which are drawn widest. */
export function cellDiagram(flow, largest, description) {
  return svgElement(
    "svg",
    { viewBox: "0 0 600 300", role: "img", "aria-label": description, class: flow.ran ? "cell" : "cell skipped-step" },
    svgElement("rect", { x: 72, y: 12, width: 466, height: 252, rx: 16, class: "glass" }),
    ...inputs(),
    ...Object.entries(PATHS).map(([name, d]) => path(name, d, flow[name], largest)),
    ...Object.entries(NODES).flatMap(([sign, places]) => places.map((place) => node(sign, place))),
    node("a", [450, 108]),
    ...Object.entries(GATE_BOXES).map(([name, x]) => gateBox(name, x, flow[name])),
    ...Object.entries(LABELS).map(([name, place]) => label(name, place, flow[name])),
  );
}

function path(name, d, value, largest) {
  const most = name === "h" ? largest.h : ["c", "kept", "new", "written"].includes(name) ? largest.c : 1;
  const size = Number.isFinite(value) ? Math.min(1, Math.abs(value) / (most || 1)) : 0;
  const kind = ["f", "i", "o"].includes(name) ? "gate" : value < 0 ? "minus" : "plus";
  return svgElement("path", {
    d,
    class: `path ${kind}`,
    "stroke-width": (1 + (WIDEST - 1) * size).toFixed(1),
    "data-path": name,
  });
}

function node(sign, [x, y]) {
  return svgElement(
    "g",
    { class: "node" },
    svgElement("circle", { cx: x, cy: y, r: 13 }),
    svgElement("text", { x, y: y + 5, "text-anchor": "middle" }, sign),
  );
}

/** A gate: its letter, its number, and a bar as full as it is open. */
function gateBox(name, x, value) {
  const share = Number.isFinite(value) ? Math.min(1, Math.abs(value)) : 0;
  const kind = name === "g" ? (value < 0 ? "minus" : "plus") : "gate";
  return svgElement(
    "g",
    { class: "gate-box" },
    svgElement("rect", { x: x - 38, y: 214, width: 76, height: 40, rx: 8, class: "box" }),
    svgElement("rect", { x: x - 32, y: 245, width: 64, height: 4, rx: 2, class: "track" }),
    svgElement("rect", { x: x - 32, y: 245, width: (64 * share).toFixed(1), height: 4, rx: 2, class: `fill ${kind}` }),
    svgElement(
      "text",
      { x, y: 237, "text-anchor": "middle" },
      svgElement("tspan", { class: "symbol" }, `${name} `),
      name === "g" ? signed(value) : number(value),
    ),
  );
}

/** The lines that bring x and h into the gates. */
function inputs() {
  const lines = Object.values(GATE_BOXES).map((x) => svgElement("path", { d: `M${x} 272 V254`, class: "wire" }));
  const text = svgElement(
    "text",
    { x: 300, y: 289, class: "label", "text-anchor": "middle" },
    "x, and h of the step before",
  );
  return [svgElement("path", { d: "M150 272 H450", class: "wire" }), ...lines, text];
}

function label(name, [x, y, anchor], value) {
  const symbol = svgElement("tspan", { class: "symbol" }, `${WORDS[name]} `);
  return svgElement("text", { x, y, "text-anchor": anchor, class: "label" }, symbol, number(value));
}

/** The two lines below the diagram, with the numbers of this step. */
export function equations(flow) {
  const shown = (name) => shownNumber(name, flow[name], number(flow[name]));
  const product = (...names) => element("span", { class: "product" }, shown(names[0]), " * ", shown(names[1]));
  const lines = [
    ["c' = f * c + i * g", [shown("new"), " = ", product("f", "c"), " + ", product("i", "g")]],
    ["h' = o * a(c')", [shown("h"), " = ", shown("o"), " * ", Number.isNaN(flow.seen) ? "a(c')" : shown("seen")]],
  ];
  if (flow.ran) return lines;
  return [
    ["c' = c", [shown("new"), " = ", shown("c")]],
    ["h' = h", [shown("h")]],
  ];
}

/** The diagram in one sentence. */
export function describeCell(flow) {
  if (!flow.ran) return `The step was skipped: c stays ${number(flow.new)}, h stays ${number(flow.h)}.`;
  const { f, c, i, g, o, h } = flow;
  return (
    `The cell state goes from ${number(c)} to ${number(flow.new)}: the forget gate keeps ${number(f)} of it, ` +
    `and the input gate lets ${number(i)} of the candidate ${number(g)} in. ` +
    `The output gate shows ${number(o)}; h is ${number(h)}.`
  );
}
