"""`Stream`: an RNN that is fed one step, or one chunk, at a time and remembers where it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from glasscell import _native
from glasscell._cells.checks import Array, State, check_array, check_state, read_array
from glasscell._layers.lstm_cell import LSTMCell
from glasscell._layers.rnn import RNN
from glasscell._ops.call import Call, Used
from glasscell._ops.numpy import native_codes, pack, run


class Stream:
    """Runs `rnn` step by step over `batch` streams side by side: h, c = cell(x, (h, c)), with nothing allocated.

    The bits are those of the whole sequence in one call, however it is cut. The weights are those of the moment the
    stream was made. One stream serves one thread at a time. `copy.copy`, `copy.deepcopy` and `pickle` give a stream
    that stands where this one stands and goes its own way.

    Raises: TypeError or ValueError naming the argument; a layer that goes backwards cannot be streamed.
    """

    def __init__(self, rnn: RNN, batch: int = 1) -> None:
        if not isinstance(rnn, RNN):
            raise TypeError(f"rnn: expected a glasscell.RNN, such as LSTM(64), got {type(rnn).__name__}")
        if not isinstance(rnn.cell, LSTMCell):
            raise TypeError(
                "rnn: expected an RNN over one LSTMCell, got one over a stack; stream one RNN for each cell"
            )
        if rnn.go_backwards:
            raise ValueError("rnn: expected a layer that goes forwards, got go_backwards=True, which starts at the end")
        if isinstance(batch, bool) or not isinstance(batch, (int, np.integer)) or batch < 1:
            raise ValueError(f"batch: expected a positive integer, got {batch!r}")
        weights = rnn.cell.weights
        self.rnn, self.batch, self._weights, self._options = rnn, int(batch), weights, rnn.cell.options()
        self._packed, dtype = rnn.cell.packed(weights), weights.kernel.dtype
        self._h, self._c = check_state("state", None, self.batch, len(weights.recurrent_kernel), dtype)
        self._codes = native_codes(self._call(np.zeros((self.batch, 1, len(weights.kernel)), dtype)), rnn.engine)
        self.engine_used: Used = "reference" if self._codes is None else "native"
        self._begin()

    def _begin(self) -> None:
        """Make what steps run on, over a state of its own."""
        self._h, self._c = self._h.copy(), self._c.copy()
        self._y = self._h.view()
        self._y.flags.writeable = False  # it is the state, which belongs to the stream
        self._step: Callable[[Any], Array | None] = self._reference_step
        if self._codes is not None:
            # A cell that is told to run the reference has none, nor has a pickle.
            self._packed = self._packed or pack(self._weights)
            native = _native.StreamFloat if self._h.dtype == np.float32 else _native.StreamDouble
            y_row = self._y[0] if self.batch == 1 else None
            self._step = native(self._packed, self._h, self._c, self._y, y_row, self._codes).step

    def step(self, x: Any) -> Array:
        """Take `x: (B, I)` and return h: (B, H), read-only and overwritten by the next step; `.copy()` keeps it.

        A single stream may take (I,), and then gives (H,). Raises: ValueError or TypeError naming the argument.
        """
        # Of a subclass, a masked array for one, the engine would read the numbers alone.
        y = self._step(x) if type(x) is np.ndarray else None
        if y is None:  # not an array as the engine reads it: say why, or make it one
            y = self._step(self._checked(x))
            assert y is not None
        return y

    def push(self, x: Any) -> Array:
        """Take a chunk `x: (B, T, I)` and return every h: (B, T, H); a single stream may take (T, I), giving (T, H)."""
        x = read_array("x", x)
        alone = self.batch == 1 and x.ndim == 2
        x = x[None] if alone else x
        if x.ndim == 3 and len(x) != self.batch:
            raise ValueError(f"x: expected the batch of the stream, {self.batch}, got {len(x)}")
        result = run(self._call(x), "sequence", self.engine_used)
        self.state = result.final
        return result.h[0] if alone else result.h

    @property
    def state(self) -> State:
        """A copy of (h, c), each (B, H). May be set to such a pair."""
        return State(self._h.copy(), self._c.copy())

    @state.setter
    def state(self, state: Any) -> None:
        h, c = check_state("state", state, self.batch, self._h.shape[1], self._h.dtype)
        self._h[...], self._c[...] = h, c

    def copy(self) -> Self:
        """Another stream with the same layer and weights, standing where this one stands."""
        return copy.copy(self)

    def __copy__(self) -> Self:
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._begin()
        return other

    def __getstate__(self) -> dict[str, Any]:
        made = ("_packed", "_y", "_step")  # by `_begin`, and of memory that cannot be written down
        return {name: value for name, value in self.__dict__.items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _packed=None)
        self._begin()

    def reset(self, rows: Any = None) -> None:
        """Set the state of these streams to zero: row numbers, or (B,) bools; all of them by default."""
        which = np.arange(self.batch) if rows is None else read_array("rows", rows, "row numbers or bools")
        if which.dtype == np.bool_:
            if which.shape != (self.batch,):
                raise ValueError(f"rows: expected bools of shape (B,) = ({self.batch},), got {which.shape}")
        elif which.size == 0:
            which = which.astype(int)  # [] would be floats
        elif which.dtype.kind not in "iu":
            raise TypeError(f"rows: expected row numbers or bools, got {which.dtype}")
        elif not (which.min() >= 0 and which.max() < self.batch):
            raise ValueError(f"rows: expected 0..{self.batch - 1}, got {which.min()}..{which.max()}")
        self._h[which] = self._c[which] = 0

    def _call(self, x: Any) -> Call:
        return Call.checked(self._weights, self._options, x, (self._h, self._c), packed=self._packed)

    def _checked(self, x: Any) -> Array:
        inputs = len(self._weights.kernel)
        x = read_array("x", x)
        if self.batch == 1 and x.ndim == 1:
            return check_array("x", x, (inputs,), self._h.dtype, "(I,)")
        return check_array("x", x, (self.batch, inputs), self._h.dtype, "(B, I)")

    def _reference_step(self, x: Any) -> Array:
        x = self._checked(x)
        self.state = run(self._call(x.reshape(self.batch, 1, -1)), "state", self.engine_used).final
        return self._y[0] if x.ndim == 1 else self._y
