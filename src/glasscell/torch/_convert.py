"""Converts a NumPy layer to an `LSTM` module with the same cells and weights."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from glasscell._cells.arguments import described
from glasscell._cells.layouts import to_torch_module
from glasscell.torch._lstm import LSTM


def from_layer(layer: Any) -> LSTM:
    """Make a module from a NumPy layer, with its weights: batch first, in the layer's dtype, the bias in `bias_ih`.

    layer: a `glasscell.LSTM`, an `RNN` over a stack, a `Bidirectional`, or a result of `glasscell.LSTM.from_torch`.
    A `torch.nn.LSTM` with the same arguments loads the module's `state_dict()`. The cells' `recurrent_dropout` is
    kept. Their `dropout` acts on x, unlike PyTorch's between layers: it is not carried over, and a warning says so.

    Raises: TypeError for anything else; ValueError where no single module can hold the layer's cells.
    """
    if not hasattr(layer, "torch_cells"):
        raise TypeError(f"layer: expected a NumPy layer, such as glasscell.LSTM(64), got {described(layer)}")
    levels = layer.torch_cells()
    arrays = to_torch_module([[cell.weights for cell in level] for level in levels])
    cell, inputs = levels[0][0], arrays["weight_ih_l0"].shape[1]
    for dropout in {cell.dropout for level in levels for cell in level} - {0.0}:
        warnings.warn(f"layer: its dropout={dropout} stays behind: PyTorch's LSTM has none of x", stacklevel=2)
    module = LSTM(
        inputs, cell.units, len(levels), cell.use_bias, True, bidirectional=len(levels[0]) == 2,
        dtype=torch.from_numpy(arrays["weight_ih_l0"]).dtype, recurrent_dropout=cell.recurrent_dropout % 1,
        activation=cell.activation.name, recurrent_activation=cell.recurrent_activation.name,
    )  # fmt: skip
    module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return module
