"""Defines `LSTMCell`, `StackedRNNCells`, `RNN` and `LSTM` as Keras layers that the native engine runs.

This file has no mathematics: a call runs `_inner_loop.run_native`, or Keras's own loop.
"""

from __future__ import annotations

import logging
import weakref
from typing import Any

import keras

from glasscell.keras._call_context import Call, context
from glasscell.keras._eligibility import Native, cells_of, eligible, is_keras, is_lstm, why_not_these_shapes
from glasscell.keras._inner_loop import LoopResult, Pass, run_native, step_mask, why_not_this_width
from glasscell.keras._recorder import record_call
from glasscell.keras._refusals import check_cell, check_cell_options, describe
from glasscell.keras._trace import trace_layer

Tensor = Any
LOG = logging.getLogger("glasscell")
ENGINES = ("auto", "native", "framework")
CALL_METHODS = {"__call__", "forward", "call", "get_initial_state", "inner_loop"}  # all that a call runs

_reasons: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()  # those that a layer has logged

register = keras.saving.register_keras_serializable(package="glasscell")


@register
class LSTMCell(keras.layers.LSTMCell):  # type: ignore[misc]
    """`keras.layers.LSTMCell`, whose sequences run natively inside `RNN`; a single step runs in Keras.

    units: H, the number of units. activation: for the candidate g, and for c in the output. recurrent_activation: for
    the gates i, f and o. use_bias: add a bias. unit_forget_bias: start the bias of f as ones.
    kernel_initializer, recurrent_initializer, bias_initializer, and the _regularizer and _constraint of each: as in
    Keras, for `kernel: (I, 4 H)`, `recurrent_kernel: (H, 4 H)` and `bias: (4 H,)`; their columns are i, f, g, o.
    dropout, recurrent_dropout: the rates at which inputs and h are dropped in training. seed: the seed of the dropout.
    kwargs: Keras's arguments of every layer, `name`, `dtype`, `trainable`; and `implementation`, 1 or 2.

    Raises: ValueError or TypeError naming the argument.

    >>> RNN(LSTMCell(64), return_sequences=True)
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_cell_options(
            units,
            {"dropout": dropout, "recurrent_dropout": recurrent_dropout},
            {"activation": activation, "recurrent_activation": recurrent_activation},
        )
        super().__init__(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            unit_forget_bias=unit_forget_bias,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            **kwargs,
        )


@register
class StackedRNNCells(keras.layers.StackedRNNCells):  # type: ignore[misc]
    """`keras.layers.StackedRNNCells`, whose cells run natively inside `RNN`, each over the whole sequence.

    cells: a list of cells, first to last. kwargs: Keras's arguments of every layer.
    """

    def __init__(self, cells: Any, **kwargs: Any) -> None:
        if not isinstance(cells, (list, tuple)):
            raise TypeError(f"cells: expected a list of cells, got {describe(cells)}")
        check_cell("cells", cells)
        super().__init__(cells, **kwargs)


class NativeLoop:
    """Calls the native engine once where Keras would loop over time; `RNN` and `LSTM` share this class.

    `engine`: "auto" runs natively wherever the native engine can run the call and Keras is not faster. "native" raises
    a ValueError with the reason where the native engine cannot. "framework" always runs Keras's own loop.
    `engine_used` is the engine of the last call (or trace).
    """

    engine: str = "auto"
    engine_used: str | None = None

    def _set_engine(self, engine: str) -> None:
        if engine not in ENGINES:
            raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
        self.engine = engine

    @property
    def supports_jit(self) -> bool:
        """Whether Keras may compile a model with this layer. False on TensorFlow, where XLA takes no native call."""
        framework = keras.backend.backend() != "tensorflow" or self.engine == "framework"
        return framework and self.__dict__.get("supports_jit", True)

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        self.__dict__["supports_jit"] = value  # Keras's place for it, so that `restore` keeps it

    def call(self, sequences: Tensor, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        """Run the layer; as `keras.layers.RNN.call`."""
        outer, context.call = context.call, None
        if is_plain(self):
            from_zero = initial_state is None and not self.stateful  # type: ignore[attr-defined]
            context.call = Call(self, from_zero, context.take(self, sequences, initial_state, mask, bool(training)))
        try:
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)  # type: ignore[misc]
        finally:
            context.call = outer

    def inner_loop(self, sequences: Tensor, initial_state: Any, mask: Any, training: bool = False) -> LoopResult:
        """Run over time for `keras.layers.RNN.call`. Returns the last output, all outputs and the states."""
        steps = step_mask(self, mask)
        record_call(self, sequences, initial_state, steps)
        call = context.call if context.call is not None and context.call.layer is self else None
        if call is not None and call.result is not None:
            return call.result
        native = self._choose_engine(sequences, steps, initial_state)
        if native is None:
            try:
                return super().inner_loop(sequences, initial_state, mask, training)  # type: ignore[misc, no-any-return]
            except Exception as error:
                self._explain(error, sequences, steps)
                raise
        from_zero = call is not None and call.from_zero
        return run_native([Pass(self, native, initial_state, training, from_zero)], sequences, steps)[0]

    def _choose_engine(self, sequences: Tensor, mask: Any, state: Any) -> Native | None:
        """Finds the native operation and cells for this call, or None for Keras's loop; sets `engine_used`.

        Raises: ValueError with the reason where the engine is "native" and cannot run the call.
        """
        asked = self.engine == "native"
        found: Native | str = "engine is 'framework'"
        if self.engine != "framework":
            found = eligible(self, sequences, mask, state, asked)
        reason = found if isinstance(found, str) else None
        if reason is not None and asked:
            raise ValueError(f"engine: 'native' cannot serve this layer: {reason}")
        if reason is not None and self.engine == "auto":
            self._log_once(reason)
        used = "native" if reason is None else "framework"
        if self.engine_used != used:  # only on a change, for setting an attribute of a Keras layer is slow
            self.engine_used = used
        return None if isinstance(found, str) else found

    def _explain(self, error: Exception, sequences: Tensor, mask: Any) -> None:
        """Raises an error that names the argument, where Keras's loop failed because of a wrong shape."""
        cell = cells_of(self.cell)[0]  # type: ignore[attr-defined]
        reason = why_not_these_shapes(sequences, mask) or (
            why_not_this_width(cell, sequences) if is_lstm(cell) else None
        )
        if reason is not None:
            raise ValueError(reason) from error

    def _log_once(self, reason: str) -> None:
        """Logs why the layer runs in Keras's loop, each reason once."""
        if reason not in (met := _reasons.setdefault(self, set())):
            met.add(reason)
            LOG.info("%s runs in Keras's own loop: %s", self.name, reason)  # type: ignore[attr-defined]

    def trace(self, x: Tensor, initial_state: Any = None, mask: Any = None) -> Any:
        """Run the built layer on `x: (B, T, I)` in inference, and return every gate and state as a `glasscell.Trace`.

        For `StackedRNNCells` it is a list of traces. The trace runs on NumPy, on every backend; see
        `glasscell.keras.trace`.
        """
        return trace_layer(self, x, initial_state, mask)

    def get_config(self) -> dict[str, Any]:
        """Keras's configuration, with `engine` only where it is not "auto", so that Keras can read all others."""
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        return config if self.engine == "auto" else {**config, "engine": self.engine}


