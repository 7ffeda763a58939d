"""`LSTMCell`, `RNN`, `LSTM`, `StackedRNNCells` and `Bidirectional` as Keras layers, run by the native engine.

No mathematics here: either `loop.run_native` runs, or Keras itself.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import keras
from keras import ops

from glasscell.keras import _recorder as record
from glasscell.keras._inner_loop import Loop, Pass, cells_of, each_step, is_hooked, is_keras, run_native, why_not_native

Tensor = Any
ENGINES = ("auto", "native", "framework")
BETWEEN = {"__call__", "forward", "call", "get_initial_state", "inner_loop"}  # a layer's call and its `inner_loop`

_register = keras.saving.register_keras_serializable(package="glasscell")


@_register
class LSTMCell(keras.layers.LSTMCell):  # type: ignore[misc]
    """`keras.layers.LSTMCell`, unchanged: one step is the framework's. Inside `RNN` whole sequences run natively."""


@_register
class StackedRNNCells(keras.layers.StackedRNNCells):  # type: ignore[misc]
    """`keras.layers.StackedRNNCells`, unchanged. Inside `RNN` each cell runs natively over the whole sequence."""


class _Call(NamedTuple):
    """A layer's call on its way to the layer's `inner_loop`, with nobody else's code in between.

    from_zero: it starts from Keras's zeros. ran: what has been run for it ahead, or None.
    """

    layer: Any
    from_zero: bool
    ran: Loop | None


class _Ahead(NamedTuple):
    """What `Bidirectional` ran ahead of a layer's call, and the arguments that it took the call to have."""

    arguments: list[Any]
    ran: Loop


class _Handed(threading.local):
    """What is handed on past Keras's code in between, in the same thread."""

    def __init__(self) -> None:
        self.call: _Call | None = None
        self.ahead: dict[int, _Ahead] = {}  # by the layer's id


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
        before, _handed.call = _handed.call, None
        if _is_plain(self):
            ahead = _handed.ahead.pop(id(self), None)
            arrived = ahead is not None and _same(ahead.arguments, _flat(sequences, initial_state, mask, training))
            from_zero = initial_state is None and not self.stateful  # type: ignore[attr-defined]
            _handed.call = _Call(self, from_zero, ahead.ran if ahead is not None and arrived else None)
        try:
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)  # type: ignore[misc]
        finally:
            _handed.call = before

    def inner_loop(self, sequences: Tensor, initial_state: Any, mask: Any, training: bool = False) -> Loop:
        """What `keras.layers.RNN.call` runs over time: (last output, outputs, states)."""
        steps = each_step(self, mask)
        record.note(self, sequences, initial_state, steps)
        call = _handed.call if _handed.call is not None and _handed.call.layer is self else None
        if call is not None and call.ran is not None:
            return call.ran
        if not self.goes_native(sequences, steps, initial_state):
            return super().inner_loop(sequences, initial_state, mask, training)  # type: ignore[misc, no-any-return]
        from_zero = call is not None and call.from_zero
        return run_native([Pass(self, initial_state, training, from_zero)], sequences, steps)[0]

    def goes_native(self, sequences: Tensor, mask: Any, state: Any = None) -> bool:
        """Whether this call runs natively; sets `engine_used`. Raises: ValueError where it must and cannot."""
        asked = self.engine == "native"
        reason: str | None = "engine is 'framework'"
        if self.engine != "framework":
            reason = why_not_native(self, sequences, mask, state, asked)
        if reason is not None and asked:
            raise ValueError(f"engine: 'native' cannot serve this layer: {reason}")
        used = "native" if reason is None else "framework"
        if self.engine_used != used:  # setting an attribute of a Keras layer takes its time
            self.engine_used = used
        return reason is None

    def trace(self, x: Tensor, initial_state: Any = None, mask: Any = None) -> Any:
        """Every gate and state of what the built layer does to `x: (B, T, I)`, in inference: a `glasscell.Trace`.

        A list of them over `StackedRNNCells`. Runs on NumPy, on every backend; see `glasscell.keras._trace.trace`.
        """
        from glasscell.keras._trace import trace

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
        half = 0 if initial_state is None else len(initial_state) // 2
        states = [None, None] if initial_state is None else [initial_state[:half], initial_state[half:]]
        both = list(zip(layers, states, strict=True))
        if not all(self._runs_ahead(layer, sequences, state, each_step(layer, mask)) for layer, state in both):
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        try:
            passes = [
                Pass(layer, _initial(layer, state, sequences), bool(training), state is None and not layer.stateful)
                for layer, state in both
            ]
            results = run_native(passes, sequences, each_step(layers[0], mask))
            for (layer, state), ran in zip(both, results, strict=True):
                _handed.ahead[id(layer)] = _Ahead(_flat(sequences, state, mask, training), ran)
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        except BaseException:
            for layer in layers:  # what was drawn for a call that did not come about
                layer.cell.reset_dropout_mask()
                layer.cell.reset_recurrent_dropout_mask()
            raise
        finally:
            for layer in layers:
                _handed.ahead.pop(id(layer), None)

    def _runs_ahead(self, layer: Any, sequences: Tensor, state: Any, mask: Any) -> bool:
        """Whether the layer's loop may run before the layer is called: over one cell, with nothing in between, in the
        dtype that this layer computes in, and from a state that fits.
        """
        if not _is_plain(layer) or cells_of(layer.cell) != [layer.cell] or not layer.built or is_hooked(layer):
            return False
        fits = len(state) == 2 if state is not None else not layer.stateful or _holds(layer, sequences)
        return fits and layer.compute_dtype == self.compute_dtype and layer.goes_native(sequences, mask, state)

    def trace(self, x: Tensor, initial_state: Any = None, mask: Any = None) -> Any:
        """Every gate and state of both layers, as a pair (forward, backward); see `NativeLoop.trace`."""
        from glasscell.keras._trace import trace

        return trace(self, x, initial_state, mask)

    @property
    def engine_used(self) -> str | None:
        """What the last call (or trace) took: "native" if both directions did."""
        used = {getattr(layer, "engine_used", None) for layer in (self.forward_layer, self.backward_layer)}
        return used.pop() if len(used) == 1 else "framework"


def _is_plain(layer: Any) -> bool:
    """Whether a call of this layer comes to its `inner_loop` with Keras's code alone in between, which makes zeros of
    no initial state.
    """
    if type(layer) not in (LSTM, RNN) or vars(layer).keys() & BETWEEN:
        return False
    kinds = (keras.layers.LSTMCell, keras.layers.StackedRNNCells)
    cells = [layer.cell, *cells_of(layer.cell)]
    return all(any(is_keras(cell, kind, ("get_initial_state",)) for kind in kinds) for cell in cells)


def _flat(sequences: Tensor, initial_state: Any, mask: Any, training: Any) -> list[Any]:
    """The arguments of a layer's call, to be compared by identity."""
    return keras.tree.flatten((sequences, initial_state, mask, bool(training)))  # type: ignore[no-any-return]


def _same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def _holds(layer: Any, sequences: Tensor) -> bool:
    """Whether the state that a stateful layer keeps is of this batch size."""
    return bool(layer.states[0].shape[0] == sequences.shape[0])


def _initial(layer: Any, state: Any, sequences: Tensor) -> list[Tensor]:
    """The state from which Keras's RNN.call would start."""
    if state is None:
        state = layer.states if layer.stateful else layer.get_initial_state(ops.shape(sequences)[0])
    return [ops.convert_to_tensor(s, dtype=layer.cell.compute_dtype) for s in state]
