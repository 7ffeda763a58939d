/* The live cell: sliders and choices on one side, one run of the cell on the other. */
"use strict";

(() => {
  const root = document.getElementById("live-cell");
  const find = (selector) => root.querySelector(selector);
  const trained = JSON.parse(document.getElementById("trained-cell").textContent);
  const NAMES = { i: "input gate", f: "forget gate", g: "candidate", o: "output gate" };
  const KINDS = ["W", "R", "b"];
  /* W, R and b of each gate in the order i, f, g, o, and the input. */
  const PRESETS = {
    "the worked example": [[2, 1, -1], [0, -1, 1], [1, 1, 0], [1, 0, 0], [1, 0, 1, 0, 0, 0, 0, 0]],
    "remembers the first input": [[6, 0, -3], [0, 0, 6], [2, 0, 0], [0, 0, 3], [1, 0, 0, 0, 0, 0, 0, 0]],
    "forgets at once": [[0, 0, 3], [0, 0, -6], [2, 0, 0], [0, 0, 3], [1, 0, 0, 1, 0, 0, 0, 0]],
    "counts the ones": [[0, 0, 6], [0, 0, 6], [1, 0, 0], [0, 0, 3], [1, 0, 1, 1, 0, 1, 0, 1]],
    "a new input replaces the old": [[6, 0, -3], [-6, 0, 3], [0.5, 0, 0], [0, 0, 3], [0.8, 0, 0, 0, 2, 0, 0, 0]],
    "Keras's start: all zero, forget bias 1": [[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0]],
  };
  const sliders = { weights: {}, inputs: [] };
  let step = 0, timer = null;

  function slider(label, limit, text) {
    const holder = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "range", min: -limit, max: limit, step: 0.05 });
    const shown = document.createElement("output");
    input.setAttribute("aria-label", label);
    input.addEventListener("input", () => { show(input); update(); });
    holder.append(...(text ? [text] : []), input, shown);
    return { holder, input };
  }

  function show(input) {
    input.nextElementSibling.textContent = Number(input.value).toFixed(2);
  }

  function makeWeightSliders() {
    for (const gate of GATES) {
      const row = document.createElement("tr");
      const head = Object.assign(document.createElement("th"), { scope: "row", textContent: `${gate}, ${NAMES[gate]}` });
      const made = KINDS.map((kind) => slider(`${kind} of the ${NAMES[gate]} ${gate}`, 6));
      sliders.weights[gate] = made.map(({ input }) => input);
      row.append(head, ...made.map(({ holder }) => {
        const cell = document.createElement("td");
        cell.append(holder);
        return cell;
      }));
      find(".weights tbody").append(row);
    }
  }

  function makeInputSliders(count) {
    for (let t = 1; t <= count; t += 1) {
      const { holder, input } = slider(`x at step ${t}`, 2, `${t}`);
      sliders.inputs.push(input);
      find(".inputs > div").append(holder);
    }
  }

  function fillChoices() {
    const option = (select, text, value) => find(select).add(new Option(text, value));
    Object.keys(PRESETS).forEach((name) => option("#live-preset", name, name));
    option("#live-preset", "your own", "");
    trained.recordings.forEach(({ name }, k) => option("#live-recording", name, k));
    trained.recurrent_kernel.forEach((_, unit) => option("#live-unit", unit, unit));
    find("#live-unit").value = 2;
  }

  function takePreset(name) {
    if (!PRESETS[name]) return;
    const values = PRESETS[name];
    GATES.forEach((gate, k) => sliders.weights[gate].forEach((input, kind) => { input.value = values[k][kind]; }));
    sliders.inputs.forEach((input, t) => { input.value = values[4][t]; });
    [...Object.values(sliders.weights).flat(), ...sliders.inputs].forEach(show);
  }

  const isTrained = () => find("[name=live-which]:checked").value === "trained";

  /* The cell that is chosen: its weights, the sequence, and the unit that is shown. */
  function chosen() {
    if (isTrained()) {
      const inputs = trained.recordings[find("#live-recording").value].x;
      return { weights: trained, inputs, unit: Number(find("#live-unit").value) };
    }
    const column = (kind) => GATES.map((gate) => Number(sliders.weights[gate][kind].value));
    const weights = { kernel: [column(0)], recurrent_kernel: [column(1)], bias: column(2) };
    return { weights, inputs: sliders.inputs.map((input) => [Number(input.value)]), unit: 0 };
  }

  function update() {
    const { weights, inputs, unit } = chosen();
    const run = runCell(weights, inputs);
    step = Math.min(step, run.length - 1);
    for (const part of root.querySelectorAll("[data-shown-for]")) {
      part.hidden = (part.dataset.shownFor === "trained") !== isTrained();
    }
    find(".steps .x").hidden = inputs[0].length > 1;
    Object.assign(find("#live-step"), { max: run.length, value: step + 1 });
    find(".time output").textContent = `${step + 1} of ${run.length}`;
    const now = run[step][unit];
    fillSlots(root, now);
    find(".arithmetic").textContent = stepAsText({ ...now, hBefore: now.before.h[unit] }, inputs[step], weights);
    drawChart(find(".chart"), run, step, unit);
    fillTable(find(".steps tbody"), run, step, unit, inputs);
    root.shown = { run, weights, inputs, unit, step };
  }

  function goTo(next) {
    step = Math.max(0, Math.min(next, root.shown.run.length - 1));
    update();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    find(".play").setAttribute("aria-pressed", "false");
    find(".play").textContent = "Play";
    find(".arithmetic").setAttribute("aria-live", "polite");
  }

  function play() {
    if (timer !== null) return stop();
    if (step === root.shown.run.length - 1) goTo(0);
    find(".play").setAttribute("aria-pressed", "true");
    find(".play").textContent = "Stop";
    find(".arithmetic").setAttribute("aria-live", "off");
    timer = setInterval(() => {
      goTo(step + 1);
      if (step === root.shown.run.length - 1) stop();
    }, 700);
  }

  function listen() {
    const changed = (selector, then) => find(selector).addEventListener("input", (event) => then(event.target.value));
    changed("#live-preset", (name) => { takePreset(name); goTo(0); });
    changed("#live-recording", () => goTo(0));
    changed("#live-unit", update);
    changed("#live-step", (value) => goTo(Number(value) - 1));
    changed(".which", () => goTo(0));
    for (const part of [".weights", ".inputs"]) changed(part, () => { find("#live-preset").value = ""; });
    for (const button of root.querySelectorAll("[data-move]")) {
      button.addEventListener("click", () => goTo(step + Number(button.dataset.move)));
    }
    find(".play").addEventListener("click", play);
  }

  makeWeightSliders();
  makeInputSliders(PRESETS["the worked example"][4].length);
  fillChoices();
  takePreset("the worked example");
  listen();
  update();
})();
