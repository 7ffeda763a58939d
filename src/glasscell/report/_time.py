"""Draws how long units remember, how often their gates are saturated, and how gradients flow back."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from glasscell import insight
from glasscell._trace import Trace
from glasscell.report._style import DASHES, INK, LINES, canvas, styled, time_axis


@styled
def half_lives(trace: Trace, rows: Any = None) -> Figure:
    """Draw the half-life of each unit, sorted, on a logarithmic axis. Units that never forget are at the top edge.

    Units whose forget gate was 0 once have the half-life 0, and are at the bottom. `insight.half_life` has the formula.

    trace: a `Trace`. rows: as `Trace.at` takes them; None for all.
    Returns: a `matplotlib.figure.Figure`.
    Raises: what `insight.half_life` raises; ValueError where no step ran.

    >>> half_lives(trace).savefig("half_lives.pdf")
    """
    lives = -np.sort(-insight.half_life(trace, rows))
    if np.isnan(lives).any():
        raise ValueError("trace: expected steps that ran, got none")
    between = lives[(lives > 0) & np.isfinite(lives)]
    low, high = (between.min() / 2, between.max() * 2) if between.size else (0.5, 2.0)
    figure, ((axes,),) = canvas(1, 1, 2.4)
    axes.plot(np.arange(len(lives)), np.clip(lives, low, high), ".", color=LINES[0], clip_on=False)
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.set(xlabel="units, sorted", ylabel="half-life in steps")
    return figure


@styled
def saturation(trace: Trace, rows: Any = None) -> Figure:
    """Draw the saturation plot of Karpathy, Johnson & Fei-Fei 2015: how often each unit's gates are open or closed.

    A point is a unit. The horizontal axis is the share of the steps in which its gate is above 0.9, the vertical axis
    the share in which it is below 0.1. A unit at the right end has a gate that is always open. `insight.saturation`
    computes the shares.

    trace: a `Trace`. rows: as `Trace.at` takes them; None for all.
    Returns: a `matplotlib.figure.Figure` of three axes, for i, f and o.
    Raises: what `insight.saturation` raises.

    >>> saturation(trace).savefig("saturation.pdf")
    """
    found = insight.saturation(trace, rows)
    figure, axes = canvas(1, 3, 2.2, sharex=True, sharey=True)
    for place, gate, opened, closed in zip(axes[0], "ifo", found.open, found.closed, strict=True):
        place.plot([0, 1], [1, 0], color=INK, linewidth=0.8)
        place.plot(opened, closed, "o", markersize=4, alpha=0.5, color=LINES[0], clip_on=False)
        place.set_title(gate, fontsize="medium", loc="left")
        place.set(xlabel="share open", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes[0, 0].set_ylabel("share closed")
    return figure


@styled
def gradient_flow(flow: insight.GradientFlow) -> Figure:
    """Draw the norms of dL/dc, dL/dh and the carousel at each step, over all rows and units, on a logarithmic axis.

    Where the lines fall to the left, gradients vanish on their way back. Where dL/dc runs along the carousel, they came
    through the cell state alone.

    flow: the result of `insight.gradient_flow` for one cell.
    Returns: a `matplotlib.figure.Figure`.

    >>> gradient_flow(insight.gradient_flow(lstm, x, dy)).savefig("gradients.pdf")
    """
    figure, ((axes,),) = canvas(1, 1, 2.4)
    for name, label, colour, dash in zip(
        ("c", "h", "carousel"), ("dL/dc", "dL/dh", "carousel"), LINES, DASHES, strict=True
    ):
        norms = flow.in_all(name)
        axes.plot(np.where(norms > 0, norms, np.nan), dash, color=colour, label=label)
    axes.set_yscale("log")
    time_axis(axes)
    axes.set_ylabel("norm")
    axes.legend(frameon=False)
    return figure
