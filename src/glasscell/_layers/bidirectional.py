"""Defines `Bidirectional` on NumPy: it runs one layer forwards and one backwards over the same sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
from glasscell._cells.checks import Array, check_array, check_arrays
from glasscell._layers.dropout import MASKS
from glasscell._layers.lstm import LSTM
from glasscell._layers.lstm_cell import LSTMCell, generator
from glasscell._layers.rnn import RNN
from glasscell._layers.serialized import deserialized, serialized
from glasscell._trace import Traces

MERGE_MODES = ("sum", "mul", "concat", "ave", None)


class BidirectionalGradients(NamedTuple):
    """Holds the gradient of x, (B, T, I), and the `Gradients` of both layers, whose own x add up to it."""

    x: Array
    forward: Any
    backward: Any

    def __repr__(self) -> str:
        return f"BidirectionalGradients(x {self.x.shape}, forward {self.forward!r}, backward {self.backward!r})"


class Bidirectional:
    """Runs a layer over time in both directions, as `keras.layers.Bidirectional` does.

    layer: an `LSTM` or `RNN`. As in Keras, the forward layer is a new layer with this layer's configuration, without
    its weights. Without a `backward_layer`, the backward layer is made in the same way. With `return_sequences` the
    outputs of skipped steps are zero.
    merge_mode: "concat" (B, T, 2H), "sum", "mul", "ave", or None for a pair of outputs. The outputs of the backward
    layer are put in the order of time before they are merged.

    Raises: TypeError for another kind of layer; ValueError for an unknown mode, and for two layers that do not fit.

        both = glasscell.Bidirectional(glasscell.LSTM(64, return_sequences=True)).build(12, seed=0)
        y = both(x)  # x: (B, T, 12) float32; y: (B, T, 128)
    """

    @named_arguments
    def __init__(
        self, layer: RNN, merge_mode: str | None = "concat", weights: Any = None, backward_layer: RNN | None = None,
        *, name: str = "bidirectional", trainable: bool = True,
    ) -> None:  # fmt: skip
        for argument, value in (("layer", layer), ("backward_layer", backward_layer)):
            if not isinstance(value, RNN) and not (argument == "backward_layer" and value is None):
                raise TypeError(f"{argument}: expected a glasscell.LSTM or RNN, got {kind_of(value)}")
        self.merge_mode: str | None = check_choice("merge_mode", merge_mode, MERGE_MODES)
        self.forward_layer = _anew(layer, f"forward_{layer.name.removeprefix('forward_')}")
        if backward_layer is None:
            name_of_it = f"backward_{layer.name.removeprefix('backward_')}"
            backward_layer = _anew(layer, name_of_it, go_backwards=True)
        for flag in ("return_sequences", "return_state", "stateful"):
            if getattr(layer, flag) != getattr(backward_layer, flag):
                wanted, got = getattr(layer, flag), getattr(backward_layer, flag)
                raise ValueError(f"backward_layer: expected {flag}={wanted}, as the layer has, got {got}")
        if layer.go_backwards == backward_layer.go_backwards:
            one, other = not layer.go_backwards, layer.go_backwards
            raise ValueError(f"backward_layer: expected go_backwards={one}, the layer's opposite, got {other}")
        self.backward_layer, self.name = backward_layer, check_name(name, "bidirectional")
        self.trainable = check_flag("trainable", trainable)
        for part in (self.forward_layer, self.backward_layer):
            part.zero_output_for_mask = part.return_sequences
        if weights is not None:
            self.set_weights(weights)

    def __repr__(self) -> str:
        return f"Bidirectional({self.forward_layer!r}, merge_mode={self.merge_mode!r})"

    def __call__(self, x: Any, initial_state: Any = None, **options: Any) -> Any:
        """Run over `x: (B, T, I)`. Other arguments, such as mask and lengths, as in `RNN`.

        initial_state: one list with the forward layer's states and then the backward layer's, as in Keras; or a pair of
        states (h, c). dropout_mask, recurrent_dropout_mask: a pair, one for each direction; an array serves both.
        Returns the merged output; with `return_state` (output, *states forwards, *states backwards).
        """
        one, two = self._arguments(initial_state, options)
        y, *states = _listed(self.forward_layer(x, **one))
        other, *more = _listed(self.backward_layer(x, **two))
        merged = self._merged(y, self._turned(other))
        if not self.forward_layer.return_state:
            return merged
        return (*(merged if self.merge_mode is None else [merged]), *states, *more)

    def vjp(self, x: Any, initial_state: Any = None, **options: Any) -> tuple[Any, Callable[..., Any]]:
        """Run for the gradient. Returns the output and `pullback(dy, dstate=None)`; see `RNN.vjp`.

        `pullback` returns `BidirectionalGradients`. dstate: the gradients of the final states, in the form of
        `initial_state`.
        """
        one, two = self._arguments(initial_state, options)
        y, pull = self.forward_layer.vjp(x, **one)
        other, pull_other = self.backward_layer.vjp(x, **two)
        turned = self._turned(other)
        merged = self._merged(y, turned)

        def pullback(dy: Any = None, dstate: Any = None) -> BidirectionalGradients:
            d_forward, d_backward = self._halves("dstate", dstate)
            one, two = (None, None) if dy is None else self._split(dy, y, turned)
            found = pull(one, d_forward), pull_other(None if two is None else self._turned(two), d_backward)
            first, second = (g[0] if isinstance(g, list) else g for g in found)
            return BidirectionalGradients(first.x + second.x, *found)

        return merged, pullback

    def dropout_masks(self, batch_size: int, seed: int | None = None) -> dict[str, Any]:
        """Draw the dropout masks of one call in training, a pair for the directions; see `RNN.dropout_masks`."""
        draws: Any = None if seed is None else generator(seed)
        drawn = [layer.dropout_masks(batch_size, draws) for layer in (self.forward_layer, self.backward_layer)]
        return {name: [masks.get(name) for masks in drawn] for name in {**drawn[0], **drawn[1]}}

    def trace(self, x: Any, initial_state: Any = None, **options: Any) -> Traces:
        """Trace both layers. Returns a list (forward, backward), each trace in its layer's processing order."""
        one, two = self._arguments(initial_state, options)
        both = self.forward_layer.trace(x, **one), self.backward_layer.trace(x, **two)
        return Traces(both, ["forward", "backward"])

    def traced_output(self, traces: Traces) -> Any:
        """The merged output of every step of the call behind these traces, (B, T, 2H) with "concat"."""
        both = [t.h if t.mask is None else np.where(t.mask[:, :, None], t.h, np.zeros((), t.h.dtype)) for t in traces]
        return self._merged(both[0], both[1][:, ::-1])

    @property
    def engine_used(self) -> str | None:
        """The engine of the last call: "native" if both directions ran natively."""
        used = {self.forward_layer.engine_used, self.backward_layer.engine_used}
        return used.pop() if len(used) == 1 else "reference"

    def reset_state(self) -> None:
        """Forget the states that stateful layers keep; the next call starts from zeros."""
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    def build(self, input_dim: int, seed: int | None = None, dtype: Any = None) -> Bidirectional:
        """Draw the weights of both layers; a `seed` makes them reproducible, and still different. Returns the layer."""
        seeds = (None, None) if seed is None else generator(seed).integers(2**32, size=2).tolist()
        for layer, own in zip((self.forward_layer, self.backward_layer), seeds, strict=True):
            layer.build(input_dim, own, dtype)
        return self

    @property
    def built(self) -> bool:
        """Whether the weights of both layers exist."""
        return self.forward_layer.built and self.backward_layer.built

    @property
    def weights(self) -> tuple[Any, Any]:
        """The weights of the forward and of the backward layer, read-only."""
        return self.forward_layer.weights, self.backward_layer.weights

    def get_weights(self) -> list[Array]:
        """Copies of the weights in Keras's order: the forward layer's, then the backward layer's."""
        return [*self.forward_layer.get_weights(), *self.backward_layer.get_weights()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the weights to copies of the given ones: the forward layer's, then the backward layer's.

        Raises: ValueError for an odd number of arrays; else as `LSTMCell.set_weights`. After an error, all weights are
        as before.
        """
        self._take(self._checked_weights(weights))

    def _checked_weights(self, weights: Sequence[Any]) -> list[Any]:
        weights = check_arrays("weights", weights)
        if len(weights) % 2:
            raise ValueError(f"weights: expected as many for each direction, got {len(weights)} in all")
        half = len(weights) // 2
        halves = weights[:half], weights[half:]
        layers = self.forward_layer, self.backward_layer
        return [layer.cell._checked_weights(own) for layer, own in zip(layers, halves, strict=True)]

    def _take(self, weights: list[Any]) -> None:
        for layer, own in zip((self.forward_layer, self.backward_layer), weights, strict=True):
            layer.cell._take(own)

    def to_torch(self) -> dict[str, Array]:
        """The weights as the `state_dict` of a `torch.nn.LSTM` of two directions: arrays; see `RNN.to_torch`."""
        from glasscell._layers.torch_modules import state_dict_of

        return state_dict_of(self)

    def torch_cells(self) -> list[list[LSTMCell]]:
        """The cells as `torch.nn.LSTM` orders them; see `RNN.torch_cells`."""
        from glasscell._layers.torch_modules import check_levels

        forward, backward = self.forward_layer, self.backward_layer
        if self.merge_mode != "concat":
            raise ValueError(f"merge_mode: expected 'concat', as torch.nn.LSTM has it, got {self.merge_mode!r}")
        if forward.go_backwards or len(forward._cells) > 1 or len(backward._cells) > 1:
            raise ValueError("layer: expected one cell, forwards, as torch.nn.LSTM has it in a layer, got another")
        return check_levels([[forward._cells[0], backward._cells[0]]])

    def get_config(self) -> dict[str, Any]:
        """The configuration, with Keras's keys: `keras.layers.Bidirectional.from_config` takes it."""
        layers = {"layer": self.forward_layer, "backward_layer": self.backward_layer}
        written = {name: serialized(layer, _kind(layer)) for name, layer in layers.items()}
        return {"name": self.name, "trainable": self.trainable, "merge_mode": self.merge_mode, **written}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Bidirectional:
        """Make a layer from the `get_config()` of glasscell or Keras. Raises: TypeError for layers of another kind."""
        config = {key: value for key, value in check_config(config, "layer").items() if key != "dtype"}
        for key in ("layer", "backward_layer"):
            if config.get(key) is not None:
                config[key] = deserialized(config[key], {"LSTM": LSTM, "RNN": RNN}, key)
        return cls(**config)

    def _arguments(self, initial_state: Any, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Splits the arguments into those of the forward and the backward layer, with their states and masks."""
        both = tuple({**options, "initial_state": state} for state in self._halves("initial_state", initial_state))
        for name in MASKS:
            mask = options.get(name)
            if isinstance(mask, (list, tuple)):
                if len(mask) != 2:
                    raise ValueError(f"{name}: expected a pair, one for each direction, got {len(mask)}")
                both[0][name], both[1][name] = mask
        return both[0], both[1]

    def _halves(self, name: str, states: Any) -> tuple[Any, Any]:
        """Splits states, or their gradients, into those of the forward and those of the backward layer."""
        if states is None:
            return None, None
        if not isinstance(states, (list, tuple)) or len(states) % 2:
            got = described(states)
            raise ValueError(f"{name}: expected the forward layer's states and then the backward layer's, got {got}")
        half = len(states) // 2
        return (states[0], states[1]) if half == 1 else (states[:half], states[half:])

    def _turned(self, y: Array) -> Array:
        return y[:, ::-1] if self.forward_layer.return_sequences else y

    def _merged(self, y: Array, other: Array) -> Any:
        if self.merge_mode is None:
            return y, np.ascontiguousarray(other)
        if self.merge_mode == "concat":
            return np.concatenate([y, other], -1)
        if self.merge_mode == "mul":
            return y * other
        total = y + other
        return total / 2 if self.merge_mode == "ave" else total

    def _split(self, dy: Any, y: Array, other: Array) -> tuple[Any, Any]:
        """Splits the gradient of the merged output into those of both layers' outputs, in the order of time."""
        if self.merge_mode is None:
            if not isinstance(dy, (list, tuple)) or len(dy) != 2:
                raise ValueError(f"dy: expected a pair, one for each output, got {described(dy)}")
            return dy[0], dy[1]
        merged = self._merged(y, other)
        dy = check_array("dy", dy, merged.shape, merged.dtype, "the output's")
        if self.merge_mode == "concat":
            one, two = np.split(dy, [y.shape[-1]], -1)
            return one, two
        if self.merge_mode == "mul":
            return dy * other, dy * y
        return (dy / 2, dy / 2) if self.merge_mode == "ave" else (dy, dy)


def _listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


def _anew(layer: RNN, name: str, **changes: Any) -> RNN:
    """Makes a layer without weights, with the configuration of another one but for its name and the changes."""
    made = type(layer).from_config({**layer.get_config(), "name": name, **changes})
    made.engine = layer.engine
    for cell, old in zip(made._cells, layer._cells, strict=True):
        cell.engine = old.engine
    return made


def _kind(layer: RNN) -> str:
    return "LSTM" if isinstance(layer, LSTM) else "RNN"
