"""Checks the arguments that the functions share: the trace, and the row and the step that are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from glasscell._cells.arguments import described, kind_of
from glasscell._cells.checks import Array
from glasscell._trace import Trace, Traces


def check_trace(trace: Any, *needed: str) -> Trace:
    """Returns a trace that has the needed arrays. Raises: TypeError for no trace, ValueError for a missing array."""
    if isinstance(trace, Traces):
        raise TypeError(f"trace: expected one glasscell.Trace, got {len(trace)} of them; take one, such as traces[0]")
    if not isinstance(trace, Trace):
        raise TypeError(f"trace: expected a glasscell.Trace, as layer.trace(x) gives it, got {kind_of(trace)}")
    for name in needed:
        if getattr(trace, name) is None:
            raise ValueError(
                f"trace: expected one that knows its {name}, as layer.trace(x) gives it for all units, got one without"
            )
    return trace


def check_index(name: str, value: Any, size: int) -> int:
    """Returns an index as 0..size - 1; negative ones count from the end. Raises: TypeError, ValueError out of range."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {described(value)}")
    if not -size <= value < size:
        raise ValueError(f"{name}: expected an index of {size}, {-size}..{size - 1}, got {value}")
    return int(value) % size


def ran(trace: Trace) -> Array:
    """Marks the steps that the mask did not skip: (B, T) bool."""
    return np.ones(trace.h.shape[:2], bool) if trace.mask is None else trace.mask


def was_reset(trace: Trace) -> Array:
    """Marks the steps before which the state was set to zero: (B, T) bool."""
    return np.zeros(trace.h.shape[:2], bool) if trace.reset is None else trace.reset
