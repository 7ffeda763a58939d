"""`RNN` and `LSTM` on NumPy: a cell over time, its gradient and its trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from glasscell._cells.weights import State, check_array, check_state, read_array
from glasscell._layers.lstm_cell import LSTMCell
from glasscell._ops import numpy as engines
from glasscell._ops.call import KEEP, Call, Forward, Gradients, Keep
from glasscell._ops.numpy import Engine, SequenceOptions
from glasscell._trace import Trace

Array = npt.NDArray[Any]
Pullback = Callable[..., Gradients]


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
        masks = SequenceOptions(mask, lengths, reset, dropout_mask, recurrent_dropout_mask)
        call, done = self._run(x, initial_state, masks, "sequence" if self.return_sequences else "state")
        output = self._output(call, done)
        return (output, *done.final) if self.return_state else output

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
        masks = SequenceOptions(mask, lengths, reset, dropout_mask, recurrent_dropout_mask)
        call, done = self._run(x, initial_state, masks, "checkpoints" if recompute else "tape")
        tape, output = done.tape, self._output(call, done)
        assert tape is not None
        B, _, _, H = call.sizes
        dtype, engine = call.x.dtype, engines.choose(self.engine, call)
        silent, sequences = self._silent(call), self.return_sequences

        def pullback(dy: Any = None, dstate: Any = None) -> Gradients:
            dh, dc = check_state("dstate", dstate, B, H, dtype)
            dh_all = None
            if dy is not None:
                dy = check_array("dy", dy, output.shape, dtype, "(B, T, H)" if sequences else "(B, H)")
                if silent is not None:
                    dy = np.where(silent, np.zeros((), dtype), dy)
                if sequences:
                    dh_all = dy
                else:
                    dh = dh + dy
            return engines.backward(tape, dh_all, dh, dc, engine)

        return output, pullback

    def trace(
        self, x: Any, initial_state: Any = None, mask: Any = None, lengths: Any = None, reset: Any = None,
        *, dropout_mask: Any = None, recurrent_dropout_mask: Any = None,
    ) -> Trace:  # fmt: skip
        """Every gate, raw and activated, and every h and c, of the same call. Arguments as in `__call__`."""
        masks = SequenceOptions(mask, lengths, reset, dropout_mask, recurrent_dropout_mask)
        _, done = self._run(x, initial_state, masks, "trace")
        assert done.tape is not None
        return Trace.from_tape(done.tape)

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

    def _run(self, x: Any, initial_state: Any, masks: SequenceOptions, keep: Keep) -> tuple[Call, Forward]:
        cell = self.cell
        x, kept = read_array("x", x), self._state if self.stateful else None
        if initial_state is None and kept is not None:
            if x.ndim and len(x) != len(kept.h):
                raise ValueError(
                    f"x: expected the batch size of the stateful state, {len(kept.h)}, got {len(x)}; "
                    "reset_state() starts anew"
                )
            initial_state = kept
        weights, options = cell.weights, cell.options(self.go_backwards)
        call = engines.make_call(weights, options, x, initial_state, masks, cell.packed(weights))
        self.engine_used = used = engines.choose(self.engine, call)
        if keep in ("tape", "checkpoints"):
            call = call.detached()  # its gradient reads them again
        done = engines.forward(call, keep, used)
        if self.stateful:
            self._state = State(*(s.copy() for s in done.final))  # the caller may write into what was returned
        return call, done

    def _output(self, call: Call, done: Forward) -> Array:
        output = done.final.h if not self.return_sequences else done.h
        assert output is not None
        silent = self._silent(call)
        if silent is not None:
            return np.where(silent, np.zeros((), output.dtype), output)
        # A copy where the caller could otherwise write into the tape, or into the state returned beside the output.
        return output.copy() if done.tape is not None or not self.return_sequences else output

    def _silent(self, call: Call) -> Array | None:
        """Where the output is zero because its step was skipped; broadcasts against the output. None: nowhere."""
        if not self.zero_output_for_mask or call.step_flags is None or call.x.shape[1] == 0:
            return None
        skipped: Array = (call.step_flags & KEEP) == 0
        if self.go_backwards:
            skipped = skipped[:, ::-1]
        return skipped[:, :, None] if self.return_sequences else skipped[:, -1, None]


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
