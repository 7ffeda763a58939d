"""Converts a whole `torch.nn.LSTM` to a NumPy layer, and a layer to its arrays; PyTorch is not imported."""

from __future__ import annotations

import warnings
from typing import Any

from glasscell._cells.checks import Array
from glasscell._cells.layouts import LSTMWeights, to_torch_module, torch_module_weights
from glasscell._layers.bidirectional import Bidirectional
from glasscell._layers.chain import Chain
from glasscell._layers.lstm import LSTM
from glasscell._layers.lstm_cell import LSTMCell
from glasscell._layers.rnn import RNN
from glasscell._layers.stacked import StackedRNNCells


def layer_of(module: Any, return_sequences: bool, return_state: bool, stateful: bool) -> RNN | Bidirectional | Chain:
    """Makes the layer of a module; see `LSTM.from_torch`."""
    levels = torch_module_weights(module)
    if len(levels) > 1 and getattr(module, "dropout", False):
        warnings.warn(
            f"module: its dropout={module.dropout} between layers stays behind: this layer has none", stacklevel=3
        )
    options = _options_of(module)
    flags: dict[str, Any] = {"return_state": return_state, "stateful": stateful}
    if len(levels[0]) == 1:
        flags |= {"return_sequences": return_sequences, "zero_output_for_mask": return_sequences}
        cells = [_cell(weights, options) for (weights,) in levels]
        if len(cells) > 1:
            return RNN(StackedRNNCells(cells), **flags)
        layer = LSTM(cells[0].units, **flags)
        layer.cell = cells[0]
        return layer
    last = len(levels) - 1
    both = [
        _both(level, options, {**flags, "return_sequences": n < last or return_sequences})
        for n, level in enumerate(levels)
    ]
    return both[0] if len(both) == 1 else Chain(both)


def state_dict_of(layer: Any) -> dict[str, Array]:
    """Returns the weights of a layer under the names of a `torch.nn.LSTM`; see `RNN.to_torch`."""
    levels = layer.torch_cells()
    for name in ("activation", "recurrent_activation"):
        for cell in (cell for level in levels for cell in level):
            found, torchs = getattr(cell, name).name, {"activation": "tanh", "recurrent_activation": "sigmoid"}[name]
            if found != torchs:
                instead = "glasscell.torch.from_layer makes a module that has it"
                raise ValueError(f"{name}: expected {torchs!r}, as torch.nn.LSTM has, got {found!r}; {instead}")
    return to_torch_module([[cell.weights for cell in level] for level in levels])


def check_levels(levels: list[list[LSTMCell]]) -> list[list[LSTMCell]]:
    """Returns the cells as they are. Raises: ValueError where no single torch.nn.LSTM can hold them."""
    first = levels[0][0]
    for cell in (cell for level in levels for cell in level):
        for name in ("units", "use_bias", "dtype", "activation", "recurrent_activation", "recurrent_dropout"):
            wanted, got = getattr(first, name), getattr(cell, name)
            if wanted != got:
                raise ValueError(f"{name}: expected one for all cells, as torch.nn.LSTM has it, got {wanted} and {got}")
    return levels


def _options_of(module: Any) -> dict[str, Any]:
    """The options that `glasscell.torch.LSTM` adds to PyTorch's; in other modules such attributes mean other things."""
    if not any(kind.__module__.startswith("glasscell.torch") for kind in type(module).__mro__):
        return {}
    return {name: getattr(module, name) for name in ("activation", "recurrent_activation", "recurrent_dropout")}


def _cell(weights: LSTMWeights, options: dict[str, Any]) -> LSTMCell:
    cell = LSTMCell(len(weights.recurrent_kernel), use_bias=weights.bias is not None, **options)
    cell.set_weights(weights)
    return cell


def _both(level: list[LSTMWeights], options: dict[str, Any], flags: dict[str, Any]) -> Bidirectional:
    units, bias = len(level[0].recurrent_kernel), level[0].bias is not None
    layer = Bidirectional(LSTM(units, use_bias=bias, **options, **flags))
    layer.set_weights([array for weights in level for array in weights if array is not None])
    return layer
