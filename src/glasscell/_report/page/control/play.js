// Walks through time, a step at a time, until the end.

const PAUSE = 180; // milliseconds between steps

export class Player {
  constructor(choice, cellOf, button) {
    Object.assign(this, { choice, cellOf, button, timer: null });
    button.addEventListener("click", () => this.toggle());
  }

  get playing() {
    return this.timer !== null;
  }

  toggle() {
    if (this.playing) return this.stop();
    const { time } = this.choice.now;
    if (time >= this.cellOf().steps - 1) this.choice.set({ time: 0 });
    this.timer = setInterval(() => this.step(), PAUSE);
    this.show();
  }

  step() {
    const { time } = this.choice.now;
    if (time >= this.cellOf().steps - 1) return this.stop();
    this.choice.set({ time: time + 1 });
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.show();
  }

  show() {
    this.button.textContent = this.playing ? "❚❚ Pause" : "▶ Play";
    this.button.setAttribute("aria-pressed", String(this.playing));
  }
}
