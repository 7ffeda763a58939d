"""Computes how long a unit remembers, and how much of the time its gates are open or closed."""

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
    """Holds the shares of the time in which the gates of U units are saturated.

    open, closed: (3, U), the shares for the gates i, f and o, in this order. never_writes, never_forgets, never_shows:
    (U,) bool, True for a unit whose i was closed, whose f was open, or whose o was closed at every step.
    """

    open: Array
    closed: Array
    never_writes: Array
    never_forgets: Array
    never_shows: Array

    def __repr__(self) -> str:
        return shapes("Saturation", self._asdict())


def half_life(trace: Trace, rows: Any = None, times: Any = None, units: Any = None) -> Array:
    """The number of steps after which the forget gate has halved the content of a unit's cell state.

        half-life = ln 2 / -mean(ln f)

    The mean is over the steps that ran: after n of them, the share prod f = exp(n mean(ln f)) of a cell state is left.
    The result is infinite where f was always 1, and 0 where f was 0 once. Resets do not count as forgetting, and new
    writes do not count as remembering.

    Source: the characteristic time of forgetting of Tallec & Ollivier 2018, "Can recurrent neural networks warp time?",
    in the form -1 / ln f of Mahto et al. 2021, "Multi-timescale representation learning in LSTM language models", times
    ln 2.

    rows, times, units: as `Trace.at` takes them; None for all.
    Returns: (U,) float64; NaN where no step ran.
    Raises: ValueError where f is not between 0 and 1, as with a recurrent activation that is no sigmoid.

    >>> half_life(trace).argmax()  # the unit that remembers longest
    """
    (f,) = _gates(trace, rows, times, units, ("f",))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = -np.log(f)
        life: Array = np.log(2) / (logs.sum(0) / len(f) + 0.0)  # + 0.0 makes 0 of -0, and infinity
    return life


def saturation(
    trace: Trace, rows: Any = None, times: Any = None, units: Any = None, *, open: float = 0.9, closed: float = 0.1
) -> Saturation:
    """The share of the time in which each gate is saturated, open or closed, and the units that never move.

    For each gate this gives the share of the steps that ran in which the gate was above `open`, and the share in which
    it was below `closed`. They are the axes of the saturation plot of Karpathy, Johnson & Fei-Fei 2015, "Visualizing
    and understanding recurrent networks", and the default bounds are the paper's. A unit with f always open never
    forgets; with i always closed it never writes; with o always closed it never shows its memory.

    rows, times, units: as `Trace.at` takes them; None for all.
    Returns: `Saturation`; the shares are NaN where no step ran.
    Raises: ValueError where the gates are not between 0 and 1, and for bounds out of order.

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
    """Selects gates at the N steps that ran: (len(names), N, U) float64. Raises: ValueError unless from 0 to 1."""
    trace = check_trace(trace).at(rows, times, units)
    steps, activation = ran(trace), trace.recurrent_activation
    gates = np.stack([getattr(trace, name)[steps] for name in names]).astype(np.float64)
    named = activation is not None and activation.is_built_in and activation.name not in SIGMOIDS
    outside = gates[(gates < 0) | (gates > 1)]
    if named or outside.size:
        got = f"that of recurrent_activation {activation.name!r}" if activation and named else f"{outside[0]:.3g}"
        raise ValueError(f"trace: expected gates of a sigmoid, from 0, closed, to 1, open, got {got}")
    return gates
