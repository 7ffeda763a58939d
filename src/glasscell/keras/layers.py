"""`LSTMCell`, `RNN` and `LSTM` as Keras layers. No mathematics here: either the native op runs, or Keras itself."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from glasscell import activations
from glasscell.cell import Options
from glasscell.sequence import KEEP

Tensor = Any
ENGINES = ("auto", "native", "framework")


@keras.saving.register_keras_serializable(package="glasscell")
class LSTMCell(keras.layers.LSTMCell):  # type: ignore[misc]
    """`keras.layers.LSTMCell`, unchanged: one step is the framework's. Inside `RNN` whole sequences run natively."""


class NativeLoop:
    """The part that `RNN` and `LSTM` share: where Keras would loop over time, call the native engine once.

    `engine`: "auto" runs natively wherever it can; "native" raises a ValueError that names the reason where it
    cannot; "framework" always runs Keras's own loop. `engine_used` tells what the last call (or trace) took.
    """

    def _set_engine(self, engine: str) -> None:
        if engine not in ENGINES:
            raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
        self.engine = engine
        self.engine_used: str | None = None

    def inner_loop(
        self, sequences: Tensor, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """What `keras.layers.RNN.call` runs over time: (last output, outputs, states)."""
        mask = keras.tree.flatten(mask)[0] if mask is not None else None
        reason = "engine is 'framework'" if self.engine == "framework" else why_not_native(self, mask)
        if reason is not None:
            if self.engine == "native":
                raise ValueError(f"engine: 'native' cannot serve this layer: {reason}")
            self.engine_used = "framework"
            return super().inner_loop(sequences, initial_state, mask, training)  # type: ignore[misc, no-any-return]
        self.engine_used = "native"
        return native_loop(self, sequences, initial_state, mask, training)

    def get_config(self) -> dict[str, Any]:
        """Keras's configuration; `engine` is in it only where it was chosen, so Keras can read the rest."""
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        return config if self.engine == "auto" else {**config, "engine": self.engine}


@keras.saving.register_keras_serializable(package="glasscell")
class RNN(NativeLoop, keras.layers.RNN):  # type: ignore[misc]
    """`keras.layers.RNN` whose loop over an `LSTMCell` is one native call. Adds `engine` (see `NativeLoop`)."""

    def __init__(self, cell: Any, *args: Any, engine: str = "auto", **kwargs: Any) -> None:
        super().__init__(cell, *args, **kwargs)
        self._set_engine(engine)


@keras.saving.register_keras_serializable(package="glasscell")
class LSTM(NativeLoop, keras.layers.LSTM):  # type: ignore[misc]
    """`keras.layers.LSTM` whose loop over time is one native call. Adds `engine` (see `NativeLoop`)."""

    def __init__(self, units: int, *args: Any, engine: str = "auto", **kwargs: Any) -> None:
        super().__init__(units, *args, **kwargs)
        self._set_engine(engine)


def why_not_native(layer: Any, mask: Any) -> str | None:
    """The reason why the native engine cannot run this layer's loop; None if it can."""
    cell, backend = layer.cell, keras.backend.backend()
    if backend != "jax":
        return f"the backend is {backend}, and only jax has the native op so far"
    from glasscell.keras import jax_op

    if (missing := jax_op.why_not_available()) is not None:
        return missing
    if getattr(type(cell), "call", None) is not keras.layers.LSTMCell.call:
        return f"the cell is {type(cell).__name__}, not an LSTMCell with its own equations"
    if cell.compute_dtype not in ("float32", "float64") or cell.variable_dtype != cell.compute_dtype:
        return f"the dtype policy is {cell.dtype_policy.name}, not float32 or float64"
    if layer.unroll and mask is not None:
        return "unroll with a mask has outputs of its own in Keras"
    for name in ("activation", "recurrent_activation"):
        if _activation(getattr(cell, name)) is None:
            return f"{name} is a callable outside the built-in activations"
    return None


def native_loop(
    layer: Any, sequences: Tensor, initial_state: Any, mask: Any, training: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The loop over time in one call, with Keras's outputs for skipped steps."""
    from glasscell.keras import jax_op

    cell = layer.cell
    activation, recurrent_activation = _activation(cell.activation), _activation(cell.recurrent_activation)
    assert activation is not None, "why_not_native lets no other through"
    assert recurrent_activation is not None, "why_not_native lets no other through"
    options = Options(activation, recurrent_activation, layer.go_backwards)
    masks = _dropout_masks(cell, sequences, initial_state, training)
    steps = None if mask is None else ops.cast(ops.cast(mask, "bool"), "uint8") * np.uint8(KEEP)
    bias = None if cell.bias is None else ops.convert_to_tensor(cell.bias)
    kernel, recurrent_kernel = ops.convert_to_tensor(cell.kernel), ops.convert_to_tensor(cell.recurrent_kernel)
    outputs, *states = jax_op.run(
        options, layer.return_sequences, ops.cast(sequences, cell.compute_dtype), kernel, recurrent_kernel, bias,
        *initial_state, steps, *masks,
    )  # fmt: skip
    if outputs is None:
        outputs = states[0][:, None]
    if mask is not None and layer.zero_output_for_mask:
        kept = ops.flip(mask, 1) if layer.go_backwards else mask
        outputs = ops.where(ops.cast(kept[:, -outputs.shape[1] :, None], "bool"), outputs, 0.0)
    return outputs[:, -1], outputs, states


def _activation(function: Any) -> activations.Activation | None:
    """The built-in activation that this Keras function is."""
    for name, activation in activations.BUILT_IN.items():
        if function is keras.activations.get(name):
            return activation
    return None


def _dropout_masks(cell: Any, sequences: Tensor, initial_state: Any, training: bool) -> list[Tensor | None]:
    """The masks Keras drew for this call, each (1 or 4, B, width), or None where there is no dropout."""
    masks: list[Tensor | None] = []
    for rate, draw, values in (
        (cell.dropout, cell.get_dropout_mask, sequences[:, 0]),
        (cell.recurrent_dropout, cell.get_recurrent_dropout_mask, initial_state[0]),
    ):
        mask = draw(values) if training and 0 < rate < 1 else None
        masks.append(None if mask is None else ops.stack(mask) if isinstance(mask, list) else mask[None])
    return masks
