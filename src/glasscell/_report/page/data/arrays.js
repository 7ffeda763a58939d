// Reads the data of a cell: arrays of float32, the steps that ran, and names.

/** An array of up to three axes over a Float32Array. */
export class NumberArray {
  constructor({ shape, base64 }) {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
    this.values = new Float32Array(bytes.buffer);
    this.shape = shape;
    this.strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  }

  at(i, j = 0, k = 0) {
    const [a, b = 0, c = 0] = this.strides;
    return this.values[i * a + j * b + k * c];
  }
}

/** One cell over time: gates and states by name, (rows, steps, units), in processing order. */
export class Cell {
  constructor(data) {
    Object.assign(this, data);
    this.arrays = Object.fromEntries(Object.entries(data.arrays).map(([name, a]) => [name, new NumberArray(a)]));
    [, this.steps, this.size] = this.arrays.f.shape;
    this.allH = this.arrays.all_h ?? this.arrays.h;
    this.features = this.arrays.x?.shape[2] ?? 0;
    this.knowsWeights = ["x", "h0", "kernel", "recurrent_kernel"].every((name) => name in this.arrays);
    if (data.answer) {
      this.answer = {
        ...data.answer,
        kernel: new NumberArray(data.answer.kernel),
        bias: new NumberArray(data.answer.bias),
      };
    }
  }

  /** Whether the mask let a step run. */
  ran(row, time) {
    return !this.mask || this.mask[row][time] === 1;
  }

  /** Whether the state was set to zero before a step. */
  wasReset(row, time) {
    return Boolean(this.reset) && this.reset[row][time] === 1;
  }

  /** A gate or a state of a unit; NaN for the gates of a step that was skipped. */
  value(name, row, time, unit) {
    return this.arrays[name].at(row, time, unit);
  }

  /** A feature of the input; NaN at a step that was skipped, whose input is padding. */
  inputValue(row, time, feature) {
    return this.ran(row, time) ? this.arrays.x.at(row, time, feature) : NaN;
  }

  /** The cell state before a step; NaN where the initial state is not known. */
  cellBefore(row, time, unit) {
    if (this.wasReset(row, time)) return 0;
    if (time) return this.arrays.c.at(row, time - 1, unit);
    return this.arrays.c0 ? this.arrays.c0.at(row, unit) : NaN;
  }

  /** The hidden state before the first step. */
  hAtFirst(row, unit) {
    return this.arrays.h0.at(row, this.units[unit]);
  }

  /** The last step of a row that ran; the last step of all where none ran. */
  lastStep(row) {
    for (let time = this.steps - 1; time >= 0; time--) if (this.ran(row, time)) return time;
    return this.steps - 1;
  }

  /** The index on the page of the unit with this number in the cell; -1 if it is not on the page. */
  placeOf(number) {
    return this.units.indexOf(number);
  }

  unitName(place) {
    const number = this.units[place];
    return this.unitNames ? `unit ${number} (${this.unitNames[number]})` : `unit ${number}`;
  }

  featureName(k) {
    return this.featureNames ? this.featureNames[k] : `x[${k}]`;
  }

  stepName(row, time) {
    return this.stepNames ? this.stepNames[row][time] : null;
  }
}
