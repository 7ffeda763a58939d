"""The report of a `glasscell train` run: its result, its curves, and one recording heard step by step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from glasscell._report import figures
from glasscell._report.page import Card, Section, count, percent, write_page
from glasscell._report.trace_page import EQUATIONS, READING, panels

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Example:
    """One held-out recording, traced.

    trace: its arrays by name, each (1, T, H), as `Trace.asdict` gives them. x: (T, I), what went into the cell.
    probabilities: (T, K), the model's belief after each step. truth: its class. row: its place in the held-out set.
    """

    trace: Mapping[str, Array]
    x: Array
    probabilities: Array
    truth: int
    row: int


USE = """\
import glasscell.keras  # before Keras: it chooses a backend that is installed
import keras
from glasscell.data import load_japanese_vowels

model = keras.models.load_model("model.keras")
probabilities = model.predict(load_japanese_vowels().test.x)"""

SOURCE = Markup(
    "Recordings: M. Kudo, J. Toyama, M. Shimbo, “Japanese Vowels”, UCI Machine Learning Repository, "
    '<a href="https://doi.org/10.24432/C5NS47">doi:10.24432/C5NS47</a>, CC BY 4.0, repacked.'
)


def training_report(path: str | os.PathLike[str], metrics: dict[str, Any], example: Example) -> Path:
    """Write the page of one `glasscell train` run.

    path: the HTML file; one that is there is replaced, whole or not at all. metrics: as `_training.train` returns them.
    Returns: its path. Raises: OSError where the file cannot be written.
    """
    inside = "The same recording again, now inside the cell."
    use = "model.keras, beside this page, takes raw recordings padded with zeros; metrics.json has every number."
    held_out = metrics["utterances"]["held_out"]
    return write_page(
        path,
        eyebrow="glasscell train",
        title="Who is speaking?",
        lead="Nine men say two Japanese vowels, one after the other. An LSTM hears 7 to 29 short frames of sound and "
        "names the speaker.",
        scores=[
            (f"LSTM, {metrics['settings']['units']} units", metrics["accuracy"]),
            ("linear model on each recording's mean and spread", metrics["baselines"]["linear"]),
            ("always the most frequent speaker", metrics["baselines"]["majority"]),
        ],
        verdict=f"{metrics['correct']} of {held_out} recordings that the model never heard are named rightly.",
        facts=_facts(metrics),
        sections=[
            Section("How it learned, and where it errs", cards=(_loss(metrics), _confusion(metrics)), wide=True),
            _recording(example, metrics["speakers"]),
            Section("Inside the glass cell", (inside, READING), panels(example.trace, 0), code=EQUATIONS),
            Section("Use the model", (use,), code=USE, code_label="Python code"),
        ],
        footer=SOURCE,
    )


def _facts(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    settings, versions, utterances = metrics["settings"], metrics["versions"], metrics["utterances"]
    return [
        ("Recordings", f"{utterances['train']} for training, {utterances['validation']} for validation, "
                       f"{utterances['held_out']} held out"),
        ("Parameters", f"{metrics['parameters']:,}"),
        ("Training", f"{count(settings['epochs'], 'epoch')} in {metrics['seconds']:.1f} s, compilation included"),
        ("Batch, learning rate", f"{settings['batch_size']}, {settings['learning_rate']:g}"),
        ("Dropout, recurrent", f"{settings['dropout']:g}, {settings['recurrent_dropout']:g}"),
        ("Validation accuracy", percent(metrics["validation_accuracy"])),
        ("Engine", f"{metrics['engine']}, Keras {versions['keras']} on {versions['backend']}"),
        ("Seed", str(settings["seed"])),
    ]  # fmt: skip


def _loss(metrics: dict[str, Any]) -> Card:
    curves = metrics["history"]["loss"], metrics["history"]["val_loss"]
    last, last_val = ("not finite" if curve[-1] is None else f"{curve[-1]:.3f}" for curve in curves)
    return Card(
        "Loss",
        figures.loss_curves(*curves, "Line chart of the loss by epoch"),
        "How wrong the model still is after each epoch, lower is better; the scale is logarithmic. Training is "
        "measured with dropout switched on, which makes its task harder. If the validation curve turned up while the "
        "training curve fell on, the model would be learning recordings by heart.",
        fact=f"After the last epoch: training {last}, validation {last_val}.",
    )


def _confusion(metrics: dict[str, Any]) -> Card:
    speakers, counts = [name.removeprefix("speaker ") for name in metrics["speakers"]], np.array(metrics["confusion"])
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    truth, answer = np.unravel_index(np.argmax(wrong), wrong.shape)
    worst = "No mistake at all."
    if wrong.any():
        times = count(int(wrong.max()), "time")
        worst = f"Most frequent mistake: speaker {speakers[truth]} taken for {speakers[answer]}, {times}."
    return Card(
        "Confusion",
        figures.confusion_matrix(counts, speakers, f"Confusion matrix of the held-out recordings. {worst}"),
        "Each row is one speaker's held-out recordings, each column an answer. The diagonal is right; every red "
        "number is a mistake, and two that mirror each other are two voices that sound alike to the model.",
        fact=worst,
    )


def _recording(example: Example, speakers: list[str]) -> Section:
    final, cards = example.probabilities[-1], (_sound(example), _belief(example, speakers))
    sure = int(np.argmax(final))
    text = (
        f"Held-out recording {example.row}, {count(len(example.x), 'frame')} of {speakers[example.truth]}, one frame "
        f"each 6.4 ms. The model says {speakers[sure]} with {percent(float(final[sure]))}."
    )
    return Section("One recording, heard step by step", (text,), cards, wide=True)


def _sound(example: Example) -> Card:
    rows = np.arange(example.x.shape[1])
    label = "Heat map of the input"
    return Card(
        "What goes in",
        figures.heat_map(example.x, "signed", label, rows, rows="coefficient", size=figures.WIDE),
        "The twelve cepstrum coefficients of each frame, standardised: red is above the average in training, "
        "blue below. The change of pattern on the way is the step from one vowel to the next.",
        symbol="x",
    )


def _belief(example: Example, speakers: list[str]) -> Card:
    answers = np.argmax(example.probabilities, 1)
    settled = int(np.max(np.flatnonzero(answers != answers[-1]), initial=-1)) + 1
    label = "Line chart of the class probabilities over time"
    return Card(
        "What the model believes",
        figures.class_probabilities(example.probabilities, speakers, example.truth, label),
        "The last layer asked after every step, as if the recording ended there; blue is the right speaker, red the "
        "strongest rival, grey the others. The model was only ever graded at the last step.",
        fact=f"From step {settled} on the answer stays the same.",
    )
