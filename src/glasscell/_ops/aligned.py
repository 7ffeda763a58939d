"""Allocates arrays that start at a line of the cache."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from glasscell import _native

SMALL = 1 << 14  # bytes: what is smaller is copied sooner than it is aligned
LARGE = _native.LARGE_BLOCK  # bytes


def empty(shape: tuple[Any, ...], dtype: Any) -> npt.NDArray[Any]:
    """`np.empty`; from 16 KB on it starts at a line of the cache.

    Frameworks take such an array over without a copy, and the engine writes a tape past the caches into one. The memory
    of very large ones goes back to the engine when the last view of it is gone, and serves a later call.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALL:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, _native.AlignedBuffer(size))  # type: ignore[arg-type]


def copy(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`array.copy()`, with memory as `empty` gives it where it is very large."""
    if array.nbytes < LARGE:
        return array.copy()
    copied = empty(array.shape, array.dtype)
    copied[...] = array
    return copied
