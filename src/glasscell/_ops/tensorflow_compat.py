"""Private parts of TensorFlow that its operation relies on; tests/keras/test_keras_compat.py notices when one moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def register_py_function(name: str, function: Callable[..., Any]) -> None:
    """Lets `PyFunc` operations call the function by this name; `tf.numpy_function` takes no name.

    TensorFlow holds the function weakly.
    """
    from tensorflow.python.ops import script_ops

    script_ops._py_funcs._funcs[name] = function


def capture(make: Callable[[], Any]) -> None:
    """Makes the graph of the function that is being traced depend on a tensor from outside, which no operation reads.

    Publicly a graph captures only what its operations read, and TensorFlow removes those that nothing needs.
    """
    if not tf.executing_eagerly() and isinstance(graph := tf.compat.v1.get_default_graph(), tf.__internal__.FuncGraph):
        graph.capture(make())


def compiled_by_xla() -> bool:
    """Tells whether XLA will compile the graph that is being made; there is no public way to ask."""
    from tensorflow.python.ops import control_flow_util

    graph = tf.compat.v1.get_default_graph()
    return not tf.executing_eagerly() and bool(control_flow_util.GraphOrParentsInXlaContext(graph))
