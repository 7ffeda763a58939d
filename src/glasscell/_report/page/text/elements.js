// Makes elements of the page. Text is inserted as text, never as markup, so that a name cannot run anything.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children, which are elements or text. */
export function element(tag, attributes = {}, ...children) {
  return filledElement(document.createElement(tag), attributes, children);
}

/** An element of SVG. */
export function svgElement(tag, attributes = {}, ...children) {
  return filledElement(document.createElementNS(SVG, tag), attributes, children);
}

function filledElement(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** A number of the trace, written short, with all digits in `data-value`. */
export function shownNumber(name, value, text) {
  return element("span", { class: "number", "data-name": name, "data-value": String(value) }, text);
}
