"""Writes the page of a `glasscell train` run: its result, and below it the traces of two recordings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from glasscell._report.data import Answer
from glasscell._report.size import count
from glasscell._report.trace_page import page_data, parts_of, percent
from glasscell._report.write import filled, write_page
from glasscell._trace import Trace


def training_report(
    path: str | os.PathLike[str], metrics: dict[str, Any], trace: Trace, row_names: Sequence[str], answer: Answer
) -> Path:
    """Write the page of one `glasscell train` run.

    path: the HTML file; an existing one is replaced, whole or not at all. metrics: as `_training.train` returns them.
    trace: of the recordings to show, with a name for each. answer: the Dense layer that names the speaker.
    Returns: its path. Raises: OSError where the file cannot be written.
    """
    speakers = [name.removeprefix("speaker ") for name in metrics["speakers"]]
    result = {
        "loss": metrics["history"]["loss"], "valLoss": metrics["history"]["val_loss"], "classes": speakers,
        "confusion": metrics["confusion"], "asked": "spoke", "answered": "answer",
    }  # fmt: skip
    traces = {"": trace}
    return write_page(
        path,
        title="Who is speaking?",
        lead="Nine men say two Japanese vowels, one after the other. An LSTM hears 7 to 29 short frames of sound, one "
        "each 6.4 ms, and names the speaker.",
        data=page_data(traces, parts_of(traces), answer=answer, row_names=row_names, result=result, hasBeside=True),
        above=_result(metrics, row_names),
        below=filled("training_below.html"),
    )


def _result(metrics: dict[str, Any], row_names: Sequence[str]) -> str:
    held_out = metrics["utterances"]["held_out"]
    scores = [
        (f"LSTM, {metrics['settings']['units']} units", metrics["accuracy"]),
        ("linear model on each recording's mean and spread", metrics["baselines"]["linear"]),
        ("always the most frequent speaker", metrics["baselines"]["majority"]),
    ]
    return filled(
        "training_above.html",
        accuracy=percent(metrics["accuracy"]),
        verdict=f"{metrics['correct']} of {held_out} recordings that the model never heard are named rightly.",
        scores="".join(_score(name, share) for name, share in scores),
        facts="".join(f'<tr><th scope="row">{escape(n)}</th><td>{escape(v)}</td></tr>' for n, v in _facts(metrics)),
        losses=_losses(metrics),
        worst=escape(_worst(metrics)),
        shown="; ".join(escape(name) for name in row_names),
    )


def _score(name: str, share: float) -> str:
    bar = f'<svg aria-hidden="true"><rect width="{percent(share)}" height="100%"/></svg>'
    return f"<div><dt>{escape(name)}</dt><dd>{percent(share)}</dd>{bar}</div>"


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


def _losses(metrics: dict[str, Any]) -> str:
    ends = (metrics["history"][name][-1] for name in ("loss", "val_loss"))
    training, validation = ("not finite" if end is None else f"{end:.3f}" for end in ends)
    return f"After the last epoch: training {training}, validation {validation}."


def _worst(metrics: dict[str, Any]) -> str:
    counts = np.array(metrics["confusion"])
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    if not wrong.any():
        return "No mistake at all."
    truth, answer = np.unravel_index(np.argmax(wrong), wrong.shape)
    names = metrics["speakers"]
    said = f"{names[truth]} taken for {names[answer].removeprefix('speaker ')}"
    return f"Most frequent mistake: {said}, {count(int(wrong.max()), 'time')}."
