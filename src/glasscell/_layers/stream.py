"""Defines `Stream`: it runs an RNN one step, or one chunk of steps, at a time, and keeps the state."""

from __future__ import annotations

import copy
from collections.abc import Callable
from threading import Lock
from typing import Any, Self

import numpy as np

from glasscell import _native
from glasscell._cells.arguments import check_size, described, kind_of, named_arguments
from glasscell._cells.checks import Array, State, check_array, check_state, read_array
from glasscell._layers.bidirectional import Bidirectional
from glasscell._layers.chain import Chain
from glasscell._layers.lstm_cell import LSTMCell
from glasscell._layers.rnn import RNN
from glasscell._layers.stacked import StackedRNNCells
from glasscell._ops.call import Call, Engine, Used
from glasscell._ops.numpy import native_codes, pack, run


class Stream:
    """Runs a layer step by step, over `batch` sequences side by side: h, c = cell(x, (h, c)). A step allocates nothing.

    For a stack, each step goes through all cells, and the state is a list of (h, c), one for each cell. The results
    equal those of one call over the whole sequence, bit for bit, however the sequence is cut. The stream keeps the
    weights that the layer had when the stream was made. Only one thread at a time may use it. `copy.copy`,
    `copy.deepcopy` and `pickle` make an independent stream with the same state.

    Raises: TypeError or ValueError naming the argument; a layer that goes backwards cannot be streamed.

        stream = glasscell.Stream(glasscell.LSTM(64).build(12, seed=0))
        y = stream.step(x)  # x: (12,) float32; y: (64,), overwritten by the next step
    """

    @named_arguments
    def __init__(self, rnn: RNN, batch: int = 1) -> None:
        if isinstance(rnn, (Bidirectional, Chain)):
            raise TypeError(f"rnn: expected a layer that goes forwards, got {kind_of(rnn)}, which starts at both ends")
        if not isinstance(rnn, RNN):
            raise TypeError(f"rnn: expected a glasscell.RNN, such as LSTM(64), got {kind_of(rnn)}")
        if rnn.go_backwards:
            raise ValueError("rnn: expected a layer that goes forwards, got go_backwards=True, which starts at the end")
        self.rnn, self.batch = rnn, check_size("batch", batch)
        self._levels = [_Level(cell, self.batch, rnn.engine) for cell in rnn._cells]
        self._stacked = isinstance(rnn.cell, StackedRNNCells)
        self._begin()

    def __repr__(self) -> str:
        return f"Stream({self.rnn!r}, batch={self.batch})"

    def _begin(self) -> None:
        """Choose the function that runs a step: that of a single cell, or the one that goes through all cells."""
        self._step: Callable[[Any], Array | None] = self._levels[0].step
        if len(self._levels) > 1:
            self._lock = Lock()
            self._step = self._step_through

    def _step_through(self, x: Any) -> Array | None:
        """Run a step through all cells, for one thread at a time. Returns h, or None where x does not fit."""
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("stream: another thread is in the middle of a step")
        try:
            y = self._levels[0].step(x)
            for level in self._levels[1:] if y is not None else ():
                y = level.step(y)
            return y
        finally:
            self._lock.release()

    @property
    def engine_used(self) -> Used:
        """The engine of the stream: "native" if every cell runs natively, else "reference"."""
        return "native" if all(level.engine_used == "native" for level in self._levels) else "reference"

    def step(self, x: Any) -> Array:
        """Run one step on `x: (B, I)` and return h: (B, H), read-only. The next step overwrites it; `.copy()` keeps it.

        With `batch=1` x may be (I,), and the result is then (H,). Raises: ValueError or TypeError naming the argument.
        """
        # Only plain arrays: of a subclass, such as a masked array, the engine would read the numbers and lose the rest.
        y = self._step(x) if type(x) is np.ndarray else None
        if y is None:  # the engine cannot read x: raise the reason, or convert x
            y = self._step(self._levels[0].checked(x))
            assert y is not None
        return y

    def push(self, x: Any) -> Array:
        """Run a chunk of steps `x: (B, T, I)` and return every h: (B, T, H); with `batch=1` also (T, I) to (T, H)."""
        x = read_array("x", x, "an array of shape (B, T, I)")
        alone = self.batch == 1 and x.ndim == 2
        x = x[None] if alone else x
        if x.ndim == 3 and len(x) != self.batch:
            raise ValueError(f"x: expected the batch of the stream, {self.batch}, got {len(x)}")
        results = []
        for level in self._levels:
            results.append(run(level.call(x), "sequence", level.engine_used))
            x = results[-1].h
        for level, result in zip(self._levels, results, strict=True):
            level.set_state(result.final)
        y: Array = x[0] if alone else x
        return y

    @property
    def state(self) -> Any:
        """A copy of (h, c), each (B, H); for a stack a list of them. It can be set likewise, or to None for zeros."""
        copies = [level.state for level in self._levels]
        return copies if self._stacked else copies[0]

    @state.setter
    def state(self, state: Any) -> None:
        states = [state] * len(self._levels) if state is None or not self._stacked else state
        if not isinstance(states, (list, tuple)) or len(states) != len(self._levels):
            got = described(state)
            raise ValueError(f"state: expected a list of {len(self._levels)}, one for each cell, got {got}")
        checked = [level.check_state(one) for level, one in zip(self._levels, states, strict=True)]
        for level, one in zip(self._levels, checked, strict=True):
            level.set_state(one)

    def copy(self) -> Self:
        """Return an independent stream with the same layer, weights and state."""
        return copy.copy(self)

    def __copy__(self) -> Self:
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__, _levels=[copy.copy(level) for level in self._levels])
        other._begin()
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_step", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def reset(self, rows: Any = None) -> None:
        """Set the state of some sequences to zero. rows: row numbers, or (B,) bools; None means all."""
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
        for level in self._levels:
            level.h[which] = level.c[which] = 0


