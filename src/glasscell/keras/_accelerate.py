"""`accelerate` and `restore`: the LSTMs of a finished model become ours, and Keras's again, in place.

Our layers are subclasses of Keras's that add no weight and no state, so a layer changes its class and stays the same
object: its weights, name, place in the model, trainability and what an optimizer knows of it are untouched.
"""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import keras

from glasscell.keras._bidirectional import Bidirectional
from glasscell.keras._compat import layers_in
from glasscell.keras._eligibility import cells_of, is_lstm, native_cells
from glasscell.keras._layers import LSTM, RNN, LSTMCell, NativeLoop, StackedRNNCells

KINDS: tuple[type, ...] = (LSTM, RNN, LSTMCell, StackedRNNCells, Bidirectional)
OURS = {getattr(keras.layers, kind.__name__): kind for kind in KINDS}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}

_switched_off: weakref.WeakSet[Any] = weakref.WeakSet()  # models whose jit_compile `accelerate` switched off


def accelerate(model: Any) -> Any:
    """Gives the model back with every LSTM in it run by the native engine, wherever the engine can serve.

    model: a built model or layer: Sequential, functional, subclassed, nested. `LSTM`, `RNN` over `LSTMCell` or over a
    stack of them, and `Bidirectional` of these are replaced, in place, wherever Keras finds them: in models and layers
    inside, in wrappers, in attributes, lists and dicts. A compiled model stays compiled, with its optimizer as it is.

    What is left as it was is listed in one UserWarning, each layer with the reason. `restore` goes back.
    Raises: TypeError for anything but a Keras layer or model.
    """
    found = [layer for layer in _parts(model) if _is_recurrent(layer)]
    left = {layer: reason for layer in found if (reason := _why_left(layer)) is not None}
    for layer in found:
        if layer not in left:
            for part in [layer, layer.cell, *cells_of(layer.cell)]:
                _become(part, OURS)
    for layer in _parts(model):
        inside = getattr(layer, "forward_layer", None), getattr(layer, "backward_layer", None)
        if all(isinstance(part, NativeLoop) for part in inside):
            _become(layer, OURS)
    _forget_compiled(model)
    if left:
        reasons = "; ".join(f"{layer.name!r} ({reason})" for layer, reason in left.items())
        warnings.warn(f"accelerate: left as Keras's own: {reasons}", stacklevel=2)
    elif not found:
        warnings.warn(f"accelerate: {model.name!r} has no LSTM in it, so nothing changed", stacklevel=2)
    return model


def restore(model: Any) -> Any:
    """Gives the model back with every layer of ours in it made Keras's again, in place: the inverse of `accelerate`.

    Raises: TypeError for anything but a Keras layer or model.
    """
    for layer in _parts(model):
        _become(layer, THEIRS)
    _forget_compiled(model)
    return model


def _parts(model: Any) -> list[Any]:
    """Lists the model and all layers in it, cells included."""
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(f"model: expected a Keras model or layer, got {type(model).__name__}")
    return layers_in(model)


def _is_recurrent(layer: Any) -> bool:
    """Tells whether the layer is one that `accelerate` replaces, or lists with a reason."""
    if not isinstance(layer, keras.layers.RNN):
        return False
    return type(layer) in (keras.layers.RNN, RNN) or any(is_lstm(cell) for cell in cells_of(layer.cell))


def _why_left(layer: Any) -> str | None:
    """Finds the reason why a layer stays as it is; None if it is replaced."""
    cells = cells_of(layer.cell)
    for part in [layer, layer.cell, *cells]:
        if type(part) not in OURS and type(part) not in THEIRS and isinstance(part, tuple(OURS)):
            return f"{type(part).__name__} is a subclass, and may differ"
    native = native_cells(layer, cells)
    return native if isinstance(native, str) else None


def _become(layer: Any, classes: dict[type, type]) -> None:
    """Changes the class of a layer to the one that `classes` names for it, if any."""
    layer.__class__ = classes.get(type(layer), type(layer))


def _forget_compiled(model: Any) -> None:
    """Lets the models inside make their step functions anew: those they have were traced with other layers."""
    for part in _parts(model):
        if isinstance(part, keras.Model):
            part.train_function = part.test_function = part.predict_function = None
            if part.compiled and (part.jit_compile or part in _switched_off):
                part.jit_compile = False  # on TensorFlow, Keras's models take no notice of a value they have already
                part.jit_compile = True  # asks the layers once more whether they can; if not, Keras warns
                (_switched_off.discard if part.jit_compile else _switched_off.add)(part)
