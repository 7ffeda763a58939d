"""The report pages: what they say, and which pictures they hold. `page.html.j2` says how they look."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from glasscell._files import write_whole
from glasscell._report import figures

Array = npt.NDArray[Any]

MAX_ROWS = 8  # sequences shown on one page; every one takes six pictures

EQUATIONS = """\
i  = s(x W_i + h R_i + b_i)  input gate
f  = s(x W_f + h R_f + b_f)  forget gate
g  = a(x W_g + h R_g + b_g)  candidate
o  = s(x W_o + h R_o + b_o)  output gate
c' = f * c + i * g           cell state
h' = o * a(c')               hidden state"""

READING = (
    "Time runs from left to right, in the order of processing, and every row of a picture is one unit of the cell. "
    "Units are sorted by their mean forget gate, the longest memory on top, in the same order in all pictures; the "
    "ticks give their numbers. Steps and units count from 0, as in trace.f[row, step, unit]. Gates are fractions "
    "from 0, closed, to 1, open."
)


@dataclass(frozen=True)
class Panel:
    """One quantity of the cell: how it is drawn and what a reader should look for."""

    name: str
    title: str
    scale: figures.Scale
    caption: str


PANELS = (
    Panel(
        "f",
        "Forget gate",
        "gate",
        "How much of its memory each unit keeps. Near 1 (yellow) the conveyor belt carries on; near 0 (dark) the unit "
        "starts afresh. Look for rows that stay yellow, the long memories, and for dark columns, the moments when much "
        "is forgotten at once.",
    ),
    Panel(
        "i",
        "Input gate",
        "gate",
        "How much each unit writes into its memory. Look for the steps at which many units brighten together: there "
        "the cell met something worth noting.",
    ),
    Panel(
        "g",
        "Candidate",
        "signed",
        "What would be written if the input gate were fully open: red adds, blue takes away. It counts only where the "
        "input gate is bright, because the memory receives i * g.",
    ),
    Panel(
        "c",
        "Cell state, the conveyor belt",
        "signed",
        "The memory itself. A long stripe of one colour is something carried through time; colour that builds up is "
        "evidence being gathered; a stripe that flips is a memory replaced.",
    ),
    Panel(
        "o",
        "Output gate",
        "gate",
        "How much of its memory each unit shows. A dark row with a strong colour in c remembers, but keeps silent.",
    ),
    Panel(
        "h",
        "Hidden state, the output",
        "signed",
        "What the rest of the model sees, and what the cell hears of itself one step later. Compare with c: where h is "
        "paler, the output gate holds back.",
    ),
)


@dataclass(frozen=True)
class Card:
    """One picture with its words."""

    title: str
    svg: Markup
    caption: str
    symbol: str = ""
    fact: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, code and cards; `wide` cards stand two in a row, others three."""

    title: str
    text: tuple[str, ...] = ()
    cards: tuple[Card, ...] = ()
    code: str = ""
    code_label: str = "The equations of the cell"
    wide: bool = False


@dataclass(frozen=True)
class Score:
    """A labelled share, 0 to 1."""

    name: str
    value: float


@dataclass(frozen=True)
class Example:
    """One utterance that the training report opens up.

    trace: its arrays by name, each (1, T, H), as `Trace.asdict` gives them. x: (T, I), what went into the cell.
    probabilities: (T, K), the model's belief after each step. truth: its class. row: its place in the held-out set.
    """

    trace: Mapping[str, Array]
    x: Array
    probabilities: Array
    truth: int
    row: int


def trace_report(path: str | os.PathLike[str], trace: Mapping[str, Array], title: str = "What the cell did") -> Path:
    """Write a page of heat maps of the gates and states of a trace; at most 8 rows, each with six pictures.

    trace: its arrays by name, each (B, T, H), as `Trace.asdict` gives them.
    path: the HTML file; one that is there is replaced, whole or not at all. Returns: its path.
    Raises: ValueError for an empty trace, naming its shape; OSError where the file cannot be written.
    """
    batch, steps, units = trace["f"].shape
    if 0 in (batch, steps, units):
        raise ValueError(f"trace: expected at least one row, step and unit, got (B, T, H) = {(batch, steps, units)}")
    shown = min(batch, MAX_ROWS)
    lead = f"{_count(units, 'unit')}, {_count(steps, 'step')}, {_count(batch, 'sequence')}"
    if shown < batch:
        lead += f"; the first {shown} are shown"
    sections = [Section("How to read it", (READING,), code=EQUATIONS)]
    for row in range(shown):
        ran = int(np.sum(trace["mask"][row])) if "mask" in trace else steps
        text = () if ran == steps else (f"{ran} of {steps} steps ran; the mask skipped the rest (grey).",)
        sections.append(Section(f"Row {row}", text, _panels(trace, row, explain=row == 0)))
    return _write(path, eyebrow="glasscell trace", title=title, lead=lead + ".", sections=sections, footer="")


