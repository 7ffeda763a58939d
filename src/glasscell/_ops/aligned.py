"""Allocates arrays that start at a cache line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from glasscell import _native

SMALL = 1 << 14  # bytes: below this size a copy costs less than an aligned allocation
LARGE = _native.LARGE_BLOCK  # bytes


def empty(shape: tuple[Any, ...], dtype: Any) -> npt.NDArray[Any]:
    """Allocates like `np.empty`; arrays of 16 KB or more start at a cache line.

    Frameworks can use such an array without copying it, and the engine can write a tape into it with stores that bypass
    the caches. When the last view of a very large array is gone, its memory returns to the engine for a later call.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALL:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, _native.AlignedBuffer(size))  # type: ignore[arg-type]


def copy(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Copies an array, into memory from `empty` where it is very large."""
    if array.nbytes < LARGE:
        return array.copy()
    copied = empty(array.shape, array.dtype)
    copied[...] = array
    return copied
