"""Defines `accelerate` and `restore`, which turn the LSTMs of a finished model into glasscell's and back, in place.

glasscell's layers are subclasses of Keras's that add no weight and no state. So a layer only changes its class and
stays the same object, with its weights, name, place in the model, trainability and optimizer state.
"""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import keras

from glasscell.keras._bidirectional import Bidirectional
from glasscell.keras._compat import layers_in
from glasscell.keras._eligibility import cells_of, native_cells, why_not_here
from glasscell.keras._layers import LSTM, RNN, LSTMCell, NativeLoop, StackedRNNCells
from glasscell.keras._refusals import check_model

KINDS: tuple[type, ...] = (LSTM, RNN, LSTMCell, StackedRNNCells, Bidirectional)
OURS = {getattr(keras.layers, kind.__name__): kind for kind in KINDS}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}

_switched_off: weakref.WeakSet[Any] = weakref.WeakSet()  # models whose jit_compile `accelerate` switched off


def accelerate(model: Any) -> Any:
    """Make the native engine run every LSTM in a model that it can run, in place. Returns the model.

    model: a built model or layer: Sequential, functional, subclassed or nested. `LSTM`, `RNN` over `LSTMCell` or over a
    stack of them, and `Bidirectional` of these are replaced wherever Keras finds them: in nested models and layers,
    wrappers, attributes, lists and dicts. A compiled model stays compiled, with its optimizer as it is.

    One UserWarning lists the layers that are left as they were, each with the reason. Another one names a setting that
    keeps the replaced layers from running natively: a GPU, a backend, or `jit_compile=True` on TensorFlow, which is
    switched off. `restore` is the inverse.
    Raises: TypeError for anything but a Keras layer or model.
    """
    found = [layer for layer in _parts(model) if _is_recurrent(layer)]
    left = {layer: reason for layer in found if (reason := _why_left(layer)) is not None}
    left |= dict.fromkeys(_lone_cells(model, found), "a cell on its own, which runs step by step: put it in RNN")
    for layer in found:
        if layer not in left:
            for part in [layer, layer.cell, *cells_of(layer.cell)]:
                _become(part, OURS)
    for layer in _parts(model):
        inside = getattr(layer, "forward_layer", None), getattr(layer, "backward_layer", None)
        if all(isinstance(part, NativeLoop) for part in inside):
            _become(layer, OURS)
    for text in (_say_left(model, found, left), _say_backend(found, left), _say_compiled(_forget_compiled(model))):
        if text is not None:
            warnings.warn(f"accelerate: {text}", stacklevel=2)
    return model


def restore(model: Any) -> Any:
    """Turn every glasscell layer in a model back into Keras's, in place, and return the model: undoes `accelerate`.

    Raises: TypeError for anything but a Keras layer or model.
    """
    for layer in _parts(model):
        _become(layer, THEIRS)
    _forget_compiled(model)
    return model


def _parts(model: Any) -> list[Any]:
    """Lists the model and all layers in it, cells included."""
    check_model(model)
    return layers_in(model)


def _is_recurrent(layer: Any) -> bool:
    """Tells whether `accelerate` replaces the layer, or lists it with a reason."""
    if not isinstance(layer, keras.layers.RNN):
        return False
    kinds = (keras.layers.RNN, RNN)
    return type(layer) in kinds or isinstance(layer, keras.layers.LSTM) or any(map(_is_cell, _cells_in(layer)))


def _is_cell(cell: Any) -> bool:
    return isinstance(cell, keras.layers.LSTMCell)


def _cells_in(layer: Any) -> list[Any]:
    """Lists the cell of a layer, and those in it if it is a stack of any kind."""
    return [layer.cell, *getattr(layer.cell, "cells", ())]


def _lone_cells(model: Any, found: list[Any]) -> list[Any]:
    """Lists the cells in the model that no recurrent layer runs."""
    held = {id(cell) for layer in found for cell in _cells_in(layer)}
    return [part for part in _parts(model) if _is_cell(part) and id(part) not in held]


def _why_left(layer: Any) -> str | None:
    """Finds the reason why `accelerate` leaves a layer as it is; None if it replaces the layer."""
    cells = cells_of(layer.cell)
    for part in [layer, layer.cell, *cells]:
        if type(part) not in OURS and type(part) not in THEIRS and isinstance(part, tuple(OURS)):
            ours = next(kind for kind in OURS if isinstance(part, kind)).__name__
            return f"{type(part).__name__} is a subclass, and may differ: derive it from glasscell.keras.{ours}"
    if getattr(layer, "engine", "auto") == "framework":
        return "its engine is 'framework'"
    native = native_cells(layer, cells)
    return native if isinstance(native, str) else None


def _say_left(model: Any, found: list[Any], left: dict[Any, str]) -> str | None:
    """Words the warning that lists the layers left as they were, or says that there is no LSTM."""
    if left:
        reasons = "; ".join(f"{layer.name!r} ({reason})" for layer, reason in left.items())
        return f"left as Keras's own: {reasons}"
    if found:
        return None
    built = "" if model.built else "; it is not built yet, and may make its layers when it is"
    return f"{model.name!r} has no LSTM in it, so nothing changed{built}"


def _say_backend(found: list[Any], left: dict[Any, str]) -> str | None:
    """Words the warning for replaced layers that run in Keras's own loop in this process; None if they do not."""
    reason = why_not_here() if len(found) > len(left) else None
    return None if reason is None else f"what was replaced runs in Keras's own loop here: {reason}"


def _say_compiled(switched: list[Any]) -> str | None:
    """Words the warning that names the models whose jit_compile was switched off."""
    names = ", ".join(repr(model.name) for model in switched)
    what = f"jit_compile=True of {names} is switched off, for XLA takes no native call on TensorFlow"
    return f"{what}; restore(model) switches it on again" if switched else None


def _become(layer: Any, classes: dict[type, type]) -> None:
    """Changes the class of a layer to the one that `classes` names for it, if any."""
    layer.__class__ = classes.get(type(layer), type(layer))


def _forget_compiled(model: Any) -> list[Any]:
    """Drops the step functions of all models inside, which were traced with other layers; Keras makes them again.

    Returns the models whose jit_compile this switched off, because a layer does not support it.
    """
    switched = []
    for part in _parts(model):
        if isinstance(part, keras.Model):
            part.train_function = part.test_function = part.predict_function = None
            if part.compiled and (part.jit_compile or part in _switched_off):
                part.jit_compile = False  # on TensorFlow, setting the present value again has no effect
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message=".*doesn't support `jit_compile=True`")
                    part.jit_compile = True  # makes Keras ask the layers again whether they support it
                if part.jit_compile:
                    _switched_off.discard(part)
                else:
                    _switched_off.add(part)
                    switched.append(part)
    return switched
