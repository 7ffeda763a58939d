"""How long units remember, how often their gates are saturated, and how gradients flow back."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from glasscell import insight
from glasscell._trace import Trace
from glasscell.report._style import DASHES, INK, LINES, canvas, styled, time_axis


@styled
def half_lives(trace: Trace, rows: Any = None) -> Figure:
    """The half-life of each unit, sorted, on a logarithmic axis. Units that never forget stand at the top edge.

    Those whose forget gate was 0 once have the half-life 0, and stand at the bottom. The formula is that of
    `insight.half_life`.

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
    """The saturation plot of Karpathy, Johnson & Fei-Fei 2015: for each unit, how often each gate is open and closed.

    A point is a unit; along: the share of the steps in which its gate is above 0.9, up: below 0.1. Units at the end of
    the first axis have a gate that is always open. `insight.saturation` counts.

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
    """The norms of dL/dc and dL/dh of each step over all rows and units, and of the carousel, on a logarithmic axis.

    Where the lines fall to the left, gradients vanish on their way back. Where dL/dc runs with the carousel, they came
    over the cell state alone.

    flow: what `insight.gradient_flow` gives for one cell.
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
