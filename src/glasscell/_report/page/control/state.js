// What the reader has chosen. Views are told when it changes, at most once a frame.

export class Choice {
  constructor(first) {
    this.now = first;
    this.listeners = [];
    this.waiting = false;
  }

  /** Changes some of what is chosen. */
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
 * What is chosen first in a cell: its first row, the last step that ran there, the unit with the largest state there.
 * hasBeside: whether the second row stands beside it.
 */
export function firstChoice(cell, hasBeside) {
  const row = 0;
  const time = cell.lastStep(row);
  let unit = 0;
  for (let other = 1; other < cell.size; other++) {
    if (Math.abs(cell.value("c", row, time, other)) > Math.abs(cell.value("c", row, time, unit))) unit = other;
  }
  return {
    row,
    other: hasBeside && cell.rows.length > 1 ? 1 : null,
    time,
    unit,
    feature: 0,
    way: cell.arrays.half_life ? "half-life" : "number",
    input: cell.features > 6 ? "heat map" : "lines",
  };
}
