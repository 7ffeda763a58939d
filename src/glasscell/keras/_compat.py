"""Private parts of Keras and PyTorch that the layers rely on; tests/keras/test_keras_compat.py notices when one moves.

Those of TensorFlow and JAX are in `_ops/tensorflow_compat.py` and `_ops/jax_compat.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import keras

# The functions in which Keras makes graphs that are never saved: its trainer's step, and the inference of shapes.
NEVER_SAVED = {
    ("keras.src.backend.tensorflow.trainer", "one_step_on_data"),
    ("keras.src.backend.tensorflow.core", "compute_output_spec"),
}
FUNCTIONS = "tensorflow.python.eager.polymorphic_function."  # the package of `tf.function`
EXPORT = "keras.src.export."  # the package of `model.export`


def layers_in(model: Any) -> list[Any]:
    """Lists the model and all layers in it, cells included. Keras's public list has one level and no cells."""
    return list(model._flatten_layers())


def is_hooked(layer: Any) -> bool:
    """Tells whether PyTorch calls a hook before or after this layer. PyTorch has no public way to ask."""
    if keras.backend.backend() != "torch":
        return False
    from torch.nn.modules import module

    from glasscell._ops import torch_compat

    return torch_compat.is_hooked(layer) or bool(module._has_any_global_hook())


def in_export() -> bool:
    """Tells whether `model.export` is calling, by the names of the callers: Keras has no other sign of it."""
    return any(module.startswith(EXPORT) for module, _ in _callers())


def may_be_saved() -> bool:
    """Tells whether TensorFlow is making a graph that may be saved; in eager mode it makes none.

    The names of the callers, up to the next `tf.function`, tell the graphs that Keras never saves: Keras has no other
    sign of them. All other graphs may be saved.
    """
    import tensorflow as tf

    if tf.executing_eagerly():
        return False
    for module, function in _callers():
        if (module, function) in NEVER_SAVED:
            return False
        if module.startswith(FUNCTIONS):
            return True
    return True


def _callers() -> Iterator[tuple[str, str]]:
    """Yields the module and the name of each function on the stack, innermost first."""
    frame = sys._getframe(1)
    while (caller := frame.f_back) is not None:
        frame = caller
        yield frame.f_globals.get("__name__", ""), frame.f_code.co_name
