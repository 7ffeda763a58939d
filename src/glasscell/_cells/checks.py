"""Checks arrays: each error names the argument, the expected value and the given one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from glasscell._cells.arguments import described

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


class State(NamedTuple):
    """Holds the state of a cell: `h: (B, H)`, the hidden state and output; `c: (B, H)`, the cell state."""

    h: Array
    c: Array

    def __repr__(self) -> str:
        return shapes("State", self._asdict())


def shapes(kind: str, arrays: Mapping[str, Any]) -> str:
    """Writes a short repr of named arrays with their shapes; None is written as None."""
    said = {name: tuple(a.shape) if hasattr(a, "shape") else described(a) for name, a in arrays.items()}
    dtypes = dict.fromkeys(str(a.dtype) for a in arrays.values() if hasattr(a, "dtype"))
    return f"{kind}({', '.join([*(f'{name} {shape}' for name, shape in said.items()), *dtypes])})"


def read_array(name: str, value: Any, expected: str = "an array") -> Array:
    """Returns `value` as a plain NumPy array; an array is not copied.

    expected: describes the argument in error messages.

    Raises: TypeError for a masked array, whose mask would be lost, for text and for objects that are no arrays;
    TypeError or ValueError for a value that NumPy cannot read. All name the argument.
    """
    if type(value) is np.ndarray:
        return value
    if _has_mask(value):
        raise TypeError(
            f"{name}: expected a plain array, got a masked one, whose mask would be lost; fill it with .filled(value)"
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # a ragged list; a tensor on a GPU, or with a gradient
        kind = ValueError if isinstance(error, ValueError) else TypeError
        advice = _advice(value, str(error))
        raise kind(
            f"{name}: expected {expected}, got {type(value).__name__} that NumPy cannot read: {advice}"
        ) from None
    if array.ndim == 0 and array.dtype.kind in "OSU":
        raise TypeError(f"{name}: expected {expected}, got {described(value)}")
    return array


def _advice(value: Any, error: str) -> str:
    """Words the advice for a value that NumPy cannot read; without any, the first line of NumPy's error."""
    if getattr(value, "is_meta", False):
        return "on meta it holds no numbers"
    if "bfloat16" in error.lower():
        return "NumPy has no bfloat16; .float() makes float32 of it"
    if type(value).__name__ == "PackedSequence":
        return "pad it with pad_packed_sequence, and give its lengths"
    if isinstance(value, (list, tuple)) and "inhomogeneous" in error:
        return "its parts have different shapes; pad them, and give their lengths"
    return error.partition("\n")[0]


def _has_mask(value: Any) -> bool:
    masked = sys.modules.get("numpy.ma")  # unless somebody has imported it, there are no masked arrays
    if masked is None:
        return False
    return isinstance(value, masked.MaskedArray) or (isinstance(value, (list, tuple)) and any(map(_has_mask, value)))


def check_array(name: str, value: Any, shape: Shape, dtype: npt.DTypeLike, symbols: str) -> Array:
    """Returns `value` as a C-contiguous, aligned array of this shape and dtype; copies it only to change its layout.

    Raises: ValueError for another shape, TypeError for another dtype; both name the argument, the expected and the got.
    """
    array: Array = value if type(value) is np.ndarray else read_array(name, value, f"an array of shape {symbols}")
    dtype = np.dtype(dtype)
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {symbols} = {shape}, got {array.shape}")
    if array.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, got {array.dtype}; convert it with .astype({dtype.name!r})")
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else np.require(array, requirements=["C", "A"])


def check_arrays(name: str, value: Any) -> list[Any]:
    """Returns the arrays of a list or tuple, without its Nones. Raises: TypeError for anything else."""
    if not isinstance(value, (list, tuple)):
        instead = "; give its get_weights()" if hasattr(value, "get_weights") else ""
        raise TypeError(
            f"{name}: expected a list of arrays, as get_weights() gives it, got {described(value)}{instead}"
        )
    return [array for array in value if array is not None]


def check_state(name: str, state: Any, batch: int, units: int, dtype: npt.DTypeLike) -> State:
    """Returns `state` as a `State` of (batch, units) arrays; None gives zeros. Raises: as `check_array`."""
    if state is None:
        return State(np.zeros((batch, units), dtype), np.zeros((batch, units), dtype))
    if not isinstance(state, (tuple, list)) or len(state) != 2:
        raise ValueError(f"{name}: expected a pair (h, c), got {type(state).__name__}")
    h, c = (check_array(f"{name}.{n}", s, (batch, units), dtype, "(B, H)") for n, s in zip("hc", state, strict=True))
    return State(h, c)
