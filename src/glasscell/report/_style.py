"""Defines the style of the figures, as on the page: fonts, and colours that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

P = ParamSpec("P")

INK, FAINT, SKIPPED = "#1b2530", "#9aa5b1", "#c3c9cf"
PLUS, MINUS = "#c05f10", "#2166ac"
LINES = ("#1768ac", "#c05f10", "#2a7f62")  # the lines also differ in their dashes
DASHES = ("-", "--", ":")
WIDTH = 5.6  # inches
STYLE = {
    "font.size": 9.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Makes a function draw in STYLE, whatever the caller's matplotlib settings are."""
    drawn: Callable[P, Figure] = rc_context(STYLE)(draw)
    return drawn


def canvas(rows: int, columns: int, height: float, **shared: Any) -> tuple[Figure, Any]:
    """Makes a figure of axes, rows x columns, `height` inches each, which is not registered with pyplot."""
    figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def time_axis(axes: Any) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("step")
