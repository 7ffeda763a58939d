// The frame of the views over time: cards of figures, each with a canvas for every row that is shown, on one axis.
//
// A view is an object: id, symbol, title, short (what it is, in a few words); scale, where colours stand for numbers;
// height(), in pixels; draw(view, row, now); read(row, now), the number in its head; describe(row, now), its words for
// those who cannot see it; caption(row, now), a sentence below it; pick(canvas, y), what else a click chooses.

import { AXIS, prepared, stepAt } from "../drawing/axis.js";
import { drawLegend } from "../drawing/heatmap.js";
import { element } from "../text/elements.js";
import { ALL_UNITS, GREY } from "../text/views.js";
import { endsOf, scaleText } from "../text/words.js";
import { answerViews } from "./answer.js";
import { heatViews, inputView } from "./heat.js";
import { unitViews } from "./unit.js";

export class Views {
  constructor(place, choice, orderNow) {
    Object.assign(this, { place, choice, orderNow, pictures: new Map() });
  }

  /** Builds the views of a cell again. scales: by quantity. */
  open(cell, scales) {
    this.pictures.clear();
    const context = {
      cell,
      scales,
      orderNow: this.orderNow,
      inputNow: () => this.choice.now.input,
      picture: (id, row, make) => this.picture(`${id} ${row}`, make),
    };
    this.cell = cell;
    this.cards = [
      {
        title: () => "All units",
        note: cell.mask ? `${ALL_UNITS} ${GREY}` : ALL_UNITS,
        views: [...(cell.features ? [inputView(context)] : []), ...heatViews(context)],
      },
      {
        title: (now) => `${cell.unitName(now.unit)[0].toUpperCase()}${cell.unitName(now.unit).slice(1)} alone`,
        views: unitViews(context),
      },
      ...(cell.answer ? [{ title: () => "The answer", views: answerViews(context) }] : []),
    ];
    this.place.replaceChildren(...this.cards.map((card) => this.cardOf(card)));
  }

  cardOf(card) {
    card.heading = element("h3", {});
    const note = card.note ? [element("p", { class: "soft" }, card.note)] : [];
    return element("div", { class: "card" }, card.heading, ...note, ...card.views.map((view) => this.figureOf(view)));
  }

  figureOf(view) {
    view.readout = element("span", { class: "readout" });
    view.canvases = element("div", { class: "canvases" });
    view.note = element("figcaption", { hidden: view.caption ? null : "" });
    const symbol = view.symbol ? [element("b", {}, view.symbol)] : [];
    const heading = element("h4", {}, ...symbol, view.title, element("span", { class: "short" }, view.short));
    const legend = view.scale ? [legendOf(view)] : [];
    return element(
      "figure",
      { id: `view-${view.id}` },
      element("div", { class: "view-head" }, heading, ...legend, view.readout),
      view.canvases,
      view.note,
    );
  }

  /** Draws everything by the present choices. */
  draw(now) {
    const rows = now.other === null ? [now.row] : [now.row, now.other];
    this.place.classList.toggle("two", rows.length > 1);
    for (const { views } of this.cards) views.forEach((view) => this.fitCanvases(view, rows));
    const width = this.place.querySelector(".canvas").clientWidth; // the same for all; a read is slow
    for (const { heading, title, views } of this.cards) {
      heading.textContent = title(now);
      views.forEach((view, k) => this.drawView(view, rows, now, width, k === views.length - 1));
      views[0].canvases.childNodes.forEach(
        ({ firstChild }, k) => (firstChild.textContent = rows.length > 1 ? this.cell.rows[rows[k]] : ""),
      );
    }
  }

  fitCanvases(view, rows) {
    while (view.canvases.children.length > rows.length) view.canvases.lastChild.remove();
    while (view.canvases.children.length < rows.length) view.canvases.append(this.canvasOf(view));
  }

  drawView(view, rows, now, width, isLast) {
    rows.forEach((row, k) => {
      const canvas = view.canvases.children[k].lastChild;
      view.draw(prepared(canvas, width, view.height(), this.cell.steps, isLast), row, now);
      canvas.setAttribute("aria-label", view.describe(row, now));
    });
    view.readout.replaceChildren(...rows.map((row) => view.read(row, now)));
    if (view.caption) view.note.textContent = rows.map((row) => view.caption(row, now)).join(" Beside it: ");
    if (view.legend) drawLegend(view.legend, view.scale);
  }

  canvasOf(view) {
    const canvas = element("canvas", { role: "img" });
    const choose = (event) => {
      const y = event.offsetY / (canvas.clientHeight - (canvas.hasAttribute("data-axis") ? AXIS : 3));
      this.choice.set({ time: stepAt(canvas, event.offsetX, this.cell.steps), ...(view.pick ? view.pick(y) : {}) });
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      choose(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && choose(event));
    return element("div", { class: "canvas" }, element("span", { class: "of" }), canvas);
  }

  /** Forgets the pictures of heat maps, whose order or colours have changed. */
  forget() {
    this.pictures.clear();
  }

  picture(key, make) {
    if (!this.pictures.has(key)) this.pictures.set(key, make());
    return this.pictures.get(key);
  }
}

function legendOf(view) {
  const [low, high] = endsOf(view.scale);
  view.legend = element("canvas", { width: 96, height: 8, "aria-hidden": "true" });
  return element("span", { class: "legend" }, low, view.legend, high, element("span", {}, scaleText(view.scale)));
}
