"""Draws sums as bars: the parts of a memory, and the terms of the gates."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from glasscell import insight
from glasscell._trace import Trace
from glasscell.report._style import INK, MINUS, PLUS, canvas, styled, time_axis

Array = npt.NDArray[Any]


@styled
def memory_sources(trace: Trace, row: int, time: int, unit: int) -> Figure:
    """Draw a bar for each step: the part of a unit's cell state at `time` that the step has written.

    The bar before step 0 is the part of the initial state. All bars sum to c; `insight.memory_sources` has the formula.

    trace, row, time: as `insight.memory_sources` takes them. unit: one index.
    Returns: a `matplotlib.figure.Figure`.
    Raises: what `insight.memory_sources` raises.

    >>> memory_sources(trace, row=0, time=-1, unit=7).savefig("memory.pdf")
    """
    left, written = insight.memory_sources(trace, row, time, unit)
    values = np.concatenate([left, written[:, 0]])
    figure, ((axes,),) = canvas(1, 1, 2.2)
    axes.bar(np.arange(-1, len(written)), values, color=_colours(values), width=0.85)
    axes.axhline(0, color=INK, linewidth=0.8)
    time_axis(axes)
    axes.set_ylabel(f"part of c, unit {unit}")
    axes.set_title(f"sum {values.sum():.3g}; before step 0: the initial state", fontsize="medium", loc="left")
    return figure


@styled
def gate_terms(trace: Trace, row: int, time: int, unit: int, count: int = 6) -> Figure:
    """Draw the terms of the raw gates of a unit at a step: the `count` largest of each gate, and the sum of the others.

    The bars of a gate sum to its raw value z; `insight.gate_terms` has the formula.

    trace, row, time: as `insight.gate_terms` takes them. unit: one index.
    Returns: a `matplotlib.figure.Figure` of four axes, for i, f, g and o.
    Raises: what `insight.gate_terms` raises.

    >>> gate_terms(trace, row=0, time=12, unit=7).savefig("gates_of_step_12.pdf")
    """
    figure, axes = canvas(2, 2, 0.75 + 0.22 * count)
    for gate, place in zip("ifgo", axes.flat, strict=True):
        terms = insight.gate_terms(trace, row, time, unit, gate=gate)
        (named,) = terms.largest(count)
        total = float(terms.total()[0])
        others = [("others", total - sum(value for _, value in named))] if len(terms.names) > count else []
        names, values = zip(*named, *others, strict=True)
        place.barh(names, values, color=_colours(np.array(values)))
        place.axvline(0, color=INK, linewidth=0.8)
        place.invert_yaxis()
        place.set_title(f"z of {gate} = {total:.3g}", fontsize="medium", loc="left")
    return figure


def _colours(values: Array) -> list[str]:
    return [PLUS if value > 0 else MINUS for value in values]
