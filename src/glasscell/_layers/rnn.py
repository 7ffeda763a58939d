"""Defines `RNN` on NumPy: it runs a cell, or a stack of cells, over time, and gives the gradient and the trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

import numpy as np

from glasscell._cells.arguments import (
    check_choice,
    check_config,
    check_flag,
    check_name,
    described,
    kind_of,
    named_arguments,
)
from glasscell._cells.checks import Array, State, check_array, check_state, read_array
from glasscell._layers.dropout import MASKS, draw_missing
from glasscell._layers.lstm_cell import LSTMCell, generator
from glasscell._layers.plain import run_plain
from glasscell._layers.serialized import deserialized, serialized
from glasscell._layers.stacked import StackedRNNCells
from glasscell._ops import aligned
from glasscell._ops.call import Call, Engine, Gradients, Outputs, Result, SequenceOptions
from glasscell._ops.numpy import ENGINES, run
from glasscell._trace import Trace, Traces

Pullback = Callable[..., Any]
L = TypeVar("L", bound=Result)
S = TypeVar("S", bound=Outputs)


class RNN:
    """Runs a cell over time, as `keras.layers.RNN` does, in one native call.

    cell: an `LSTMCell`, or `StackedRNNCells`. In a stack, each cell runs over the whole sequence in a call of its own,
    and the state is a list of (h, c), one for each cell.
    return_sequences: return the output of every step, (B, T, H), instead of the last, (B, H).
    return_state: return (output, h, c) instead of the output; for a stack (output, (h, c), (h, c), ...).
    go_backwards: process the steps from the last to the first; the outputs come in that order.
    stateful: start each call from the final state of the call before it, until `reset_state()`.
    zero_output_for_mask: make the output of a skipped step zero; otherwise it repeats the h of the state.
    unroll: kept for the configuration; it changes nothing here.
    engine: "auto", "native" or "reference". `engine_used` is the engine of the last call.

    A step that the mask skips leaves the state as it is, and its input is not read. Before the first step that is not
    skipped, the output repeats the initial h, as Keras does on JAX and NumPy.

        rnn = glasscell.RNN(glasscell.LSTMCell(64), return_sequences=True).build(12, seed=0)
        y = rnn(x)  # x: (B, T, 12) float32; y: (B, T, 64)
    """

    @named_arguments
    def __init__(
        self,
        cell: LSTMCell | StackedRNNCells,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        *,
        name: str = "rnn",
        trainable: bool = True,
        engine: Engine = "auto",
    ) -> None:
        if not isinstance(cell, (LSTMCell, StackedRNNCells)):
            raise TypeError(f"cell: expected a glasscell.LSTMCell or StackedRNNCells, got {kind_of(cell)}")
        self.cell = cell
        self.return_sequences = check_flag("return_sequences", return_sequences)
        self.return_state = check_flag("return_state", return_state)
        self.go_backwards = check_flag("go_backwards", go_backwards)
        self.stateful, self.unroll = check_flag("stateful", stateful), check_flag("unroll", unroll)
        self.zero_output_for_mask = check_flag("zero_output_for_mask", zero_output_for_mask)
        self.name, self.trainable = check_name(name, "rnn"), check_flag("trainable", trainable)
        self.engine: Engine = check_choice("engine", engine, ENGINES)
        self.engine_used: str | None = None
        self._states: list[State] | None = None

    def __repr__(self) -> str:
        names = ("return_sequences", "return_state", "go_backwards", "stateful", "zero_output_for_mask")
        flags = "".join(f", {name}=True" for name in names if getattr(self, name))
        return f"{type(self).__name__}({self.cell!r}{flags})"

    def __call__(
        self, x: Any, initial_state: Any = None, mask: Any = None, lengths: Any = None, reset: Any = None,
        *, dropout_mask: Any = None, recurrent_dropout_mask: Any = None, training: bool = False,
    ) -> Any:  # fmt: skip
        """Run over `x: (B, T, I)`, of the cell's dtype.

        initial_state: (h, c), each (B, H); default: the stateful state, or zeros.
        mask: (B, T) bool, True = use the step. lengths: (B,) integers: row b uses its first lengths[b] steps.
        reset: (B, T) bool, True = set the state to zero before the step.
        dropout_mask: (B, I), or (4, B, I) with one mask for each gate, multiplies x.
        recurrent_dropout_mask: (B, H) or (4, B, H), multiplies h on its way into the gates.
        Both hold scaled factors, as `LSTMCell.dropout_masks` draws them; for a stack, each is a list with one mask (or
        None) for each cell.
        training: draw the masks of `dropout` and `recurrent_dropout` that are not given; see `dropout_masks`.

        Returns the output, or (output, h, c) with `return_state`.
        Raises: ValueError or TypeError naming the argument, the expected value and the given one.
        """
        plain = mask is lengths is reset is dropout_mask is recurrent_dropout_mask is None
        if plain and not (training or self.stateful or self._stacked):
            ran = run_plain(self.cell, self.engine, self.go_backwards, self.return_sequences, x, initial_state)
            if ran is not None:
                self.engine_used = "native"
                return ran if self.return_state else ran[0]
        sequence = SequenceOptions(mask, lengths, reset, dropout_mask, recurrent_dropout_mask)
        if training:
            sequence = self._drawn(x, sequence)
        if self.return_sequences:
            below, call, last = self._run(x, initial_state, sequence, self._outputs, self._outputs)
            output, final = self._zeroed(call, last.h), last.final
        else:
            below, call, result = self._run(x, initial_state, sequence, self._outputs, self._final)
            output, final = self._output(call, result.final.h), result.final
        if not self.return_state:
            return output
        states = [*(result.final for _, result in below), final]
        return (output, *states) if self._stacked else (output, *final)

    def vjp(
        self, x: Any, initial_state: Any = None, mask: Any = None, lengths: Any = None, reset: Any = None,
        *, dropout_mask: Any = None, recurrent_dropout_mask: Any = None, training: bool | None = None,
        recompute: bool = False,
    ) -> tuple[Array, Pullback]:  # fmt: skip
        """Run a call for its gradient. Returns the output and `pullback`; other arguments as in `__call__`.

        recompute: store only h, and compute the gates again in `pullback`. This gives the same bits with about a sixth
        of the memory (4 instead of 24 bytes for each of B T H in float32; 8 from 256 rows on), for a third more work.
        Either way x is copied.
        training: True draws the dropout masks that are not given, False leaves them out. It is required where the cell
        has a dropout rate and no mask is given, because a gradient without dropout would be wrong in training.

        `pullback(dy, dstate=None)` takes gradients back through the call: `dy` has the output's shape (None for zero),
        `dstate` is the gradient (dh, dc) of the final state. It returns `Gradients` named x, kernel, recurrent_kernel,
        bias, h0, c0; for a stack a list of them, where the x of the first cell is that of the input. It can be called
        again. Arguments that are written into and weights that are set later do not change its result.
        """
        keep: Any = "checkpoints" if recompute else "tape"

        def taped(call: Call) -> Any:
            return run(call, keep, self.engine)

        sequence = SequenceOptions(mask, lengths, reset, dropout_mask, recurrent_dropout_mask)
        if training or training is None:
            sequence = self._drawn(x, sequence, training)
        below, call, last = self._run(x, initial_state, sequence, taped, taped, detach=True)
        sequences = self.return_sequences
        output = self._output(call, last.h if sequences else last.final.h)
        dtype, zeroed_steps = call.x.dtype, self._zeroed_steps(call)
        levels = [*below, (call, last)]

        def pullback(dy: Any = None, dstate: Any = None) -> Any:
            states = self._each("dstate", dstate)
            found: list[Gradients] = []
            dh_all = dh_last = None
            if dy is not None:
                dy = check_array("dy", dy, output.shape, dtype, "(B, T, H)" if sequences else "(B, H)")
                if zeroed_steps is not None:
                    dy = np.where(zeroed_steps, np.zeros((), dtype), dy)
                dh_all, dh_last = (dy, None) if sequences else (None, dy)
            for (level, result), state in zip(reversed(levels), reversed(states), strict=True):
                B, _, _, H = level.sizes
                dh, dc = check_state("dstate", state, B, H, dtype)
                found.insert(0, result.pullback(dh_all, dh if dh_last is None else dh + dh_last, dc))
                dh_all, dh_last = found[0].x, None  # its steps are in the order in which the level below ran
            return found if self._stacked else found[0]

        return output, pullback

    def trace(
        self, x: Any, initial_state: Any = None, mask: Any = None, lengths: Any = None, reset: Any = None,
        *, dropout_mask: Any = None, recurrent_dropout_mask: Any = None,
    ) -> Any:  # fmt: skip
        """Run, and keep every gate, raw and activated, and every h and c. Arguments as in `__call__`.

        Returns a `Trace`; for a stack `Traces`, a list with one for each cell.
        """

        def recorded(call: Call) -> Any:
            return run(call, "trace", self.engine)

        sequence = SequenceOptions(mask, lengths, reset, dropout_mask, recurrent_dropout_mask)
        below, call, last = self._run(x, initial_state, sequence, recorded, recorded)
        traces = [Trace.of(level, result.record) for level, result in [*below, (call, last)]]
        return Traces(traces, [f"cell {n}" for n in range(len(traces))]) if self._stacked else traces[0]

    def dropout_masks(self, batch_size: int, seed: int | None = None) -> dict[str, Any]:
        """Draw the dropout masks of one call in training, as in `rnn(x, **masks)`; see `LSTMCell.dropout_masks`.

        For a stack, each is a list with one mask (or None) for each cell. A rate that drops nothing gives no mask.
        """
        if not isinstance(self.cell, StackedRNNCells):
            return self.cell.dropout_masks(batch_size, seed)
        draws: Any = None if seed is None else generator(seed)
        drawn = [cell.dropout_masks(batch_size, draws) for cell in self._cells]
        names = dict.fromkeys(name for masks in drawn for name in masks)
        return {name: [masks.get(name) for masks in drawn] for name in names}

    @property
    def state(self) -> Any:
        """A copy of the state (h, c) that `stateful` keeps, each (B, H), or None. It can be set to either."""
        if self._states is None:
            return None
        copies = [State(*(s.copy() for s in state)) for state in self._states]
        return copies if self._stacked else copies[0]

    @state.setter
    def state(self, state: Any) -> None:
        if state is None:
            self._states = None
            return
        states = []
        for cell, one in zip(self._cells, self._each("state", state), strict=True):
            first = read_array("state.h", one[0]) if isinstance(one, (tuple, list)) and one else np.empty(0)
            batch = len(first) if first.ndim else 0
            states.append(State(*(s.copy() for s in check_state("state", one, batch, cell.units, cell.dtype))))
        if len({len(one.h) for one in states}) > 1:
            raise ValueError(f"state: expected one batch size, got {[len(one.h) for one in states]}")
        self._states = states

    def reset_state(self) -> None:
        """Forget the state that `stateful` keeps; the next call starts from zeros and may have any batch size."""
        self._states = None

    def build(self, input_dim: int, seed: int | None = None, dtype: Any = None) -> Self:
        """Draw the cell's weights; see `LSTMCell.build`. Returns the layer."""
        self.cell.build(input_dim, seed, dtype)
        return self

    @property
    def built(self) -> bool:
        """Whether the weights exist."""
        return self.cell.built

    @property
    def weights(self) -> Any:
        """The cell's weights, read-only; for a stack a list with the weights of each cell."""
        return self.cell.weights

    def get_weights(self) -> list[Array]:
        """Copies of the weights in Keras's order; see `LSTMCell.get_weights`."""
        return self.cell.get_weights()

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the weights to copies of the given ones; see `LSTMCell.set_weights`."""
        self.cell.set_weights(weights)

    def to_torch(self) -> dict[str, Array]:
        """The weights as the `state_dict` of a `torch.nn.LSTM`: arrays, with all of the bias in `bias_ih`.

        `glasscell.torch.from_layer(layer)` makes the module. Raises: ValueError where torch.nn.LSTM has no such layer.
        """
        from glasscell._layers.torch_modules import state_dict_of

        return state_dict_of(self)

    def torch_cells(self) -> list[list[LSTMCell]]:
        """The cells as `torch.nn.LSTM` orders them: a list for each layer, with one cell for each direction.

        Raises: ValueError where no single `torch.nn.LSTM` can hold these cells.
        """
        from glasscell._layers.torch_modules import check_levels

        if self.go_backwards:
            raise ValueError("go_backwards: expected False, for torch.nn.LSTM goes forwards, got True")
        return check_levels([[cell] for cell in self._cells])

    def get_config(self) -> dict[str, Any]:
        """The configuration, with Keras's keys: `keras.layers.RNN.from_config` takes it."""
        kind = "StackedRNNCells" if self._stacked else "LSTMCell"
        return {**self._own_config(), "cell": serialized(self.cell, kind)}

    def _own_config(self) -> dict[str, Any]:
        names = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "zero_output_for_mask")
        own = {name: getattr(self, name) for name in names}
        return {"name": self.name, "trainable": self.trainable, "dtype": self._cells[0].dtype.name, **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a layer from the `get_config()` of a glasscell or a Keras layer.

        Raises: TypeError for unknown keys and for cells of another kind.
        """
        config = {key: value for key, value in check_config(config, "cell").items() if key != "dtype"}
        kinds = {"LSTMCell": LSTMCell, "StackedRNNCells": StackedRNNCells}
        return cls(deserialized(config.pop("cell"), kinds, "cell"), **config)

    @property
    def _stacked(self) -> bool:
        return isinstance(self.cell, StackedRNNCells)

    @property
    def _cells(self) -> list[LSTMCell]:
        return self.cell.cells if isinstance(self.cell, StackedRNNCells) else [self.cell]

    def _each(self, name: str, value: Any) -> list[Any]:
        """A list with the argument of each cell: the value itself, or for a stack the entries of its list."""
        count = len(self._cells)
        if not self._stacked or value is None:
            return [value] * count
        if not isinstance(value, (list, tuple)) or len(value) != count:
            raise ValueError(f"{name}: expected a list of {count}, one for each cell, got {described(value)}")
        return list(value)

    def _drawn(self, x: Any, sequence: SequenceOptions, training: bool | None = True) -> SequenceOptions:
        """The options, with missing dropout masks drawn. Raises: ValueError where `training` is required but None."""
        found: dict[str, Any] = {name: self._each(name, getattr(sequence, name)) for name in MASKS}
        if not draw_missing(self._cells, found, x, training):
            return sequence
        return sequence._replace(**(found if self._stacked else {name: one for name, (one,) in found.items()}))

    def _run(
        self, x: Any, initial_state: Any, sequence: SequenceOptions,
        below: Callable[[Call], S], top: Callable[[Call], L], detach: bool = False,
    ) -> tuple[list[tuple[Call, S]], Call, L]:  # fmt: skip
        """Run the cells one after another, each over the whole sequence.

        below: runs the call of a cell below the last; top: runs the last cell's call. detach: run on copies of arrays
        that may belong to the caller. Returns the calls and results of the cells below, and the last call and result.
        """
        stacked = self._stacked
        initial_state = self._kept(x) if initial_state is None else initial_state
        call = self._first_call(x, initial_state, sequence, stacked)
        if detach:
            call = call.detached()
        ran: list[tuple[Call, S]] = []
        if stacked:
            states = self._each("initial_state", initial_state)
            masks = self._each("dropout_mask", sequence.dropout_mask)
            recurrent_masks = self._each("recurrent_dropout_mask", sequence.recurrent_dropout_mask)
            for level in range(1, len(self._cells)):
                ran.append((call, below(call)))
                options = SequenceOptions(None, None, None, masks[level], recurrent_masks[level])
                flags = call.step_flags
                cell, x = self._cells[level], ran[-1][1].h
                call = Call.checked(cell.weights, cell.options(), x, states[level], options, cell.packed(cell.weights))
                backwards = level == 1 and self.go_backwards
                call.step_flags = np.ascontiguousarray(flags[:, ::-1]) if backwards and flags is not None else flags
                if detach:
                    call = call.detached()
        result = top(call)
        natively = result.engine == "native" and all(r.engine == "native" for _, r in ran)
        self.engine_used = "native" if natively else "reference"
        if self.stateful:  # copies: the caller may write into the returned arrays
            finals = [*(r.final for _, r in ran), result.final]
            self._states = [State(*(s.copy() for s in final)) for final in finals]
        return ran, call, result

    def _first_call(self, x: Any, initial_state: Any, sequence: SequenceOptions, stacked: bool) -> Call:
        cell: Any = self.cell
        if stacked:
            cell, initial_state = cell.cells[0], self._each("initial_state", initial_state)[0]
            sequence = sequence._replace(
                dropout_mask=self._each("dropout_mask", sequence.dropout_mask)[0],
                recurrent_dropout_mask=self._each("recurrent_dropout_mask", sequence.recurrent_dropout_mask)[0],
            )
        weights = cell.weights
        options = cell.options(self.go_backwards)
        return Call.checked(weights, options, x, initial_state, sequence, cell.packed(weights))

    def _kept(self, x: Any) -> Any:
        """The stateful state as an initial state for x, or None. Raises: ValueError for another batch size."""
        if not self.stateful or self._states is None:
            return None
        x, batch = read_array("x", x), len(self._states[0].h)
        if x.ndim and len(x) != batch:
            raise ValueError(
                f"x: expected the batch size of the stateful state, {batch}, got {len(x)}; reset_state() starts anew"
            )
        return self._states if self._stacked else self._states[0]

    def _outputs(self, call: Call) -> Outputs:
        return run(call, "sequence", self.engine)

    def _final(self, call: Call) -> Result:
        return run(call, "state", self.engine)

    def _output(self, call: Call, h: Array) -> Array:
        """The output as a new array that the caller may write into; h itself belongs to a tape or a state."""
        zeroed = self._zeroed(call, h)
        return aligned.copy(h) if zeroed is h else zeroed

    def _zeroed(self, call: Call, h: Array) -> Array:
        zeroed_steps = self._zeroed_steps(call)
        return h if zeroed_steps is None else np.where(zeroed_steps, np.zeros((), h.dtype), h)

    def _zeroed_steps(self, call: Call) -> Array | None:
        """Marks outputs that are zero because their step was skipped; broadcasts against the output. None: nowhere."""
        kept = call.kept_steps() if self.zero_output_for_mask and call.x.shape[1] else None
        if kept is None:
            return None
        return ~kept[:, :, None] if self.return_sequences else ~kept[:, -1, None]
