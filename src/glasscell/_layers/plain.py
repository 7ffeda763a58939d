"""Runs calls without masks on a short path: only the engine checks the arrays, and the long path words the errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from glasscell import _native
from glasscell._cells.activations import BUILT_IN, Activation
from glasscell._cells.checks import Array
from glasscell._ops import aligned
from glasscell._ops.operands import ACTIVATION_CODES

ENGINES = ("auto", "native")


def run_plain(
    cell: Any, engine: str, go_backwards: bool, sequences: bool, x: Any, state: Any
) -> tuple[Array, Array, Array] | None:
    """Runs an `LSTMCell` over `x: (B, T, I)` from `state`, (h, c) or None for zeros.

    Returns the output, (B, T, H) with `sequences`, else (B, H), and the final h and c, each in memory of its own.
    Returns None without running anything where the native engine is not to run, or where an argument does not fit:
    `Call.checked` then raises the error.
    """
    if type(x) is not np.ndarray or x.ndim != 3 or engine not in ENGINES:
        return None
    h0 = c0 = None
    if state is not None:
        if not isinstance(state, (tuple, list)) or len(state) != 2:
            return None
        h0, c0 = state
        if type(h0) is not np.ndarray or type(c0) is not np.ndarray:
            return None
    a, s = _code(cell.activation), _code(cell.recurrent_activation)
    packed = cell.packed(cell.weights)
    if a is None or s is None or packed is None:
        return None
    (B, T, _), H, dtype = x.shape, cell.units, x.dtype
    hT, cT = np.empty((B, H), dtype), np.empty((B, H), dtype)
    h = aligned.empty((B, T, H), dtype) if sequences else None
    if not _native.infer(packed, x, h0, c0, hT, cT, h, a, s, go_backwards):
        return None
    return hT.copy() if h is None else h, hT, cT


def _code(activation: Activation) -> int | None:
    return ACTIVATION_CODES.get(activation.name) if BUILT_IN.get(activation.name) is activation else None
