"""The benchmark's picture: how many times slower than glasscell each peer is, in inference and in training."""

from __future__ import annotations

import os
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.shapes import SHAPES
from benchmarks.tables import times

TITLES = {"infer": "Inference", "train": "Training, forward and backward"}
MARKS = {  # colour and marker, so that they can be told apart without colour too
    "torch": ("#c8102e", "o"),
    "ONNX Runtime": ("#1768ac", "s"),
    "OpenVINO": ("#6a4c93", "D"),
    "Keras, TensorFlow": ("#e07a00", "^"),
    "Keras, JAX": ("#2a7f62", "v"),
    "Keras, torch": ("#6b7280", "X"),
}
INK, FAINT, BAND, LOST = "#1f2933", "#9aa5b1", "#f1f4f7", "#ff5c5c"
COLOURS = dict.fromkeys(("axes.labelcolor", "text.color", "xtick.color", "ytick.color"), INK)
STYLE = {"font.size": 10, "axes.edgecolor": FAINT, "svg.fonttype": "none", **COLOURS}
STYLE["svg.hashsalt"] = "glasscell"  # the same rows give the same bytes


def plot(records: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Draw the modes "infer" and "train", 900 pixels wide, to a file whose suffix is the format.

    Raises: ValueError for an unknown format; OSError where the file cannot be written.
    """
    ratios = times(records[records["mode"].isin(list(TITLES))])
    timed = set(ratios.index.get_level_values("shape"))
    shapes = [name for name in SHAPES if name in timed]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.7 + 0.34 * len(shapes)), dpi=100, layout="constrained")
        panels = figure.subplots(1, len(TITLES), sharex=True, sharey=True)
        for axes, (mode, title) in zip(panels, TITLES.items(), strict=True):
            _panel(axes, title, ratios[ratios.index.get_level_values("mode") == mode], shapes)
        labels = [f"{name}  {'·'.join(map(str, SHAPES[name]))}" for name in shapes]
        panels[0].set_yticks(range(len(shapes)), labels)
        panels[0].set_ylim(max(len(shapes), 1) - 0.5, -0.5)
        low, high = panels[0].get_xlim()
        panels[0].set_xlim(min(low, 0.7), max(high, 3))
        figure.supxlabel("time of a call as a multiple of glasscell's; bars reach to the best peer", fontsize=10)
        handles = [
            Line2D([], [], color=c, marker=m, linestyle="", markersize=6.5, label=n) for n, (c, m) in MARKS.items()
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(MARKS), frameon=False, handletextpad=0.1)
        metadata = {"Date": None} if os.fspath(path).endswith(".svg") else None
        figure.savefig(path, metadata=metadata)


def _panel(axes: Any, title: str, ratios: pd.DataFrame, shapes: list[str]) -> None:
    """One line a shape: a bar from glasscell to the best peer, and a mark for each peer."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    for y in range(0, len(shapes), 2):
        axes.axhspan(y - 0.5, y + 0.5, color=BAND, linewidth=0, zorder=0)
    axes.axvline(1, color=INK, linewidth=1.2, zorder=1)
    for (shape, _), row in ratios.iterrows():
        y, best = shapes.index(shape), row["best"]
        axes.plot([1, best], [y, y], color=INK if best >= 1 else LOST, linewidth=3.5, zorder=2, solid_capstyle="butt")
        for name, (colour, marker) in MARKS.items():
            axes.plot(row[name], y, marker, color=colour, markersize=6.5, markeredgecolor="white",
                      markeredgewidth=0.6, zorder=3)  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, (1, 3)))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", color="#e3e8ee", linewidth=0.8, zorder=0.5)
    axes.tick_params(which="both", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
