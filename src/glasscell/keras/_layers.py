"""`LSTMCell`, `RNN`, `LSTM`, `StackedRNNCells` and `Bidirectional` as Keras layers, run by the native engine.

No mathematics here: either `_inner_loop.run_native` runs, or Keras itself.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import keras
from keras import ops

from glasscell.keras._compat import is_hooked
from glasscell.keras._eligibility import Native, cells_of, eligible, is_keras
from glasscell.keras._inner_loop import LoopResult, Pass, run_native, step_mask
from glasscell.keras._recorder import record_call
from glasscell.keras._trace import trace

Tensor = Any
ENGINES = ("auto", "native", "framework")
CALL_METHODS = {"__call__", "forward", "call", "get_initial_state", "inner_loop"}  # a layer's call and its `inner_loop`

_register = keras.saving.register_keras_serializable(package="glasscell")


@_register
class LSTMCell(keras.layers.LSTMCell):  # type: ignore[misc]
    """`keras.layers.LSTMCell`, unchanged: one step is the framework's. Inside `RNN` whole sequences run natively."""


@_register
class StackedRNNCells(keras.layers.StackedRNNCells):  # type: ignore[misc]
    """`keras.layers.StackedRNNCells`, unchanged. Inside `RNN` each cell runs natively over the whole sequence."""


class _Call(NamedTuple):
    """A layer's call on its way to the layer's `inner_loop`, with Keras's code alone in between.

    from_zero: the initial state is Keras's zeros. result: of the loop, if `Bidirectional` has computed it, or None.
    """

    layer: Any
    from_zero: bool
    result: LoopResult | None


class _Precomputed(NamedTuple):
    """The result of a layer's loop, computed by `Bidirectional`, and the arguments of the call that it belongs to."""

    arguments: list[Any]
    result: LoopResult


class _CallContext(threading.local):
    """What passes through Keras's code to a layer's `inner_loop`, in one thread.

    call: the innermost call that runs. precomputed: by the layer's id.
    """

    def __init__(self) -> None:
        self.call: _Call | None = None
        self.precomputed: dict[int, _Precomputed] = {}


_context = _CallContext()


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
        outer, _context.call = _context.call, None
        if _is_plain(self):
            known = _context.precomputed.pop(id(self), None)
            matches = known is not None and _identical(known.arguments, _flat(sequences, initial_state, mask, training))
            from_zero = initial_state is None and not self.stateful  # type: ignore[attr-defined]
            _context.call = _Call(self, from_zero, known.result if known is not None and matches else None)
        try:
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)  # type: ignore[misc]
        finally:
            _context.call = outer

    def inner_loop(self, sequences: Tensor, initial_state: Any, mask: Any, training: bool = False) -> LoopResult:
        """Runs over time for `keras.layers.RNN.call`; gives the last output, all outputs and the states."""
        steps = step_mask(self, mask)
        record_call(self, sequences, initial_state, steps)
        call = _context.call if _context.call is not None and _context.call.layer is self else None
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
        call = {"initial_state": initial_state, "mask": mask, "training": training}
        layers = [self.forward_layer, self.backward_layer]
        half = 0 if initial_state is None else len(initial_state) // 2
        states = [None, None] if initial_state is None else [initial_state[:half], initial_state[half:]]
        found: list[Native] = []
        for layer, state in zip(layers, states, strict=True):
            native = self._precomputable(layer, sequences, state, mask)
            if native is None:
                return super().call(sequences, **call)
            found.append(native)
        try:
            passes = [
                Pass(layer, native, _initial(layer, s, sequences), bool(training), s is None and not layer.stateful)
                for layer, native, s in zip(layers, found, states, strict=True)
            ]
            results = run_native(passes, sequences, step_mask(layers[0], mask))
            for layer, state, result in zip(layers, states, results, strict=True):
                _context.precomputed[id(layer)] = _Precomputed(_flat(sequences, state, mask, training), result)
            return super().call(sequences, **call)
        except BaseException:
            for layer in layers:  # their next call draws anew
                layer.cell.reset_dropout_mask()
                layer.cell.reset_recurrent_dropout_mask()
            raise
        finally:
            for layer in layers:
                _context.precomputed.pop(id(layer), None)

    def _precomputable(self, layer: Any, sequences: Tensor, state: Any, mask: Any) -> Native | None:
        """Finds what the layer's loop runs on natively, if it may run before the layer is called.

        So it may over one cell, with Keras's code alone in between, in the dtype that this layer computes in, and from
        a state that fits.
        """
        if not _is_plain(layer) or cells_of(layer.cell) != [layer.cell] or not layer.built or is_hooked(layer):
            return None
        fits = len(state) == 2 if state is not None else not layer.stateful or _fits_batch(layer, sequences)
        if not fits or layer.compute_dtype != self.compute_dtype:
            return None
        native: Native | None = layer._choose_engine(sequences, step_mask(layer, mask), state)
        return native

    def trace(self, x: Tensor, initial_state: Any = None, mask: Any = None) -> Any:
        """Every gate and state of both layers, as a pair (forward, backward); see `glasscell.keras.trace`."""
        return trace(self, x, initial_state, mask)

    @property
    def engine_used(self) -> str | None:
        """The engine that the last call (or trace) took: "native" if both directions did."""
        used = {getattr(layer, "engine_used", None) for layer in (self.forward_layer, self.backward_layer)}
        return used.pop() if len(used) == 1 else "framework"


def _is_plain(layer: Any) -> bool:
    """Tells whether a call of this layer passes through Keras's code alone on its way to `inner_loop`, and starts from
    zeros where it is given no initial state.
    """
    if type(layer) not in (LSTM, RNN) or vars(layer).keys() & CALL_METHODS:
        return False
    kinds = (keras.layers.LSTMCell, keras.layers.StackedRNNCells)
    cells = [layer.cell, *cells_of(layer.cell)]
    return all(any(is_keras(cell, kind, ("get_initial_state",)) for kind in kinds) for cell in cells)


def _flat(sequences: Tensor, initial_state: Any, mask: Any, training: Any) -> list[Any]:
    """Lists the arguments of a layer's call, to be compared by identity."""
    return keras.tree.flatten((sequences, initial_state, mask, bool(training)))  # type: ignore[no-any-return]


def _identical(some: list[Any], others: list[Any]) -> bool:
    """Tells whether two lists hold the same objects."""
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def _fits_batch(layer: Any, sequences: Tensor) -> bool:
    """Tells whether the state that a stateful layer keeps is of this batch size."""
    return bool(layer.states[0].shape[0] == sequences.shape[0])


def _initial(layer: Any, state: Any, sequences: Tensor) -> list[Tensor]:
    """Makes the state from which Keras's RNN.call would start."""
    if state is None:
        state = layer.states if layer.stateful else layer.get_initial_state(ops.shape(sequences)[0])
    return [ops.convert_to_tensor(s, dtype=layer.cell.compute_dtype) for s in state]