def training_report(path: str | os.PathLike[str], metrics: dict[str, Any], example: Example) -> Path:
    """Write the page of one `glasscell train` run.

    path: the HTML file; one that is there is replaced, whole or not at all. metrics: as `_training.train` returns them.
    Returns: its path. Raises: OSError where the file cannot be written.
    """
    speakers = [name.removeprefix("speaker ") for name in metrics["speakers"]]
    held_out = metrics["utterances"]["held_out"]
    sections = [_learning(metrics, speakers), _utterance(example, metrics["speakers"]), _inside(example)]
    sections.append(_use(metrics))
    return _write(
        path,
        eyebrow="glasscell train",
        title="Who is speaking?",
        lead="Nine men say two Japanese vowels, one after the other. An LSTM hears 7 to 29 short frames of sound and "
        "names the speaker.",
        scores=[
            Score(f"LSTM, {metrics['settings']['units']} units", metrics["accuracy"]),
            Score("linear model on each recording's mean and spread", metrics["baselines"]["linear"]),
            Score("always the most frequent speaker", metrics["baselines"]["majority"]),
        ],
        verdict=f"{metrics['correct']} of {held_out} recordings that the model never heard are named rightly.",
        facts=_facts(metrics),
        sections=sections,
        footer=Markup(
            "Recordings: M. Kudo, J. Toyama, M. Shimbo, “Japanese Vowels”, UCI Machine Learning Repository, "
            '<a href="https://doi.org/10.24432/C5NS47">doi:10.24432/C5NS47</a>, CC BY 4.0, repacked.'
        ),
    )