@register
class RNN(NativeLoop, keras.layers.RNN):  # type: ignore[misc]
    """`keras.layers.RNN`, whose loop over an `LSTMCell`, or over a stack of them, runs natively.

    cell: a cell, or a list of cells, which run one after another at each step.
    return_sequences: return the h of every step, (B, T, H), not of the last, (B, H). return_state: return
    the final states too. go_backwards: process the steps from the last to the first; the outputs come in that order.
    stateful: start each batch from the final states of the batch before.
    unroll: unroll Keras's loop; a native run gives the same numbers either way. zero_output_for_mask: make the outputs
    of masked steps zeros; otherwise they repeat the last output.
    engine: "auto" runs natively where it can and Keras is not faster, "native" raises a ValueError with the reason
    where it cannot, "framework" always runs Keras's own loop. `engine_used` is the engine of the last call.
    kwargs: Keras's arguments of every layer, `name`, `dtype`, `trainable`, `activity_regularizer`.

    Raises: ValueError or TypeError naming the argument.

    >>> RNN([LSTMCell(64), LSTMCell(32)])(x)
    """

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        *,
        engine: str = "auto",
        **kwargs: Any,
    ) -> None:
        check_cell("cell", cell)
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            **kwargs,
        )
        self._set_engine(engine)


@register
class LSTM(NativeLoop, keras.layers.LSTM):  # type: ignore[misc]
    """`keras.layers.LSTM`, whose loop over time is one native call.

    units: H, the number of units. activation: for the candidate g, and for c in the output. recurrent_activation: for
    the gates i, f and o. use_bias: add a bias. unit_forget_bias: start the bias of f as ones.
    kernel_initializer, recurrent_initializer, bias_initializer, and the _regularizer and _constraint of each: as in
    Keras, for `kernel: (I, 4 H)`, `recurrent_kernel: (H, 4 H)` and `bias: (4 H,)`; their columns are i, f, g, o.
    activity_regularizer: for the outputs. dropout, recurrent_dropout: the rates at which inputs and h are dropped in
    training. seed: the seed of the dropout.
    return_sequences: return the h of every step, (B, T, H), not of the last, (B, H). return_state: return
    the final h and c too. go_backwards: process the steps from the last to the first; the outputs come in that order.
    stateful: start each batch from the final states of the batch before.
    unroll: unroll Keras's loop; a native run gives the same numbers either way. use_cudnn: for Keras's loop on a GPU.
    engine: "auto", "native" or "framework", as in `RNN`. kwargs: Keras's arguments of every layer, `name`, `dtype`,
    `trainable`; and `zero_output_for_mask`, `implementation`.

    Raises: ValueError or TypeError naming the argument.

    >>> model = keras.Sequential([keras.Input((None, 12)), LSTM(64), keras.layers.Dense(1)])
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        use_cudnn: bool | str = "auto",
        *,
        engine: str = "auto",
        **kwargs: Any,
    ) -> None:
        check_cell_options(
            units,
            {"dropout": dropout, "recurrent_dropout": recurrent_dropout},
            {"activation": activation, "recurrent_activation": recurrent_activation},
        )
        super().__init__(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            unit_forget_bias=unit_forget_bias,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            use_cudnn=use_cudnn,
            **kwargs,
        )
        self._set_engine(engine)


def is_plain(layer: Any) -> bool:
    """Tells whether a call of this layer runs only Keras's code before `inner_loop`, and so starts from zeros where no
    initial state is given.
    """
    if type(layer) not in (LSTM, RNN) or vars(layer).keys() & CALL_METHODS:
        return False
    kinds = (keras.layers.LSTMCell, keras.layers.StackedRNNCells)
    cells = [layer.cell, *cells_of(layer.cell)]
    return all(any(is_keras(cell, kind, ("get_initial_state",)) for kind in kinds) for cell in cells)
