"""Checks arrays: each error names the argument, what was expected and what came."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


class State(NamedTuple):
    """`h: (B, H)`, the hidden state and output; `c: (B, H)`, the cell state."""

    h: Array
    c: Array


def read_array(name: str, value: Any) -> Array:
    """`value` as a plain NumPy array, without a copy where it is one.

    Raises: TypeError for a masked array, whose mask would be lost, and for what NumPy cannot read; both name the
    argument.
    """
    if type(value) is np.ndarray:
        return value
    if _has_mask(value):
        raise TypeError(
            f"{name}: expected a plain array, got a masked one, whose mask would be lost; fill it with .filled(value)"
        )
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # a ragged list; a tensor on a GPU, or with a gradient
        kind = ValueError if isinstance(error, ValueError) else TypeError
        reason = str(error).partition("\n")[0]
        raise kind(f"{name}: NumPy cannot read this {type(value).__name__} as an array: {reason}") from error


def _has_mask(value: Any) -> bool:
    masked = sys.modules.get("numpy.ma")  # `import numpy` leaves it out: without it there are no masked arrays
    if masked is None:
        return False
    return isinstance(value, masked.MaskedArray) or (isinstance(value, (list, tuple)) and any(map(_has_mask, value)))


def check_array(name: str, value: Any, shape: Shape, dtype: npt.DTypeLike, symbols: str) -> Array:
    """`value` as a C-contiguous, aligned array of exactly this shape and dtype; copied only if its layout demands it.

    Raises: ValueError for another shape, TypeError for another dtype; both name the argument, the expected, the got.
    """
    array, dtype = read_array(name, value), np.dtype(dtype)
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {symbols} = {shape}, got {array.shape}")
    if array.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, got {array.dtype}; convert it with .astype({dtype.name!r})")
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else np.require(array, requirements=["C", "A"])


def check_state(name: str, state: Any, batch: int, units: int, dtype: npt.DTypeLike) -> State:
    """`state` as a `State` of (batch, units) arrays; None gives zeros. Raises as `check_array` does."""
    if state is None:
        return State(np.zeros((batch, units), dtype), np.zeros((batch, units), dtype))
    if not isinstance(state, (tuple, list)) or len(state) != 2:
        raise ValueError(f"{name}: expected a pair (h, c), got {type(state).__name__}")
    h, c = (check_array(f"{name}.{n}", s, (batch, units), dtype, "(B, H)") for n, s in zip("hc", state, strict=True))
    return State(h, c)
