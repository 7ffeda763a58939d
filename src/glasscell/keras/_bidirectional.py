"""Defines `Bidirectional` as a Keras layer, whose directions run side by side in one native call."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from glasscell.keras._call_context import context
from glasscell.keras._compat import is_hooked
from glasscell.keras._eligibility import Native, cells_of
from glasscell.keras._inner_loop import Pass, run_native, step_mask
from glasscell.keras._layers import is_plain, register
from glasscell.keras._refusals import check_recurrent
from glasscell.keras._trace import trace_layer

Tensor = Any


@register
class Bidirectional(keras.layers.Bidirectional):  # type: ignore[misc]
    """`keras.layers.Bidirectional`, whose directions run side by side where both are native.

    layer: the layer for one direction, such as `LSTM(64)`; Keras makes copies with their own names and weights.
    merge_mode: how the outputs are merged: "concat", "sum", "mul", "ave", or None for a list of both.
    weights: the initial weights of the forward and then the backward layer. backward_layer: a layer for the other
    direction, if it should differ. kwargs: Keras's arguments of every layer: `name`, `dtype`, `trainable`.

    Raises: ValueError or TypeError naming the argument.

    >>> Bidirectional(LSTM(64, return_sequences=True))(x)
    """

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Any = None,
        **kwargs: Any,
    ) -> None:
        check_recurrent("layer", layer)
        check_recurrent("backward_layer", backward_layer)
        super().__init__(layer, merge_mode=merge_mode, weights=weights, backward_layer=backward_layer, **kwargs)

    def call(self, sequences: Tensor, initial_state: Any = None, mask: Any = None, training: Any = None) -> Any:
        """Run both layers; as `keras.layers.Bidirectional.call`."""
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
                context.precompute(layer, result, sequences, state, mask, bool(training))
            return super().call(sequences, **call)
        except BaseException:
            for layer in layers:  # so that their next call draws new masks
                layer.cell.reset_dropout_mask()
                layer.cell.reset_recurrent_dropout_mask()
            raise
        finally:
            for layer in layers:
                context.precomputed.pop(id(layer), None)

    def _precomputable(self, layer: Any, sequences: Tensor, state: Any, mask: Any) -> Native | None:
        """Finds the native operation for the layer's loop, if the loop may run before the layer is called; else None.

        It may run before if the layer has one cell, only Keras's code runs between the call and the loop, the dtype is
        that of this layer, and the state fits.
        """
        if not is_plain(layer) or cells_of(layer.cell) != [layer.cell] or not layer.built or is_hooked(layer):
            return None
        fits = len(state) == 2 if state is not None else not layer.stateful or _fits_batch(layer, sequences)
        if not fits or layer.compute_dtype != self.compute_dtype:
            return None
        native: Native | None = layer._choose_engine(sequences, step_mask(layer, mask), state)
        return native

    def trace(self, x: Tensor, initial_state: Any = None, mask: Any = None) -> Any:
        """Trace both layers. Returns a list (forward, backward); see `glasscell.keras.trace`."""
        return trace_layer(self, x, initial_state, mask)

    @property
    def engine_used(self) -> str | None:
        """The engine of the last call (or trace): "native" if both directions ran natively."""
        used = {getattr(layer, "engine_used", None) for layer in (self.forward_layer, self.backward_layer)}
        return used.pop() if len(used) == 1 else "framework"


def _fits_batch(layer: Any, sequences: Tensor) -> bool:
    """Tells whether the state of a stateful layer has the batch size of the sequences."""
    return bool(layer.states[0].shape[0] == sequences.shape[0])


def _initial(layer: Any, state: Any, sequences: Tensor) -> list[Tensor]:
    """Makes the initial state as Keras's `RNN.call` would."""
    if state is None:
        state = layer.states if layer.stateful else layer.get_initial_state(ops.shape(sequences)[0])
    return [ops.convert_to_tensor(s, dtype=layer.cell.compute_dtype) for s in state]
