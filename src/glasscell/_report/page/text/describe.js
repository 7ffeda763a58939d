// Says in words what a view shows, for those who cannot see it and for those who can.

import { mean, timesThatRan } from "../data/order.js";
import { number, percent, signed, stepText } from "./words.js";

const STATES = ["c", "h"];

/** A heat map of a gate or state in one row: its size, what is typical, and the chosen number. */
export function describeHeatMap(cell, name, title, row, now, usual) {
  const value = number(cell.value(name, row, now.time, now.unit));
  const chosen = `${cell.unitName(now.unit)} is ${value} at ${stepText(cell, row, now.time)}.`;
  return `${title}, heat map of ${cell.size} units over ${cell.steps} steps. ${usual} ${chosen}`;
}

/** The input in one row, and the chosen number. */
export function describeInput(cell, row, now) {
  const value = cell.inputValue(row, now.time, now.feature);
  const chosen = `${cell.featureName(now.feature)} is ${number(value)} at ${stepText(cell, row, now.time)}.`;
  return `Input, ${cell.features} features over ${cell.steps} steps. ${chosen}`;
}

/** What the Dense layer gives after the chosen step. */
export function describeAnswer(cell, row, now, values) {
  const { classes, truth } = cell.answer;
  const first = values.indexOf(Math.max(...values));
  const said = `After ${stepText(cell, row, now.time)} the strongest is ${classes[first]}, ${number(values[first])}`;
  return truth ? `${said}; right is ${classes[truth[row]]}, ${number(values[truth[row]])}.` : `${said}.`;
}

/** What is typical of a quantity in one row, over the steps that ran. */
export function typical(cell, name, row) {
  const values = valuesThatRan(cell, name, row);
  if (!values.length) return "No step ran.";
  if ([...STATES, "g"].includes(name)) return `Mean size ${number(mean(values.map(Math.abs)))}.`;
  const share = (test) => percent(values.filter(test).length / values.length);
  return `Mean ${number(mean(values))}; ${share((v) => v > 0.9)} above 0.9, ${share((v) => v < 0.1)} below 0.1.`;
}

/** The values of a quantity in one row, of all units at the steps that ran. */
function valuesThatRan(cell, name, row) {
  const units = Array.from({ length: cell.size }, (_, unit) => unit);
  return timesThatRan(cell, row).flatMap((time) => units.map((unit) => cell.value(name, row, time, unit)));
}

/** The largest parts of a sum over the steps, in words. */
export function describeSources(cell, row, symbol, { initial, steps, constant = 0 }) {
  const largest = Array.from(steps, (value, time) => [value, time])
    .filter(([value]) => value !== 0)
    .sort((a, b) => Math.abs(b[0]) - Math.abs(a[0]))
    .slice(0, 3)
    .map(([value, time]) => `${stepText(cell, row, time)} ${signed(value)}`);
  const said = largest.length ? [`Most came from ${largest.join(", ")}`] : ["No step has left anything in it"];
  if (initial) said.push(`the initial state left ${signed(initial)}`);
  if (constant) said.push(`${symbol ? "a(0) is worth" : "the bias is"} ${signed(constant)}`);
  return `${said.join("; ")}.`;
}

/** Words the chosen row, step and unit, for a screen reader. */
export function describePlace(cell, now) {
  const { row, time, unit } = now;
  const at = `${stepText(cell, row, time)}, ${cell.unitName(unit)}`;
  if (!cell.ran(row, time)) return `${at}: skipped; c stays ${number(cell.value("c", row, time, unit))}.`;
  const said = ["i", "f", "g", "o", "c", "h"].map((name) => `${name} ${number(cell.value(name, row, time, unit))}`);
  return `${at}: ${said.join(", ")}.`;
}

/** Words how long the chosen unit remembers, and how often its gates are saturated. */
export function describeUnit(cell, row, unit) {
  if (!cell.arrays.half_life) return "";
  const life = cell.arrays.half_life.at(row, unit);
  if (Number.isNaN(life)) return "No step ran.";
  const steps = life < 10 ? life.toFixed(1) : Math.round(life).toLocaleString("en");
  const half = Number.isFinite(life) ? `Half of what it stores is left after ${steps} steps` : "It never forgets";
  const share = percent(cell.arrays.saturated.at(row, unit));
  return `${half}; its gates are saturated, above 0.9 or below 0.1, in ${share} of the steps.`;
}
