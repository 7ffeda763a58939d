"""The pictures of the reports, as inline SVG.

No pyplot and no global figure: each function draws one figure and returns its markup. Text stays text (it takes the
page's font); heat maps are embedded at one pixel a value, so they are small and sharp at any size.

Symbols: T time, H units, K classes. All pictures are made for a light background.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec
from xml.sax.saxutils import quoteattr

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

Array = npt.NDArray[Any]
Scale = Literal["gate", "signed"]
P = ParamSpec("P")

INK, FAINT, ACCENT, WARM = "#1f2933", "#9aa5b1", "#1768ac", "#d1495b"
SKIPPED = "#dfe3e8"
SMALL = (4.3, 3.8)  # inches, for a row of three; the fonts below are chosen for these sizes
WIDE = (5.6, 4.5)  # for a row of two
MAX_PIXELS = 2000  # a heat map longer than this is averaged down: no screen shows more columns
STYLE = {
    "font.size": 10.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "glasscell",  # the same picture gives the same bytes
}


def _styled(draw: Callable[P, str]) -> Callable[P, str]:
    """Draws in STYLE."""
    styled: Callable[P, str] = rc_context(STYLE)(draw)
    return styled


@_styled
def heat_map(
    values: Array, scale: Scale, label: str, order: Array, rows: str = "unit", size: tuple[float, float] = SMALL
) -> str:
    """A heat map of one quantity over time.

    values: (T, H), NaN where the step was skipped (drawn grey). order: (H,) integers, the rows from top to bottom;
    the ticks show these numbers. scale: "gate" goes from 0 to 1 and further if a value does. "signed" is symmetric
    around 0 and holds all values, or 98 of 100 where the others are much larger and would pale the rest; then arrows at
    the colour bar tell that some lie beyond. label: the words of a screen reader.
    """
    shown = np.ma.masked_invalid(values[:, order].T)
    limits, colours, beyond = _colours(shown.compressed(), scale)
    figure, axes = _canvas(size)
    steps, units = values.shape
    image = axes.imshow(
        shown,
        norm=Normalize(*limits),
        cmap=matplotlib.colormaps[colours].with_extremes(bad=SKIPPED),
        aspect="auto",
        interpolation="none" if max(steps, units) <= MAX_PIXELS else "antialiased",
        extent=(-0.5, steps - 0.5, units - 0.5, -0.5),
    )
    _hide_frame(axes)
    _time_axis(axes, rows)
    places = np.unique(np.linspace(0, units - 1, min(units, 12)).round().astype(int))
    axes.set_yticks(places, [str(order[place]) for place in places])
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, extend=beyond)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    bar.locator = MaxNLocator(5)
    return _svg(figure, label)


def _colours(values: Array, scale: Scale) -> tuple[tuple[float, float], str, str]:
    """The limits of the colour scale, the name of its map, and at which ends values lie beyond."""
    size = np.abs(values) if values.size else np.ones(1)
    if scale == "gate":
        return (min(0.0, float(values.min(initial=0.0))), max(1.0, float(size.max()))), "viridis", "neither"
    most, end = float(np.percentile(size, 98)), float(size.max())
    end = most if 0 < most < 0.8 * end else end or 1.0
    beyond = (bool((values < -end).any()), bool((values > end).any()))
    names = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    return (-end, end), "RdBu_r", names[beyond]


@_styled
def loss_curves(loss: Sequence[float | None], val_loss: Sequence[float | None], label: str) -> str:
    """Training and validation loss by epoch, on a logarithmic axis. None (not finite) leaves a gap."""
    figure, axes = _canvas(WIDE)
    epochs = np.arange(1, len(loss) + 1)
    marker = "o" if len(loss) < 3 else None
    for name, values, colour in (("training", loss, ACCENT), ("validation", val_loss, WARM)):
        axes.plot(epochs, np.array(values, float), color=colour, marker=marker, linewidth=2, label=name)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=[1, 2, 5]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set(xlabel="epoch", ylabel="loss (cross-entropy)")
    _grid_and_legend(axes)
    return _svg(figure, label)


@_styled
def confusion_matrix(counts: Array, names: Sequence[str], label: str) -> str:
    """How often each class (row) was taken for each class (column). counts: (K, K) integers."""
    figure, axes = _canvas(WIDE)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", norm=Normalize(0, 1.15), interpolation="none")
    for (row, column), count in np.ndenumerate(counts):
        wrong = count and row != column
        colour = FAINT if not count else "white" if share[row, column] > 0.6 else WARM if wrong else INK
        weight = "bold" if wrong else "normal"
        axes.text(column, row, str(count or "·"), ha="center", va="center", color=colour, fontweight=weight)
    _hide_frame(axes)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="the model's answer", ylabel="who spoke")
    return _svg(figure, label)


@_styled
def class_probabilities(probabilities: Array, names: Sequence[str], truth: int, label: str) -> str:
    """The model's belief after each step. probabilities: (T, K). The strongest classes are named at their line."""
    figure, axes = _canvas(WIDE)
    rival = int(np.argmax(np.where(np.arange(len(names)) == truth, -np.inf, probabilities.max(0))))
    marker = "o" if len(probabilities) == 1 else None
    for k in range(len(names)):
        colour, label_k = {truth: (ACCENT, f"{names[k]} (right)"), rival: (WARM, names[k])}.get(k, (FAINT, "_"))
        width, above = (1, 2) if colour == FAINT else (2.2, 3)
        axes.plot(probabilities[:, k], color=colour, linewidth=width, marker=marker, zorder=above, label=label_k)
    axes.set_ylim(-0.02, 1.02)
    _time_axis(axes, "probability")
    _grid_and_legend(axes)
    return _svg(figure, label)


def _canvas(size: tuple[float, float]) -> tuple[Figure, Any]:
    figure = Figure(figsize=size, layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def _hide_frame(axes: Any) -> None:
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _time_axis(axes: Any, ylabel: str) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.set(xlabel="step", ylabel=ylabel)


def _grid_and_legend(axes: Any) -> None:
    axes.grid(axis="y", color=SKIPPED, linewidth=0.8)
    axes.legend(frameon=False, loc="best")


def _svg(figure: Figure, label: str) -> str:
    """The figure as an `<svg>` element whose ids are its own, so that a page can hold many."""
    text = io.StringIO()
    figure.savefig(text, format="svg", dpi=150, metadata={"Creator": None, "Date": None, "Format": None, "Type": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    prefix = f"f{zlib.crc32((label + svg).encode()):08x}-"
    svg = re.sub(r'(?<=\bid=")|(?<="#)(?=[\w.]+")|(?<=url\(#)', prefix, svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label={quoteattr(label)} ', 1).strip()
