// The colours of values: maps that colour-blind eyes can read, for light and dark pages.

// Viridis (Smith, van der Walt and Firing), from closed to open.
const GATE = [
  "#440154",
  "#48186a",
  "#472d7b",
  "#424086",
  "#3b528b",
  "#33638d",
  "#2c728e",
  "#26828e",
  "#21918c",
  "#1fa088",
  "#28ae80",
  "#3fbc73",
  "#5ec962",
  "#84d44b",
  "#addc30",
  "#d8e219",
  "#fde725",
];
// Blue below zero and orange above; zero fades into the page.
const SIGNED = {
  light: ["#053061", "#2166ac", "#6aacd0", "#c5dfec", "#f7f7f5", "#fbdcb8", "#f0a04b", "#c05f10", "#7f3b08"],
  dark: ["#b9e0ff", "#6cb5ee", "#2f78b7", "#1c4468", "#1b1f24", "#5c3514", "#a95c14", "#ef9a45", "#ffdcb0"],
};

let printing = false;
const found = new Map(); // the colours of the styles that have been read

/** Takes the light colours while the page is printed. */
export function setPrinting(value) {
  printing = value;
  document.documentElement.toggleAttribute("data-printing", value);
}

export function isDark() {
  return !printing && matchMedia("(prefers-color-scheme: dark)").matches;
}

/** A colour that the styles define, such as "--ink". */
export function styled(name) {
  if (!found.has(name)) found.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return found.get(name);
}

/** Reads the styles again, after a change between light, dark and paper. */
export function forgetStyles() {
  found.clear();
}

/** The 256 colours of a scale, from its low to its high end: [red, green, blue] each. */
export function coloursOf(scale) {
  const stops = (scale.kind === "gate" ? GATE : SIGNED[isDark() ? "dark" : "light"]).map(parts);
  return Array.from({ length: 256 }, (_, k) => between(stops, k / 255));
}

/** The colour of a value. colours: those of its scale. */
export function colourOf(value, scale, colours) {
  const place = (value - scale.low) / (scale.high - scale.low);
  return colours[Math.max(0, Math.min(255, Math.round(255 * place)))];
}

/** A colour as the styles write it. */
export function css([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

/** Black or white, whichever is easier to read on a colour. */
export function inkOn([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#111" : "#fff";
}

/** Red, green and blue of "#rrggbb". */
export function parts(hex) {
  return [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
}

function between(stops, place) {
  const scaled = place * (stops.length - 1);
  const k = Math.min(Math.floor(scaled), stops.length - 2);
  return stops[k].map((low, part) => Math.round(low + (stops[k + 1][part] - low) * (scaled - k)));
}
