"""Defines `Chain` on NumPy: it runs `Bidirectional` layers one after another over a sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from glasscell._cells.arguments import described
from glasscell._cells.checks import Array, check_arrays
from glasscell._layers.bidirectional import Bidirectional
from glasscell._layers.dropout import MASKS
from glasscell._layers.lstm_cell import LSTMCell, generator
from glasscell._trace import Traces


class Chain:
    """Runs `Bidirectional` layers one after another: each reads the outputs of both directions of the layer before.

    `LSTM.from_torch` makes a chain from a `torch.nn.LSTM` of several layers and two directions. A `StackedRNNCells` in
    each direction would compute something else: there a backward cell reads only the backward cell below it.
    """

    def __init__(self, layers: Sequence[Bidirectional]) -> None:
        self.layers = list(layers)

    def __repr__(self) -> str:
        return f"Chain({self.layers!r})"

    def __call__(self, x: Any, initial_state: Any = None, **options: Any) -> Any:
        """Run over `x: (B, T, I)`. Other arguments as in `Bidirectional`; dropout masks are lists, one for each layer.

        initial_state: a list with the states of each layer. Returns the last layer's output; with `return_state`
        (output, states of the first layer, states of the second, ...).
        """
        states: list[Any] = []
        for layer, arguments in self._each(initial_state, options):
            x = layer(x, **arguments)
            if layer.forward_layer.return_state:
                x, *own = x
                states.append(own)
        return (x, *states) if states else x

    def vjp(self, x: Any, initial_state: Any = None, **options: Any) -> tuple[Any, Callable[..., Any]]:
        """Run for the gradient. Returns the output and `pullback(dy, dstate=None)`.

        `pullback` returns a list of `BidirectionalGradients`, one for each layer; the x of the first is that of the
        input. dstate: the gradients of the final states, in the form of `initial_state`.
        """
        pulls = []
        for layer, arguments in self._each(initial_state, options):
            x, pull = layer.vjp(x, **arguments)
            pulls.append(pull)

        def pullback(dy: Any = None, dstate: Any = None) -> list[Any]:
            found: list[Any] = []
            for pull, state in zip(reversed(pulls), reversed(self._listed("dstate", dstate)), strict=True):
                found.insert(0, pull(dy, state))
                dy = found[0].x
            return found

        return x, pullback

    def trace(self, x: Any, initial_state: Any = None, **options: Any) -> Traces:
        """Trace both directions of each layer. Returns a list of `Traces`; see `Bidirectional.trace`."""
        traces = []
        for layer, arguments in self._each(initial_state, options):
            traces.append(layer.trace(x, **arguments))
            x = layer.traced_output(traces[-1])
        return Traces(traces, [f"layer {n}" for n in range(len(traces))])

    def dropout_masks(self, batch_size: int, seed: int | None = None) -> dict[str, Any]:
        """Draw the dropout masks of one call in training, as lists for the layers; see `Bidirectional`."""
        draws: Any = None if seed is None else generator(seed)
        drawn = [layer.dropout_masks(batch_size, draws) for layer in self.layers]
        names = dict.fromkeys(name for masks in drawn for name in masks)
        return {name: [masks.get(name) for masks in drawn] for name in names}

    def reset_state(self) -> None:
        """Forget the states that stateful layers keep; the next call starts from zeros."""
        for layer in self.layers:
            layer.reset_state()

    @property
    def engine_used(self) -> str | None:
        """The engine of the last call: "native" if every layer and direction ran natively."""
        used = {layer.engine_used for layer in self.layers}
        return used.pop() if len(used) == 1 else "reference"

    @property
    def weights(self) -> list[Any]:
        """The weights of both directions of each layer, read-only."""
        return [layer.weights for layer in self.layers]

    def get_weights(self) -> list[Array]:
        """Copies of the weights of each layer in turn, as `Bidirectional` orders them."""
        return [array for layer in self.layers for array in layer.get_weights()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the weights to copies of the given ones, in the order of `get_weights`. Raises: as `Bidirectional`."""
        counts, left = [len(layer.get_weights()) for layer in self.layers], check_arrays("weights", weights)
        if len(left) != sum(counts):
            raise ValueError(f"weights: expected {sum(counts)} arrays for {len(counts)} layers, got {len(left)}")
        checked = []
        for layer, count in zip(self.layers, counts, strict=True):
            checked.append(layer._checked_weights(left[:count]))
            left = left[count:]
        for layer, own in zip(self.layers, checked, strict=True):
            layer._take(own)

    def to_torch(self) -> dict[str, Array]:
        """The weights as the `state_dict` of a `torch.nn.LSTM`: arrays; see `RNN.to_torch`."""
        from glasscell._layers.torch_modules import state_dict_of

        return state_dict_of(self)

    def torch_cells(self) -> list[list[LSTMCell]]:
        """The cells as `torch.nn.LSTM` orders them; see `RNN.torch_cells`."""
        return [cells for layer in self.layers for cells in layer.torch_cells()]

    def _each(self, initial_state: Any, options: dict[str, Any]) -> list[tuple[Bidirectional, dict[str, Any]]]:
        """Pairs each layer with the arguments of its call."""
        own = {name: self._listed(name, options.get(name)) for name in MASKS}
        own["initial_state"] = self._listed("initial_state", initial_state)
        return [
            (layer, {**options, **{name: values[n] for name, values in own.items()}})
            for n, layer in enumerate(self.layers)
        ]

    def _listed(self, name: str, value: Any) -> list[Any]:
        """Checks an argument that is a list with one entry for each layer; None stands for a list of Nones."""
        if value is None:
            return [None] * len(self.layers)
        if not isinstance(value, (list, tuple)) or len(value) != len(self.layers):
            raise ValueError(
                f"{name}: expected a list of {len(self.layers)}, one for each layer, got {described(value)}"
            )
        return list(value)
