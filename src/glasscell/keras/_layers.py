"""`LSTMCell`, `StackedRNNCells`, `RNN` and `LSTM` as Keras layers, run by the native engine.

No mathematics here: either `_inner_loop.run_native` runs, or Keras itself.
"""

from __future__ import annotations

import logging
from typing import Any

import keras

from glasscell.keras._call_context import Call, context
from glasscell.keras._eligibility import Native, cells_of, eligible, is_keras
from glasscell.keras._inner_loop import LoopResult, Pass, run_native, step_mask
from glasscell.keras._recorder import record_call
from glasscell.keras._trace import trace

Tensor = Any
LOG = logging.getLogger("glasscell")
ENGINES = ("auto", "native", "framework")
CALL_METHODS = {"__call__", "forward", "call", "get_initial_state", "inner_loop"}  # a layer's call and its `inner_loop`

register = keras.saving.register_keras_serializable(package="glasscell")


@register
class LSTMCell(keras.layers.LSTMCell):  # type: ignore[misc]
    """`keras.layers.LSTMCell`, unchanged: one step is the framework's. Inside `RNN` whole sequences run natively."""


@register
class StackedRNNCells(keras.layers.StackedRNNCells):  # type: ignore[misc]
    """`keras.layers.StackedRNNCells`, unchanged. Inside `RNN` each cell runs natively over the whole sequence."""


class NativeLoop:
    """Calls the native engine once where Keras would loop over time: the part that `RNN` and `LSTM` share.

    `engine`: "auto" runs natively wherever it can and the framework is not faster; "native" raises a ValueError that
    names the reason where it cannot; "framework" always runs Keras's own loop. `engine_used` tells what the last call
    (or trace) took.
    """

    engine: str = "auto"
    engine_used: str | None = None

    def _set_engine(self, engine: str) -> None:
        if engine not in ENGINES:
            raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
        self.engine = engine

    @property
    def supports_jit(self) -> bool:
        """Whether Keras may compile a model with this layer: not on TensorFlow, where XLA takes no native call."""
        framework = keras.backend.backend() != "tensorflow" or self.engine == "framework"
        return framework and self.__dict__.get("supports_jit", True)

    @supports_jit.setter
    def supports_jit(self, value: bool) -> None:
        self.__dict__["supports_jit"] = value  # where Keras has it, for when the layer is Keras's own again

    def call(self, sequences: Tensor, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        """As `keras.layers.RNN.call`."""
        outer, context.call = context.call, None
        if is_plain(self):
            from_zero = initial_state is None and not self.stateful  # type: ignore[attr-defined]
            context.call = Call(self, from_zero, context.take(self, sequences, initial_state, mask, bool(training)))
        try:
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)  # type: ignore[misc]
        finally:
            context.call = outer

    def inner_loop(self, sequences: Tensor, initial_state: Any, mask: Any, training: bool = False) -> LoopResult:
        """Runs over time for `keras.layers.RNN.call`; gives the last output, all outputs and the states."""
        steps = step_mask(self, mask)
        record_call(self, sequences, initial_state, steps)
        call = context.call if context.call is not None and context.call.layer is self else None
        if call is not None and call.result is not None:
            return call.result
        native = self._choose_engine(sequences, steps, initial_state)
        if native is None:
            return super().inner_loop(sequences, initial_state, mask, training)  # type: ignore[misc, no-any-return]
        from_zero = call is not None and call.from_zero
        return run_native([Pass(self, native, initial_state, training, from_zero)], sequences, steps)[0]

    def _choose_engine(self, sequences: Tensor, mask: Any, state: Any) -> Native | None:
        """Finds what this call runs on natively, or None for the framework; sets `engine_used`.

        Raises: ValueError with the reason where the engine is "native" and cannot serve.
        """
        asked = self.engine == "native"
        found: Native | str = "engine is 'framework'"
        if self.engine != "framework":
            found = eligible(self, sequences, mask, state, asked)
        reason = found if isinstance(found, str) else None
        if reason is not None and asked:
            raise ValueError(f"engine: 'native' cannot serve this layer: {reason}")
        used = "native" if reason is None else "framework"
        if self.engine_used != used:  # setting an attribute of a Keras layer takes its time
            self.engine_used = used
            if used == "framework" and self.engine == "auto":
                LOG.info("%s runs in Keras's own loop: %s", self.name, reason)  # type: ignore[attr-defined]
        return None if isinstance(found, str) else found

    def trace(self, x: Tensor, initial_state: Any = None, mask: Any = None) -> Any:
        """Every gate and state of what the built layer does to `x: (B, T, I)`, in inference: a `glasscell.Trace`.

        A list of them over `StackedRNNCells`. Runs on NumPy, on every backend; see `glasscell.keras.trace`.
        """
        return trace(self, x, initial_state, mask)

    def get_config(self) -> dict[str, Any]:
        """Keras's configuration; `engine` is in it only where it was chosen, so Keras can read the rest."""
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        return config if self.engine == "auto" else {**config, "engine": self.engine}


@register
class RNN(NativeLoop, keras.layers.RNN):  # type: ignore[misc]
    """`keras.layers.RNN` whose loop over an `LSTMCell`, or a stack of them, is native. Adds `engine` (`NativeLoop`)."""

    def __init__(self, cell: Any, *args: Any, engine: str = "auto", **kwargs: Any) -> None:
        super().__init__(cell, *args, **kwargs)
        self._set_engine(engine)


@register
class LSTM(NativeLoop, keras.layers.LSTM):  # type: ignore[misc]
    """`keras.layers.LSTM` whose loop over time is one native call. Adds `engine` (see `NativeLoop`)."""

    def __init__(self, units: int, *args: Any, engine: str = "auto", **kwargs: Any) -> None:
        super().__init__(units, *args, **kwargs)
        self._set_engine(engine)


def is_plain(layer: Any) -> bool:
    """Tells whether a call of this layer passes through Keras's code alone on its way to `inner_loop`, and starts from
    zeros where it is given no initial state.
    """
    if type(layer) not in (LSTM, RNN) or vars(layer).keys() & CALL_METHODS:
        return False
    kinds = (keras.layers.LSTMCell, keras.layers.StackedRNNCells)
    cells = [layer.cell, *cells_of(layer.cell)]
    return all(any(is_keras(cell, kind, ("get_initial_state",)) for kind in kinds) for cell in cells)