class _Level:
    """Runs one cell of a stream, and holds its weights, its state and its native stepper."""

    def __init__(self, cell: LSTMCell, batch: int, engine: Engine) -> None:
        self.batch, self.weights, self.options = batch, cell.weights, cell.options()
        self.packed, dtype = cell.packed(self.weights), self.weights.kernel.dtype
        self.h, self.c = check_state("state", None, batch, len(self.weights.recurrent_kernel), dtype)
        self.codes = native_codes(self.call(np.zeros((batch, 1, len(self.weights.kernel)), dtype)), engine)
        self.engine_used: Used = "reference" if self.codes is None else "native"
        self.begin()

    def begin(self) -> None:
        """Copy the state, and make the function `step` that runs over the copy."""
        self.h, self.c = self.h.copy(), self.c.copy()
        self.y = self.h.view()
        self.y.flags.writeable = False  # it is the state, which belongs to the stream
        self.step: Callable[[Any], Array | None] = self.reference_step
        if self.codes is not None:
            # Packed weights are missing after unpickling, and where the cell's own engine is "reference".
            self.packed = self.packed or pack(self.weights)
            native = _native.StreamFloat if self.h.dtype == np.float32 else _native.StreamDouble
            y_row = self.y[0] if self.batch == 1 else None
            self.step = native(self.packed, self.h, self.c, self.y, y_row, self.codes).step

    @property
    def state(self) -> State:
        """A copy of (h, c)."""
        return State(self.h.copy(), self.c.copy())

    def check_state(self, state: Any) -> State:
        """Check a state, and return it as (B, H) arrays; None is zeros. Raises: as `checks.check_state`."""
        return check_state("state", state, self.batch, self.h.shape[1], self.h.dtype)

    def set_state(self, state: State) -> None:
        """Set the state to a copy of a checked one."""
        self.h[...], self.c[...] = state

    def __copy__(self) -> Self:
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.begin()
        return other

    def __getstate__(self) -> dict[str, Any]:
        made = ("packed", "y", "step")  # they point to native memory, which cannot be pickled; `begin` makes them
        return {name: value for name, value in self.__dict__.items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, packed=None)
        self.begin()

    def call(self, x: Any) -> Call:
        """The checked call that runs a chunk x from the present state."""
        return Call.checked(self.weights, self.options, x, (self.h, self.c), packed=self.packed)

    def checked(self, x: Any) -> Array:
        """Check x, (B, I), or (I,) with `batch=1`, and return it as an array. Raises: ValueError or TypeError."""
        inputs = len(self.weights.kernel)
        x = read_array("x", x)
        if self.batch == 1 and x.ndim == 1:
            return check_array("x", x, (inputs,), self.h.dtype, "(I,)")
        return check_array("x", x, (self.batch, inputs), self.h.dtype, "(B, I)")

    def reference_step(self, x: Any) -> Array:
        """Run one step with the reference engine."""
        x = self.checked(x)
        self.set_state(run(self.call(x.reshape(self.batch, 1, -1)), "state", self.engine_used).final)
        return self.y[0] if x.ndim == 1 else self.y
