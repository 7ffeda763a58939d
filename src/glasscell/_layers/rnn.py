"""`RNN` and `LSTM` on NumPy: a cell over time, its gradient and its trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from glasscell._cells.checks import Array, State, check_array, check_state, read_array
from glasscell._layers.lstm_cell import LSTMCell
from glasscell._ops.call import Call, Engine, Gradients, Result, SequenceOptions
from glasscell._ops.numpy import run
from glasscell._trace import Trace

Pullback = Callable[..., Gradients]
R = TypeVar("R", bound=Result)


class RNN:
    """Runs a cell over time, as `keras.layers.RNN` does, in one native call.

    return_sequences: every output (B, T, H), else the last (B, H). return_state: (output, h, c).
    go_backwards: time runs from the last step to the first, and outputs come in that order.
    stateful: the final state of a call is the initial state of the next, until `reset_state()`.
    zero_output_for_mask: the output of a skipped step is zero, else it repeats the state's h.
    engine: "auto", "native" or "reference"; `engine_used` tells what ran last.

    At a skipped step the state carries over and the input is not read. Before the first kept step the output repeats
    the initial h, as Keras does on JAX and NumPy.
    """

    def __init__(
        self,
        cell: LSTMCell,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        *,
        engine: Engine = "auto",
    ) -> None:
        if not isinstance(cell, LSTMCell):
            raise TypeError(f"cell: expected a glasscell.LSTMCell, got {type(cell).__name__}")
        self.cell = cell
        self.return_sequences, self.return_state = bool(return_sequences), bool(return_state)
        self.go_backwards, self.stateful = bool(go_backwards), bool(stateful)
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self.engine: Engine = engine
        self.engine_used: str | None = None
        self._state: State | None = None

    def __call__(
        self, x: Any, initial_state: Any = None, mask: Any = None, lengths: Any = None, reset: Any = None,
        *, dropout_mask: Any = None, recurrent_dropout_mask: Any = None,
    ) -> Array | tuple[Array, Array, Array]:  # fmt: skip
        """Run over `x: (B, T, I)`, of the cell's dtype.

        initial_state: (h, c), each (B, H); default: the stateful state, or zeros.
        mask: (B, T) bool, True = use the step. lengths: (B,) integers: row b uses its first lengths[b] steps.
        reset: (B, T) bool, True = the state is set to zero before the step.
        dropout_mask: (B, I), or (4, B, I) one for each gate, multiplies x; recurrent_dropout_mask: (B, H) or
        (4, B, H) multiplies h on its way into the gates. Scaled factors, as Keras draws them.

        Returns the output, or (output, h, c) with `return_state`.
        Raises: ValueError or TypeError naming the argument, what was expected and what came.
        """
        call = self._call(x, initial_state, SequenceOptions(mask, lengths, reset, dropout_mask, recurrent_dropout_mask))
        if self.return_sequences:
            sequence = self._ran(run(call, "sequence", self.engine))
            output, final = self._zeroed(call, sequence.h), sequence.final
        else:
            final = self._ran(run(call, "state", self.engine)).final
            output = self._output(call, final.h)
        return (output, *final) if self.return_state else output

    def vjp(
        self, x: Any, initial_state: Any = None, mask: Any = None, lengths: Any = None, reset: Any = None,
        *, dropout_mask: Any = None, recurrent_dropout_mask: Any = None, recompute: bool = False,
    ) -> tuple[Array, Pullback]:  # fmt: skip
        """The output, and the function that takes gradients back through the call. Other arguments as in `__call__`.

        recompute: keep h alone, and compute the gates anew when the gradient needs them: the same bits from about a
        sixth of the memory (4 instead of 24 bytes for each of B T H in float32; 8 from 256 rows on), for a third more
        work. Either way x is kept as a copy.

        `pullback(dy, dstate=None)`: `dy` has the output's shape (None for zero), `dstate` is the gradient (dh, dc) of
        the final state. It returns `Gradients` named x, kernel, recurrent_kernel, bias, h0, c0, and can be called
        again. They are the gradients of this call, whatever is written into its arguments or set anew afterwards.
        """
        sequence = SequenceOptions(mask, lengths, reset, dropout_mask, recurrent_dropout_mask)
        call = self._call(x, initial_state, sequence).detached()  # the gradient reads its arrays again
        result = self._ran(run(call, "checkpoints" if recompute else "tape", self.engine))
        sequences = self.return_sequences
        output = self._output(call, result.h if sequences else result.final.h)
        B, _, _, H = call.sizes
        dtype, zeroed_steps = call.x.dtype, self._zeroed_steps(call)

        def pullback(dy: Any = None, dstate: Any = None) -> Gradients:
            dh, dc = check_state("dstate", dstate, B, H, dtype)
            if dy is None:
                return result.pullback(None, dh, dc)
            dy = check_array("dy", dy, output.shape, dtype, "(B, T, H)" if sequences else "(B, H)")
            if zeroed_steps is not None:
                dy = np.where(zeroed_steps, np.zeros((), dtype), dy)
            return result.pullback(dy, dh, dc) if sequences else result.pullback(None, dh + dy, dc)

        return output, pullback

    def trace(
        self, x: Any, initial_state: Any = None, mask: Any = None, lengths: Any = None, reset: Any = None,
        *, dropout_mask: Any = None, recurrent_dropout_mask: Any = None,
    ) -> Trace:  # fmt: skip
        """Every gate, raw and activated, and every h and c, of the same call. Arguments as in `__call__`."""
        call = self._call(x, initial_state, SequenceOptions(mask, lengths, reset, dropout_mask, recurrent_dropout_mask))
        return Trace.of(call, self._ran(run(call, "trace", self.engine)).record)

    @property
    def state(self) -> State | None:
        """A copy of the (h, c), each (B, H), that `stateful` keeps, or None. May be set to such a pair, or None."""
        return None if self._state is None else State(*(s.copy() for s in self._state))

    @state.setter
    def state(self, state: Any) -> None:
        if state is not None:
            first = read_array("state.h", state[0]) if isinstance(state, (tuple, list)) and state else np.empty(0)
            batch = len(first) if first.ndim else 0
            state = State(*(s.copy() for s in check_state("state", state, batch, self.cell.units, self.cell.dtype)))
        self._state = state

    def reset_state(self) -> None:
        """Forget the state that `stateful` keeps: the next call starts from zeros, with any batch size."""
        self._state = None

    def _call(self, x: Any, initial_state: Any, sequence: SequenceOptions) -> Call:
        cell = self.cell
        if initial_state is None and self.stateful and self._state is not None:
            x, initial_state = read_array("x", x), self._state
            if x.ndim and len(x) != len(initial_state.h):
                raise ValueError(
                    f"x: expected the batch size of the stateful state, {len(initial_state.h)}, got {len(x)}; "
                    "reset_state() starts anew"
                )
        weights = cell.weights
        options = cell.options(self.go_backwards)
        return Call.checked(weights, options, x, initial_state, sequence, cell.packed(weights))

    def _ran(self, result: R) -> R:
        """Note the engine that ran, and keep the state if the layer is stateful."""
        self.engine_used = result.engine
        if self.stateful:
            self._state = State(*(s.copy() for s in result.final))  # the caller may write into what was returned
        return result

    def _output(self, call: Call, h: Array) -> Array:
        """The output, which the caller may write into, of the h that a tape or a state keeps."""
        zeroed = self._zeroed(call, h)
        return h.copy() if zeroed is h else zeroed

    def _zeroed(self, call: Call, h: Array) -> Array:
        zeroed_steps = self._zeroed_steps(call)
        return h if zeroed_steps is None else np.where(zeroed_steps, np.zeros((), h.dtype), h)

    def _zeroed_steps(self, call: Call) -> Array | None:
        """Where the output is zero because its step was skipped; broadcasts against the output. None: nowhere."""
        kept = call.kept_steps() if self.zero_output_for_mask and call.x.shape[1] else None
        if kept is None:
            return None
        return ~kept[:, :, None] if self.return_sequences else ~kept[:, -1, None]


class LSTM(RNN):
    """`RNN(LSTMCell(units, ...), ...)` in one name: the arguments of both, as in `keras.layers.LSTM`."""

    def __init__(
        self,
        units: int,
        *args: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        engine: Engine = "auto",
        **cell: Any,
    ) -> None:
        super().__init__(
            LSTMCell(units, *args, engine=engine, **cell),
            return_sequences,
            return_state,
            go_backwards,
            stateful,
            zero_output_for_mask,
            engine=engine,
        )

    def build(self, input_dim: int, seed: int | None = None, dtype: Any = None) -> LSTM:
        """Make the cell's weights; see `LSTMCell.build`. Returns the layer."""
        self.cell.build(input_dim, seed, dtype)
        return self
