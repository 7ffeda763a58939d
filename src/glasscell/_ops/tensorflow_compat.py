"""Private parts of TensorFlow that its operation relies on; tests/keras/test_keras_compat.py notices when one moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def register_py_function(name: str, function: Callable[..., Any]) -> None:
    """Registers a function that `PyFunc` operations can call by name; `tf.numpy_function` takes no name.

    TensorFlow holds only a weak reference to the function.
    """
    from tensorflow.python.ops import script_ops

    script_ops._py_funcs._funcs[name] = function


def capture(make: Callable[[], Any]) -> None:
    """Makes the graph that is being traced capture a tensor from outside that no operation reads.

    The public way is an operation that reads the tensor, and TensorFlow removes operations whose result is not used.
    """
    if not tf.executing_eagerly() and isinstance(graph := tf.compat.v1.get_default_graph(), tf.__internal__.FuncGraph):
        graph.capture(make())


def compiled_by_xla() -> bool:
    """Tells whether XLA will compile the graph that is being traced; there is no public way to ask."""
    from tensorflow.python.ops import control_flow_util

    graph = tf.compat.v1.get_default_graph()
    return not tf.executing_eagerly() and bool(control_flow_util.GraphOrParentsInXlaContext(graph))
