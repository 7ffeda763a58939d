"""Runs calls that have no options at once: the engine alone checks them, and the layer says what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from glasscell import _native
from glasscell._cells.activations import BUILT_IN, Activation
from glasscell._cells.checks import Array
from glasscell._layers.lstm_cell import LSTMCell
from glasscell._ops import aligned
from glasscell._ops.operands import ACTIVATION_CODES


def run_plain(cell: Any, engine: str, go_backwards: bool, sequences: bool, x: Any) -> tuple[Array, Array, Array] | None:
    """Runs a cell over `x: (B, T, I)` from a state of zeros. Returns the output, and the final h and c.

    The output is (B, T, H) with `sequences`, else a copy of h. None, and nothing has run, where the native engine is
    not to run, or where x does not fit: `Call.checked` has the words for it.
    """
    if type(cell) is not LSTMCell or type(x) is not np.ndarray or x.ndim != 3 or engine not in ("auto", "native"):
        return None
    a, s = _code(cell.activation), _code(cell.recurrent_activation)
    packed = cell.packed(cell.weights)
    if a is None or s is None or packed is None:
        return None
    (B, T, _), dtype = x.shape, x.dtype
    H = cell.units
    hT, cT = np.empty((B, H), dtype), np.empty((B, H), dtype)
    h = aligned.empty((B, T, H), dtype) if sequences else None
    if not _native.infer(packed, x, hT, cT, h, a, s, go_backwards):
        return None
    return hT.copy() if h is None else h, hT, cT


def _code(activation: Activation) -> int | None:
    return ACTIVATION_CODES.get(activation.name) if BUILT_IN.get(activation.name) is activation else None
