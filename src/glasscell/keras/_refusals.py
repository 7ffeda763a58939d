"""Checks the arguments of the Keras layers and functions, and words the errors for wrong ones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

ADVICE = {
    "path": "load it with keras.models.load_model first",
    "class": "make an instance of it",
    "torch": "PyTorch's modules are for glasscell.torch",
    "glasscell": "what glasscell has for NumPy needs no Keras, and is native as it is",
}
RECURRENT = ("go_backwards", "return_sequences", "return_state", "stateful")  # `Bidirectional` reads these


def describe(value: Any) -> str:
    """Describes a wrong value in a few words, for an error."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, keras.layers.Layer):
        return f"{type(value).__name__} {value.name!r}"
    name = type(value).__name__
    if value is None or isinstance(value, (bool, int, float, str)):
        return "None" if value is None else f"{name} {value!r}"
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{name} of shape {tuple(shape)} and dtype {getattr(value, 'dtype', None)}"
    library = type(value).__module__.partition(".")[0]
    return name if library in ("builtins", "__main__") else f"{name} of {library}"


def check_model(model: Any) -> None:
    """Refuses anything but a Keras model or layer."""
    if isinstance(model, keras.layers.Layer):
        return
    advice = f"; {ADVICE[kind]}" if (kind := _kind_of(model)) is not None else ""
    raise TypeError(f"model: expected a Keras model or layer, got {describe(model)}{advice}")


def _kind_of(value: Any) -> str | None:
    """Finds the key in `ADVICE` for a value that is no Keras model; None without advice."""
    if isinstance(value, type):
        return "class"
    if isinstance(value, (str, os.PathLike)):
        return "path"
    libraries = {base.__module__.partition(".")[0] for base in type(value).__mro__}
    return next((name for name in ("torch", "glasscell") if name in libraries), None)


def check_cell_options(units: Any, dropouts: Mapping[str, Any], activations: Mapping[str, Any]) -> None:
    """Refuses wrong arguments of a cell for which Keras's error would not name the argument."""
    if isinstance(units, bool) or not isinstance(units, (int, np.integer)):
        raise TypeError(f"units: expected a positive integer, got {describe(units)}")
    for name, rate in dropouts.items():
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.number)):
            raise TypeError(f"{name}: expected a number from 0 to 1, got {describe(rate)}")
    for name, function in activations.items():
        if isinstance(function, type):
            raise TypeError(f"{name}: expected a name or a function, got {describe(function)}; make an instance of it")


def check_cell(name: str, cell: Any) -> None:
    """Refuses a class, a whole layer or no cell at all, where a cell or a list of cells is expected."""
    if isinstance(cell, (list, tuple)) and not cell:
        raise ValueError(f"{name}: expected at least one cell, got an empty {type(cell).__name__}")
    for one in cell if isinstance(cell, (list, tuple)) else [cell]:
        if isinstance(one, type):
            raise TypeError(f"{name}: expected a cell, got {describe(one)}; make an instance of it, as LSTMCell(64)")
        if isinstance(one, (keras.layers.RNN, keras.layers.Bidirectional)):
            raise TypeError(f"{name}: expected a cell, got the layer {describe(one)}; give LSTMCell, or use the layer")


def check_recurrent(name: str, layer: Any) -> None:
    """Refuses a Keras layer that has no direction in time, where `Bidirectional` expects one."""
    if isinstance(layer, keras.layers.Layer) and not all(hasattr(layer, name) for name in RECURRENT):
        raise TypeError(f"{name}: expected a recurrent layer, as LSTM or RNN, got {describe(layer)}")


def check_state(state: Any, batch: int | None, units: int) -> None:
    """Refuses anything but a state of a cell: h and c, each (batch, units), as far as these sizes are known."""
    expected = f"initial_state: expected h and c, each of shape (B, H) = ({'B' if batch is None else batch}, {units})"
    if not isinstance(state, (list, tuple)) or len(state) != 2:
        came = f"{len(state)} states" if isinstance(state, (list, tuple)) else describe(state)
        raise ValueError(f"{expected}, got {came}")
    for s in state:
        if getattr(s.shape, "rank", 2) is None:  # TensorFlow does not know the rank
            continue
        shape = tuple(s.shape)
        if len(shape) != 2 or any(None not in (n, m) and n != m for n, m in zip(shape, (batch, units), strict=True)):
            raise ValueError(f"{expected}, got {shape}")


def read_numbers(name: str, value: Any) -> Any:
    """Reads an argument as a NumPy array.

    Raises: TypeError naming the argument, for a value that holds no numbers.
    """
    try:
        array = ops.convert_to_numpy(value)
    except (TypeError, ValueError, AttributeError, RuntimeError):
        array = np.empty((), object)
    if array.dtype.kind in "OSUMmV" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name}: expected an array or tensor of numbers, got {describe(value)}")
    return array
