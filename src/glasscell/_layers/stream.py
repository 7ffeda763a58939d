"""`Stream`: an RNN that is fed one step, or one chunk, at a time and remembers where it is."""

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
    """Runs `rnn` step by step over `batch` streams side by side: h, c = cell(x, (h, c)), with nothing allocated.

    Over a stack each step goes through all cells, and the state is a list of (h, c), one for each cell. The bits are
    those of the whole sequence in one call, however it is cut. The weights are those of the moment the stream was made.
    One stream serves one thread at a time. `copy.copy`, `copy.deepcopy` and `pickle` give a stream that stands where
    this one stands and goes its own way.

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
        """Make what a step runs on: the one cell's own step, or all of them in turn."""
        self._step: Callable[[Any], Array | None] = self._levels[0].step
        if len(self._levels) > 1:
            self._lock = Lock()
            self._step = self._step_through

    def _step_through(self, x: Any) -> Array | None:
        """Take a step through all cells, one thread at a time, as one cell's step does; None where x does not fit."""
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
        """What runs: "native" if every cell does."""
        return "native" if all(level.engine_used == "native" for level in self._levels) else "reference"

    def step(self, x: Any) -> Array:
        """Take `x: (B, I)` and return h: (B, H), read-only and overwritten by the next step; `.copy()` keeps it.

        A single stream may take (I,), and then gives (H,). Raises: ValueError or TypeError naming the argument.
        """
        # Of a subclass, a masked array for one, the engine would read the numbers alone.
        y = self._step(x) if type(x) is np.ndarray else None
        if y is None:  # not an array as the engine reads it: say why, or make it one
            y = self._step(self._levels[0].checked(x))
            assert y is not None
        return y

    def push(self, x: Any) -> Array:
        """Take a chunk `x: (B, T, I)` and return every h: (B, T, H); a single stream may take (T, I), giving (T, H)."""
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
        """A copy of (h, c), each (B, H); over a stack a list of them. May be set to such, or to None for zeros."""
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
        """Another stream with the same layer and weights, standing where this one stands."""
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
        for level in self._levels:
            level.h[which] = level.c[which] = 0


class _Level:
    """Runs one cell of a stream: its weights, its state, and what its steps run on."""

    def __init__(self, cell: LSTMCell, batch: int, engine: Engine) -> None:
        self.batch, self.weights, self.options = batch, cell.weights, cell.options()
        self.packed, dtype = cell.packed(self.weights), self.weights.kernel.dtype
        self.h, self.c = check_state("state", None, batch, len(self.weights.recurrent_kernel), dtype)
        self.codes = native_codes(self.call(np.zeros((batch, 1, len(self.weights.kernel)), dtype)), engine)
        self.engine_used: Used = "reference" if self.codes is None else "native"
        self.begin()

    def begin(self) -> None:
        """Make what steps run on, over a state of its own."""
        self.h, self.c = self.h.copy(), self.c.copy()
        self.y = self.h.view()
        self.y.flags.writeable = False  # it is the state, which belongs to the stream
        self.step: Callable[[Any], Array | None] = self.reference_step
        if self.codes is not None:
            # A cell that is told to run the reference has none, nor has a pickle.
            self.packed = self.packed or pack(self.weights)
            native = _native.StreamFloat if self.h.dtype == np.float32 else _native.StreamDouble
            y_row = self.y[0] if self.batch == 1 else None
            self.step = native(self.packed, self.h, self.c, self.y, y_row, self.codes).step

    @property
    def state(self) -> State:
        """A copy of (h, c)."""
        return State(self.h.copy(), self.c.copy())

    def check_state(self, state: Any) -> State:
        """A state as (B, H) arrays; None is zeros. Raises: as `checks.check_state`."""
        return check_state("state", state, self.batch, self.h.shape[1], self.h.dtype)

    def set_state(self, state: State) -> None:
        """Take a checked state."""
        self.h[...], self.c[...] = state

    def __copy__(self) -> Self:
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.begin()
        return other

    def __getstate__(self) -> dict[str, Any]:
        made = ("packed", "y", "step")  # by `begin`, and of memory that cannot be written down
        return {name: value for name, value in self.__dict__.items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, packed=None)
        self.begin()

    def call(self, x: Any) -> Call:
        """The call of a chunk from the state that there is."""
        return Call.checked(self.weights, self.options, x, (self.h, self.c), packed=self.packed)

    def checked(self, x: Any) -> Array:
        """The input of a step, (B, I), or (I,) of a single stream. Raises: ValueError or TypeError naming it."""
        inputs = len(self.weights.kernel)
        x = read_array("x", x)
        if self.batch == 1 and x.ndim == 1:
            return check_array("x", x, (inputs,), self.h.dtype, "(I,)")
        return check_array("x", x, (self.batch, inputs), self.h.dtype, "(B, I)")

    def reference_step(self, x: Any) -> Array:
        """Take one step by the reference engine."""
        x = self.checked(x)
        self.set_state(run(self.call(x.reshape(self.batch, 1, -1)), "state", self.engine_used).final)
        return self.y[0] if x.ndim == 1 else self.y
