// Holds the choices of the reader, and tells the views of a change, at most once a frame.

export class Choice {
  constructor(first) {
    this.now = first;
    this.listeners = [];
    this.waiting = false;
  }

  /** Changes some of the choices. */
  set(changes) {
    this.now = { ...this.now, ...changes };
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.tell();
    });
  }

  /** Calls `listener(now)` at every change. */
  onChange(listener) {
    this.listeners.push(listener);
  }

  tell() {
    for (const listener of this.listeners) listener(this.now);
  }
}

/**
 * Returns the first choices in a cell: its first row, the last step that ran, the unit with the largest state there.
 * hasBeside: whether the second row is shown beside it; then the step is the last that ran in both.
 */
export function firstChoice(cell, hasBeside) {
  const [row, other] = [0, hasBeside && cell.rows.length > 1 ? 1 : null];
  const time = Math.min(cell.lastStep(row), cell.lastStep(other ?? row));
  const size = (unit) => Math.abs(cell.value("c", row, time, unit));
  let unit = 0;
  for (let next = 1; next < cell.size; next++) if (size(next) > size(unit)) unit = next;
  const way = cell.arrays.half_life ? "half-life" : "number";
  return { row, other, time, unit, feature: 0, way, input: cell.features > 6 ? "heat map" : "lines" };
}
