"""Traces a Keras layer on its own input, on any backend: the NumPy engine runs its weights and options."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from glasscell._cells.activations import Activation
from glasscell._cells.layouts import LSTMWeights
from glasscell._cells.lstm import Options
from glasscell._ops.call import Call, SequenceOptions
from glasscell._ops.numpy import run
from glasscell._trace import Trace, Traces
from glasscell.keras._eligibility import built_in, cells_of, is_lstm
from glasscell.keras._refusals import describe, read_numbers

Array = npt.NDArray[Any]


def trace_layer(layer: Any, x: Any, initial_state: Any = None, mask: Any = None) -> Trace | Traces:
    """Traces a built layer on its own input; arguments and results are those of `trace`.

    Raises: ValueError for a layer that is not built and for a wrong shape, TypeError for a layer or cell of another
    kind; the errors name it and the expected kind.
    """
    if isinstance(layer, keras.layers.Bidirectional):
        forward, backward = _split_state(initial_state)
        both = trace_layer(layer.forward_layer, x, forward, mask), trace_layer(layer.backward_layer, x, backward, mask)
        return Traces(both, ["forward", "backward"])
    cells = lstm_cells(layer)
    if not layer.built:
        raise ValueError(
            f"layer: expected a built layer, got {layer.name!r} without weights; call it or build it first"
        )
    x, width = read_numbers("x", x), cells[0].kernel.shape[0]
    if x.ndim != 3 or x.shape[2] != width:
        raise ValueError(f"x: expected shape (B, T, I) = (B, T, {width}), got {x.shape}")
    mask = None if mask is None else read_numbers("mask", mask).astype(bool)
    stacked, states = layer.cell is not cells[0], _states(layer, initial_state, x.shape[0])
    traces: list[Trace] = []
    go_backwards = layer.go_backwards
    for cell, state in zip(cells, states if stacked else [states], strict=True):
        traces.append(_trace_cell(cell, x, state, mask, go_backwards))
        x, mask, go_backwards = traces[-1].h, traces[-1].mask, False  # from here on in processing order
    return Traces(traces, [f"cell {n}" for n in range(len(traces))]) if stacked else traces[0]


def lstm_cells(layer: Any) -> list[Any]:
    """Lists the cells that a layer runs at each step, first to last.

    Raises: TypeError for a layer that is no RNN, and for a cell with other equations than `LSTMCell`.
    """
    if not isinstance(layer, keras.layers.RNN):
        raise TypeError(f"layer: expected an LSTM, RNN or Bidirectional layer, got {describe(layer)}")
    cells = cells_of(layer.cell)
    for cell in cells:
        if not is_lstm(cell):
            raise TypeError(
                f"layer: expected every cell of {layer.name!r} to be an LSTMCell with its own equations, "
                f"got {type(cell).__name__} {getattr(cell, 'name', '')!r}"
            )
    return cells


def _trace_cell(cell: Any, x: Array, state: Any, mask: Array | None, go_backwards: bool) -> Trace:
    """Runs one cell over time on the NumPy engine."""
    dtype = np.dtype("float64" if keras.backend.standardize_dtype(cell.kernel.dtype) == "float64" else "float32")

    def array(value: Any) -> Array:
        return np.asarray(ops.convert_to_numpy(value), dtype)

    bias = None if cell.bias is None else array(cell.bias)
    weights = LSTMWeights(array(cell.kernel), array(cell.recurrent_kernel), bias).checked()
    activation, recurrent_activation = _numpy_activation(cell.activation), _numpy_activation(cell.recurrent_activation)
    options = Options(activation, recurrent_activation, go_backwards)
    initial = keras.tree.map_structure(array, state)
    call = Call.checked(weights, options, np.asarray(x, dtype), initial, SequenceOptions(mask))
    return Trace.of(call, run(call, "trace").record)


def _states(layer: Any, initial_state: Any, batch: int) -> Any:
    """Finds the initial state of a call, as Keras's `RNN.call` does."""
    if initial_state is not None:
        cells = getattr(layer.cell, "cells", None)
        if cells is not None and (not isinstance(initial_state, (list, tuple)) or len(initial_state) != len(cells)):
            expected = f"a list of {len(cells)} pairs (h, c), one for each cell"
            raise ValueError(f"initial_state: expected {expected}, got {_describe(initial_state)}")
        if not isinstance(initial_state, (list, tuple)):
            raise ValueError(f"initial_state: expected a pair (h, c), got {describe(initial_state)}")
        return initial_state
    if not layer.stateful:
        return layer.get_initial_state(batch)
    held = keras.tree.flatten(layer.states)[0].shape[0]
    if held != batch:
        raise ValueError(f"x: expected the batch size of the stateful layer {layer.name!r}, {held}, got {batch}")
    return layer.states


def _split_state(initial_state: Any) -> tuple[Any, Any]:
    """Splits a Bidirectional's initial state into those of the forward and the backward layer."""
    if initial_state is None:
        return None, None
    if not isinstance(initial_state, (list, tuple)) or len(initial_state) % 2:
        raise ValueError(
            "initial_state: expected a list, the forward layer's states and then as many of the backward layer, "
            f"got {_describe(initial_state)}"
        )
    half = len(initial_state) // 2
    return initial_state[:half], initial_state[half:]


def _describe(value: Any) -> str:
    """Describes an initial state for an error: the length of a list, or the type of anything else."""
    return f"{len(value)} of them" if isinstance(value, (list, tuple)) else type(value).__name__


def _numpy_activation(function: Any) -> Activation:
    """Converts a Keras activation for NumPy arrays: to a built-in one, or to a call of it on the backend's tensors."""

    def on_tensors(z: Array, xp: Any) -> Array:
        return np.asarray(ops.convert_to_numpy(function(ops.convert_to_tensor(z))), z.dtype)

    return built_in(function) or Activation(getattr(function, "__name__", type(function).__name__), on_tensors, None)
