/* Shows one step of a run in the drawing and as sums, and all steps in a chart and a table. */
"use strict";

const DIGITS = 4;
const LINES = ["f", "c", "h"];

/* A number with four decimals, without a minus before a zero. */
function written(value) {
  const text = value.toFixed(DIGITS);
  return Number(text) === 0 ? text.replace("-", "") : text;
}

/* A number that somebody chose, without the zeros at its end. */
const short = (value) => String(Number(value.toFixed(DIGITS)));

/* A number as a part of a sum: what is negative stands in brackets. */
const bracketed = (text) => (text.startsWith("-") ? `(${text})` : text);
const factor = (value) => bracketed(written(value));

function sumOf(gate, unit, x, weights) {
  const { parts, z } = unit;
  const column = GATES.indexOf(gate);
  if (x.length === 1) {
    const W = weights.kernel[0][column], R = weights.recurrent_kernel[0][column];
    const [x0, w, r, b] = [x[0], W, R, parts[gate].b].map((value) => bracketed(short(value)));
    return `${x0}·${w} + ${factor(unit.before.h[0])}·${r} + ${b} = ${written(z[gate])}`;
  }
  const { x: fromX, h: fromH, b } = parts[gate];
  return `${factor(fromX)} + ${factor(fromH)} + ${factor(b)} = ${written(z[gate])}`;
}

/* The step as one would write it down by hand. */
function stepAsText(unit, x, weights) {
  const terms = x.length === 1 ? "x·W + h·R + b" : "(x W) + (h R) + b";
  const lines = [`before: h = ${written(unit.before.h.length === 1 ? unit.before.h[0] : unit.hBefore)}, ` +
    `c = ${written(unit.before.c)}`, "", `z = ${terms}`];
  for (const gate of GATES) lines.push(`z_${gate} = ${sumOf(gate, unit, x, weights)}`);
  lines.push("");
  for (const gate of GATES) {
    lines.push(`${gate} = ${gate === "g" ? "tanh" : "sigmoid"}(${written(unit.z[gate])}) = ${written(unit[gate])}`);
  }
  const { i, f, g, o, c, h, before } = unit;
  lines.push("", `c' = f·c + i·g = ${written(f)}·${factor(before.c)} + ${written(i)}·${factor(g)} = ${written(c)}`,
    `h' = o·tanh(c') = ${written(o)}·tanh(${written(c)}) = ${written(h)}`);
  return lines.join("\n");
}

function fillSlots(root, unit) {
  for (const slot of root.querySelectorAll("[data-slot]")) slot.textContent = unit[slot.dataset.slot].toFixed(2);
}

function fillTable(body, run, current, unit, inputs) {
  body.replaceChildren(...run.map((units, t) => {
    const row = document.createElement("tr");
    if (t === current) row.setAttribute("aria-current", "step");
    const { i, f, g, o, c, h } = units[unit];
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = t + 1;
    const x = inputs[t].length === 1 ? [inputs[t][0]] : [];
    row.append(head, ...[...x, i, f, g, o, c, h].map((value) => {
      const cell = document.createElement("td");
      cell.textContent = written(value);
      return cell;
    }));
    return row;
  }));
}

function svgNode(name, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

/* Where the chart draws a value of a step. */
function scales(values, steps) {
  const low = Math.min(-1, ...values), high = Math.max(1, ...values);
  return {
    low, high,
    across: (t) => 46 + (steps === 1 ? 0 : (t / (steps - 1)) * 396),
    down: (value) => 12 + ((high - value) / (high - low)) * 150,
  };
}

/* The lines of f, c and h; a vertical line marks the current step. */
function drawChart(svg, run, current, unit) {
  const { low, high, across, down } = scales(run.flatMap((units) => LINES.map((name) => units[unit][name])), run.length);
  const nodes = [low, 0, high].flatMap((value) => [
    svgNode("line", { class: "grid", x1: 46, x2: 442, y1: down(value), y2: down(value) }),
    svgNode("text", { x: 40, y: down(value) + 4, "text-anchor": "end" }, value.toFixed(1)),
  ]);
  nodes.push(svgNode("line", { class: "now", x1: across(current), x2: across(current), y1: 8, y2: 166 }),
    svgNode("text", { x: across(current), y: 182, "text-anchor": "middle" }, `step ${current + 1}`));
  const ends = LINES.map((name) => ({ name, y: down(run.at(-1)[unit][name]) })).sort((a, b) => a.y - b.y);
  ends.forEach((end, k) => { if (k) end.y = Math.max(end.y, ends[k - 1].y + 14); });
  for (const { name, y } of ends) {
    const points = run.map((units, t) => `${across(t)},${down(units[unit][name])}`).join(" ");
    nodes.push(svgNode("polyline", { class: `line-${name}`, points }),
      svgNode("text", { class: `name-${name}`, x: 450, y: y + 4 }, name));
  }
  svg.replaceChildren(...nodes);
}