def _facts(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    settings, versions, utterances = metrics["settings"], metrics["versions"], metrics["utterances"]
    return [
        ("Recordings", f"{utterances['train']} to learn, {utterances['validation']} to watch, "
                       f"{utterances['held_out']} held out"),
        ("Parameters", f"{metrics['parameters']:,}"),
        ("Training", f"{_count(settings['epochs'], 'epoch')} in {metrics['seconds']:.1f} s, compilation included"),
        ("Batch, learning rate", f"{settings['batch_size']}, {settings['learning_rate']:g}"),
        ("Dropout, recurrent", f"{settings['dropout']:g}, {settings['recurrent_dropout']:g}"),
        ("Validation accuracy", _percent(metrics["validation_accuracy"])),
        ("Engine", f"{metrics['engine']}, Keras {versions['keras']} on {versions['backend']}"),
        ("Seed", str(settings["seed"])),
    ]  # fmt: skip


def _learning(metrics: dict[str, Any], speakers: list[str]) -> Section:
    history, counts = metrics["history"], np.array(metrics["confusion"])
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    truth, answer = np.unravel_index(np.argmax(wrong), wrong.shape)
    worst = "No mistake at all."
    if wrong.any():
        times = _count(int(wrong.max()), "time")
        worst = f"Most frequent mistake: speaker {speakers[truth]} taken for {speakers[answer]}, {times}."
    curves = Card(
        "Loss",
        Markup(figures.loss_curves(history["loss"], history["val_loss"], "Line chart of the loss by epoch")),
        "How wrong the model still is after each epoch, lower is better; the scale is logarithmic. Training is "
        "measured with dropout switched on, which makes its task harder. If the validation curve turned up while the "
        "training curve fell on, the model would be learning recordings by heart.",
        fact=f"After the last epoch: training {_loss(history['loss'])}, validation {_loss(history['val_loss'])}.",
    )
    matrix = Card(
        "Confusion",
        Markup(figures.confusion_matrix(counts, speakers, f"Confusion matrix of the held-out recordings. {worst}")),
        "Each row is one speaker's held-out recordings, each column an answer. The diagonal is right; every red "
        "number is a mistake, and two that mirror each other are two voices that sound alike to the model.",
        fact=worst,
    )
    return Section("How it learned, and where it errs", (), (curves, matrix), wide=True)


def _utterance(example: Example, speakers: list[str]) -> Section:
    steps, final = len(example.x), example.probabilities[-1]
    sure = int(np.argmax(final))
    others = np.flatnonzero(np.argmax(example.probabilities, 1) != sure)
    settled = int(others[-1]) + 1 if len(others) else 0
    text = (
        f"Held-out recording {example.row}, {_count(steps, 'frame')} of {speakers[example.truth]}, one frame each "
        f"6.4 ms. The model says {speakers[sure]} with {_percent(float(final[sure]))}."
    )
    coefficients = np.arange(example.x.shape[1])
    heard = figures.heat_map(
        example.x, "signed", "Heat map of the input", coefficients, rows="coefficient", size=figures.WIDE
    )
    sound = Card(
        "What goes in",
        Markup(heard),
        "The twelve cepstrum coefficients of each frame, standardised: red is above the average in training, "
        "blue below. The change of pattern on the way is the step from one vowel to the next.",
        symbol="x",
    )
    lines = figures.class_probabilities(
        example.probabilities, speakers, example.truth, "Line chart of the class probabilities over time"
    )
    belief = Card(
        "What the model believes",
        Markup(lines),
        "The last layer asked after every step, as if the recording ended there; blue is the right speaker, red the "
        "strongest rival, grey the others. The model was only ever graded at the last step.",
        fact=f"From step {settled} on the answer stays the same.",
    )
    return Section("One recording, heard step by step", (text,), (sound, belief), wide=True)


def _inside(example: Example) -> Section:
    text = "The same recording again, now inside the cell."
    return Section("Inside the glass cell", (text, READING), _panels(example.trace, 0), code=EQUATIONS)


def _use(metrics: dict[str, Any]) -> Section:
    text = "model.keras, beside this page, takes raw recordings padded with zeros; metrics.json has every number."
    code = (
        "import keras\n"
        "import glasscell.keras\n"
        "from glasscell.data import load_japanese_vowels\n\n"
        'model = keras.models.load_model("model.keras")\n'
        "probabilities = model.predict(load_japanese_vowels().test.x)"
    )
    return Section("Use the model", (text,), code=code, code_label="Python code")


def _panels(trace: Mapping[str, Array], row: int, explain: bool = True) -> tuple[Card, ...]:
    """The six heat maps of one row, its units in one common order."""
    forget = np.ma.masked_invalid(trace["f"][row])
    order = np.argsort(-forget.mean(0).filled(0.0), kind="stable")
    return tuple(_panel(panel, trace[panel.name][row], order, explain) for panel in PANELS)


def _panel(panel: Panel, values: Array, order: Array, explain: bool) -> Card:
    finite = values[np.isfinite(values)]
    if not finite.size:
        fact = "No step ran."
    elif panel.scale == "gate":
        fact = f"Mean {finite.mean():.2f}; {_percent(float(np.mean(finite > 0.9)))} above 0.9, "
        fact += f"{_percent(float(np.mean(finite < 0.1)))} below 0.1."
    else:
        fact = f"From {finite.min():.2f} to {finite.max():.2f}; mean size {np.abs(finite).mean():.2f}."
    steps, units = values.shape
    label = f"Heat map of {panel.name}, the {panel.title.lower()}: {units} units over {steps} steps. {fact}"
    svg = Markup(figures.heat_map(values, panel.scale, label, order))
    return Card(panel.title, svg, panel.caption if explain else "", symbol=panel.name, fact=fact)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _loss(values: list[float | None]) -> str:
    return "not finite" if values[-1] is None else f"{values[-1]:.3f}"


def _write(path: str | os.PathLike[str], **context: Any) -> Path:
    """Fill the template and write the page."""
    environment = Environment(
        loader=PackageLoader("glasscell", "_report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = {"scores": [], "facts": [], "verdict": "", **context}
    target = Path(path)
    write_whole(target, environment.get_template("page.html.j2").render(names))
    return target
