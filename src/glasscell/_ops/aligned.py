"""Allocates arrays that start at a line of the cache."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

LINE = 64  # bytes
SMALL = 1 << 14  # bytes: what is smaller is copied sooner than it is aligned


def empty(shape: tuple[Any, ...], dtype: Any) -> npt.NDArray[Any]:
    """`np.empty`; a large one starts at a line of the cache.

    Frameworks take such an array over without a copy, and the engine writes a tape past the caches into one.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < SMALL:
        return np.empty(shape, dtype)
    buffer = np.empty(size + LINE, np.uint8)
    start = -buffer.ctypes.data % LINE
    array: npt.NDArray[Any] = buffer[start : start + size].view(dtype).reshape(shape)
    return array
