"""Draws the gates and states of all units over time, as heat maps."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from glasscell._trace import Trace
from glasscell.report._style import SKIPPED, canvas, styled, time_axis

Array = npt.NDArray[Any]

SIGNED = LinearSegmentedColormap.from_list(
    "glasscell", ["#053061", "#2166ac", "#6aacd0", "#f7f7f5", "#f0a04b", "#c05f10", "#7f3b08"]
)
TITLES = {
    "f": "forget gate", "i": "input gate", "o": "output gate", "g": "candidate", "c": "cell state", "h": "hidden state",
}  # fmt: skip
GATES = ("f", "i", "o")


@styled
def gates_and_states(trace: Trace, row: int = 0, order: Any = None) -> Figure:
    """Draw six heat maps of one row: gates, candidate, cell state and hidden state, time across and units down.

    The scale of a gate goes from 0 to 1, or further if a value does. g, c and h each have a scale around zero that
    holds all values of the row. Steps that the mask skipped are grey.

    trace: a `Trace`. row: the index of the row. order: the units from top to bottom; by default they are sorted by
    their mean forget gate, with the longest memory on top.
    Returns: a `matplotlib.figure.Figure`.
    Raises: ValueError for a row that is not in the trace.

    >>> gates_and_states(trace, row=0).savefig("gates.pdf")
    """
    one = trace.at(rows=row)
    ran = np.ones(one.h.shape[1], bool) if one.mask is None else one.mask[0]
    if order is None:
        order = np.argsort(-one.f[0, ran].mean(0), kind="stable") if ran.any() else np.arange(one.h.shape[2])
    figure, axes = canvas(3, 2, 1.7, sharex=True)
    for place, (name, title) in zip(axes.T.flat, TITLES.items(), strict=True):
        values = np.where(ran[:, None], getattr(one, name)[0], np.nan)[:, order]
        _heat_map(figure, place, values, name in GATES, order)
        place.set_title(f"{name}, {title}", fontsize="medium", loc="left")
    for place in axes[-1]:
        time_axis(place)
    return figure


def _heat_map(figure: Figure, axes: Any, values: Array, is_gate: bool, order: Array) -> None:
    """Draws values, (T, H), with their colour bar."""
    steps, units = values.shape
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max(initial=0)) or 1.0
    limits = (min(0.0, float(finite.min(initial=0))), max(1.0, largest)) if is_gate else (-largest, largest)
    colours = matplotlib.colormaps["viridis"] if is_gate else SIGNED
    image = axes.imshow(
        np.ma.masked_invalid(values.T), norm=Normalize(*limits), cmap=colours.with_extremes(bad=SKIPPED), aspect="auto",
        interpolation="none", extent=(-0.5, steps - 0.5, units - 0.5, -0.5),
    )  # fmt: skip
    axes.spines[:].set_visible(False)
    places = np.unique(np.linspace(0, units - 1, min(units, 5)).round().astype(int))
    axes.set_yticks(places, [str(order[place]) for place in places])
    axes.set_ylabel("unit")
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)
