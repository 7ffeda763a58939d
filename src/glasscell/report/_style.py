"""The look of the figures, which is that of the page: colours that colour-blind eyes can tell apart, and type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

P = ParamSpec("P")

INK, FAINT, SKIPPED = "#1b2530", "#9aa5b1", "#c3c9cf"
PLUS, MINUS = "#c05f10", "#2166ac"
LINES = ("#1768ac", "#c05f10", "#2a7f62")  # told apart by their dashes too
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
    """Draws in STYLE, whatever the caller's own settings are."""
    drawn: Callable[P, Figure] = rc_context(STYLE)(draw)
    return drawn


def canvas(rows: int, columns: int, height: float, **shared: Any) -> tuple[Figure, Any]:
    """A figure of axes, rows x columns, `height` inches each; it is known to nobody but its holder."""
    figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def time_axis(axes: Any) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("step")
