// The words of the views: a title, what it is in a few words, and what to look for.

export const ALL_UNITS =
  "Time runs to the right, a step a column; each line of pixels is one unit, and the numbers on the left say which.";
export const GREY = "Grey steps were skipped.";

export const HEAT_TEXT = {
  x: ["Input", "what the cell received", "The numbers of each step, as the cell got them."],
  i: [
    "Input gate",
    "how much each unit writes",
    "Steps at which many units open together: there the cell met something worth noting.",
  ],
  f: [
    "Forget gate",
    "how much of its memory each unit keeps",
    "Rows that stay open are long memories; a dark column is a moment when much is forgotten at once.",
  ],
  g: [
    "Candidate",
    "what would be written if i were fully open",
    "It counts only where the input gate is open, for the memory receives i * g.",
  ],
  o: [
    "Output gate",
    "how much of its memory each unit shows",
    "A unit whose output gate is closed remembers and keeps silent.",
  ],
  c: [
    "Cell state",
    "the memory",
    "A long stripe of one colour is something carried through time; colour that builds up is evidence being " +
      "gathered; a stripe that flips is a memory replaced.",
  ],
  h: [
    "Hidden state",
    "the output, and what the cell hears of itself",
    "What the rest of the model sees. Its colours have a scale of their own: compare c and h in the view of one " +
      "unit, where both stand on one scale.",
  ],
};

export const UNIT_TEXT = {
  gates: ["Its gates", "from 0, closed, to 1, open"],
  states: ["Its cell state and output", "both on one scale"],
  memory: ["Where c comes from", "what each step has written and is left of it, at the chosen step; exact"],
  output: ["Where h comes from", "a sum over the steps, at the chosen step; exact, in one order of counting"],
};

export const ANSWER_TEXT = {
  beliefs: ["What the model would answer", "asked after every step; solid: the chosen class, dashed: its rival"],
  logit: ["Which steps spoke for the class", "its logit at the chosen step, as a sum over the steps, of all units"],
};
