"""How long a unit remembers, and how much of the time its gates stand open or closed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from glasscell._cells.arguments import described
from glasscell._cells.checks import Array, shapes
from glasscell._trace import Trace
from glasscell.insight._arguments import check_trace, ran

SIGMOIDS = ("sigmoid", "hard_sigmoid", "sparse_sigmoid")  # from 0, closed, to 1, open
GATES = ("i", "f", "o")


class Saturation(NamedTuple):
    """How much of the time gates are saturated, of U units.

    open, closed: (3, U), the shares of the gates i, f and o, in this order. never_writes, never_forgets, never_shows:
    (U,) bool, the units whose i was closed, whose f was open, and whose o was closed at every step.
    """

    open: Array
    closed: Array
    never_writes: Array
    never_forgets: Array
    never_shows: Array

    def __repr__(self) -> str:
        return shapes("Saturation", self._asdict())


def half_life(trace: Trace, rows: Any = None, times: Any = None, units: Any = None) -> Array:
    """The number of steps after which half of what a unit has stored is left, by its forget gate.

        half-life = ln 2 / -mean(ln f)

    over the steps that ran: after n of them prod f = exp(n mean(ln f)) of a cell state is left. Infinite where f was
    always 1, and 0 where it was 0 once. What resets end is not counted; what a unit writes anew is not either.

    Source: the characteristic time of forgetting of Tallec & Ollivier 2018, "Can recurrent neural networks warp time?",
    in the form -1 / ln f of Mahto et al. 2021, "Multi-timescale representation learning in LSTM language models", times
    ln 2.

    rows, times, units: as `Trace.at` takes them; None for all.
    Returns: (U,) float64; NaN for units of no step that ran.
    Raises: ValueError where f is no share of 0 to 1, as that of a recurrent activation that is no sigmoid.

    >>> half_life(trace).argmax()  # the unit that remembers longest
    """
    (f,) = _gates(trace, rows, times, units, ("f",))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = -np.log(f)
        life: Array = np.log(2) / (logs.sum(0) / len(f) + 0.0)  # without -0, which would make it -infinity
    return life


def saturation(
    trace: Trace, rows: Any = None, times: Any = None, units: Any = None, *, open: float = 0.9, closed: float = 0.1
) -> Saturation:
    """The share of the time in which each gate is saturated, open or closed, and the units that never move.

    Of the steps that ran, the share with a gate above `open`, and the share with it below `closed`: the axes of the
    saturation plot of Karpathy, Johnson & Fei-Fei 2015, "Visualizing and understanding recurrent networks", with its
    bounds. A unit with f open all the time never forgets; with i closed it never writes; with o closed its
    memory never shows.

    rows, times, units: as `Trace.at` takes them; None for all.
    Returns: `Saturation`; the shares are NaN where no step ran.
    Raises: ValueError where the gates are no shares of 0 to 1, and for bounds out of order.

    >>> found = saturation(trace)
    >>> found.never_forgets.sum(), found.open[1].mean()  # of the gates i, f, o
    """
    if not 0 <= closed <= open <= 1:
        raise ValueError(f"open, closed: expected 0 <= closed <= open <= 1, got {described(open)}, {described(closed)}")
    gates = _gates(trace, rows, times, units, GATES)
    steps = len(gates[0]) or np.nan
    opened, shut = ((marks.sum(1) / steps) for marks in (gates > open, gates < closed))
    return Saturation(opened, shut, shut[0] == 1, opened[1] == 1, shut[2] == 1)


def _gates(trace: Trace, rows: Any, times: Any, units: Any, names: tuple[str, ...]) -> Array:
    """Gates at the N steps that ran: (len(names), N, U) float64. Raises: ValueError where they are no shares."""
    trace = check_trace(trace).at(rows, times, units)
    steps, activation = ran(trace), trace.recurrent_activation
    gates = np.stack([getattr(trace, name)[steps] for name in names]).astype(np.float64)
    named = activation is not None and activation.is_built_in and activation.name not in SIGMOIDS
    outside = gates[(gates < 0) | (gates > 1)]
    if named or outside.size:
        got = f"that of recurrent_activation {activation.name!r}" if activation and named else f"{outside[0]:.3g}"
        raise ValueError(f"trace: expected gates of a sigmoid, from 0, closed, to 1, open, got {got}")
    return gates
