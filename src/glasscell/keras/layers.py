"""`LSTMCell`, `RNN`, `LSTM`, `StackedRNNCells` and `Bidirectional` as Keras layers, run by the native engine.

No mathematics here: either `loop.run_native` runs, or Keras itself.
"""

from __future__ import annotations

import threading
from typing import Any

import keras
from keras import ops

from glasscell.keras import record
from glasscell.keras.loop import Loop, Pass, cells_of, run_native, why_not_native, why_slower

Tensor = Any
ENGINES = ("auto", "native", "framework")

_register = keras.saving.register_keras_serializable(package="glasscell")


@_register
class LSTMCell(keras.layers.LSTMCell):  # type: ignore[misc]
    """`keras.layers.LSTMCell`, unchanged: one step is the framework's. Inside `RNN` whole sequences run natively."""


@_register
class StackedRNNCells(keras.layers.StackedRNNCells):  # type: ignore[misc]
    """`keras.layers.StackedRNNCells`, unchanged. Inside `RNN` each cell runs natively over the whole sequence."""


class _Handed(threading.local):
    """What a layer's call hands down to its `inner_loop`, past Keras's code in between, in the same thread."""

    def __init__(self) -> None:
        self.from_zero = False  # no initial state was given, and none is kept
        self.ran: dict[int, Loop] = {}  # by the layer's id: what `Bidirectional` ran ahead


_handed = _Handed()


class NativeLoop:
    """The part that `RNN` and `LSTM` share: where Keras would loop over time, call the native engine once.

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
        _handed.from_zero = initial_state is None and not self.stateful  # type: ignore[attr-defined]
        return super().call(sequences, initial_state=initial_state, mask=mask, training=training)  # type: ignore[misc]

    def inner_loop(self, sequences: Tensor, initial_state: Any, mask: Any, training: bool = False) -> Loop:
        """What `keras.layers.RNN.call` runs over time: (last output, outputs, states)."""
        mask = keras.tree.flatten(mask)[0] if mask is not None else None
        record.note(self, sequences, initial_state, mask)
        if (ran := _handed.ran.get(id(self))) is not None:
            return ran
        if not self.goes_native(sequences, mask):
            return super().inner_loop(sequences, initial_state, mask, training)  # type: ignore[misc, no-any-return]
        return run_native([Pass(self, initial_state, training, _handed.from_zero)], sequences, mask)[0]

    def goes_native(self, sequences: Tensor, mask: Any) -> bool:
        """Whether this call runs natively; sets `engine_used`. Raises: ValueError where it must and cannot."""
        reason = "engine is 'framework'" if self.engine == "framework" else why_not_native(self, sequences, mask)
        if reason is None and self.engine == "auto":
            reason = why_slower(sequences)
        if reason is not None and self.engine == "native":
            raise ValueError(f"engine: 'native' cannot serve this layer: {reason}")
        used = "native" if reason is None else "framework"
        if self.engine_used != used:  # setting an attribute of a Keras layer takes its time
            self.engine_used = used
        return reason is None

    def trace(self, x: Tensor, initial_state: Any = None, mask: Any = None) -> Any:
        """Every gate and state of what the built layer does to `x: (B, T, I)`, in inference: a `glasscell.Trace`.

        A list of them over `StackedRNNCells`. Runs on NumPy, on every backend; see `glasscell.keras.trace.trace`.
        """
        from glasscell.keras.trace import trace

        return trace(self, x, initial_state, mask)

    def get_config(self) -> dict[str, Any]:
        """Keras's configuration; `engine` is in it only where it was chosen, so Keras can read the rest."""
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        return config if self.engine == "auto" else {**config, "engine": self.engine}


@_register
class RNN(NativeLoop, keras.layers.RNN):  # type: ignore[misc]
    """`keras.layers.RNN` whose loop over an `LSTMCell`, or a stack of them, is native. Adds `engine` (`NativeLoop`)."""

    def __init__(self, cell: Any, *args: Any, engine: str = "auto", **kwargs: Any) -> None:
        super().__init__(cell, *args, **kwargs)
        self._set_engine(engine)


@_register
class LSTM(NativeLoop, keras.layers.LSTM):  # type: ignore[misc]
    """`keras.layers.LSTM` whose loop over time is one native call. Adds `engine` (see `NativeLoop`)."""

    def __init__(self, units: int, *args: Any, engine: str = "auto", **kwargs: Any) -> None:
        super().__init__(units, *args, **kwargs)
        self._set_engine(engine)


@_register
class Bidirectional(keras.layers.Bidirectional):  # type: ignore[misc]
    """`keras.layers.Bidirectional`, whose directions run side by side where both are native."""

    def call(self, sequences: Tensor, initial_state: Any = None, mask: Any = None, training: Any = None) -> Any:
        """As `keras.layers.Bidirectional.call`."""
        layers = [self.forward_layer, self.backward_layer]
        kept = keras.tree.flatten(mask)[0] if mask is not None else None
        if all(_stands_alone(layer) for layer in layers) and all(n.goes_native(sequences, kept) for n in layers):
            half = len(initial_state) // 2 if initial_state is not None else 0
            states = [initial_state[:half], initial_state[half:]] if half else [None, None]
            passes = [
                Pass(layer, _initial(layer, state, sequences), bool(training), state is None and not layer.stateful)
                for layer, state in zip(layers, states, strict=True)
            ]
            _handed.ran = dict(zip(map(id, layers), run_native(passes, sequences, kept), strict=True))
        try:
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        finally:
            _handed.ran = {}

    def trace(self, x: Tensor, initial_state: Any = None, mask: Any = None) -> Any:
        """Every gate and state of both layers, as a pair (forward, backward); see `NativeLoop.trace`."""
        from glasscell.keras.trace import trace

        return trace(self, x, initial_state, mask)

    @property
    def engine_used(self) -> str | None:
        """What the last call (or trace) took: "native" if both directions did."""
        used = {getattr(layer, "engine_used", None) for layer in (self.forward_layer, self.backward_layer)}
        return used.pop() if len(used) == 1 else "framework"


def _stands_alone(layer: Any) -> bool:
    """Whether it is a layer of ours over one cell."""
    return isinstance(layer, NativeLoop) and len(cells_of(layer.cell)) == 1  # type: ignore[attr-defined]


def _initial(layer: Any, state: Any, sequences: Tensor) -> list[Tensor]:
    """The state from which Keras's RNN.call would start."""
    if state is None:
        state = layer.states if layer.stateful else layer.get_initial_state(ops.shape(sequences)[0])
    return [ops.convert_to_tensor(s, dtype=layer.cell.compute_dtype) for s in state]
