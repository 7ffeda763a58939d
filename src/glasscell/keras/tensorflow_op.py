"""The native engine as a TensorFlow operation with gradients: one call into this process forward, one backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from glasscell import directions as engine
from glasscell.directions import KEPT, OUTPUTS, Direction, flatten, gradient_shapes, kept_shapes, own_gradients

Tensor = Any
Pass = tuple[Tensor | None, Tensor, Tensor]


def why_not_available(x: Tensor) -> str | None:
    """The reason why the operation cannot serve this input; None if it can."""
    if tf.config.list_logical_devices("GPU"):
        return "TensorFlow sees a GPU, and the native engine is for CPUs"
    if not tf.executing_eagerly() and _compiles(tf.compat.v1.get_default_graph()):
        return "the function is compiled by XLA (jit_compile=True), which takes no call into this process"
    return None


def run(
    x: Tensor, steps: Tensor | None, directions: Sequence[Direction], sequences: bool, training: bool
) -> list[Pass]:
    """A whole pass of each direction over `x: (B, T, I)`, float32 or float64 like all else; steps: as `Call.steps`.

    Returns for each `h: (B, T, H)` in processing order, or None unless `sequences`, and the final h and c, (B, H).
    Differentiable, once, in x, the weights and the initial states. With `training` the tape is kept for the gradient;
    without, a gradient runs the pass again.
    """
    absent = tf.constant([], x.dtype)
    given, codes = flatten(directions, absent)
    steps = tf.constant([], tf.uint8) if steps is None else steps
    outputs = OUTPUTS if sequences else 2  # of a direction: all, or hT and cT

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def whole(x: Tensor, *own: Tensor) -> tuple[list[Tensor], Callable[..., list[Tensor | None]]]:
        kept = _forward(x, steps, own, codes, sequences, training)

        def gradient(*cotangents: Tensor) -> list[Tensor | None]:
            tape = kept if training else _forward(x, steps, own, codes, sequences, True)
            rest = [absent] * (OUTPUTS - outputs)
            padded = [t for k in range(0, len(cotangents), outputs) for t in (*cotangents[k:][:outputs], *rest)]
            dx, *found = _backward(x, steps, own, codes, tape, padded)
            return [dx, *own_gradients(found)]

        return [t for k in range(0, len(kept), len(KEPT)) for t in kept[k:][:outputs]], gradient

    flat = whole(x, *map(tf.convert_to_tensor, given))
    each = (flat[k:][:outputs] for k in range(0, len(flat), outputs))
    return [(h[0] if h else None, hT, cT) for hT, cT, *h in each]


def _forward(
    x: Tensor, steps: Tensor, own: Sequence[Tensor], codes: list[int], sequences: bool, tape: bool
) -> list[Tensor]:
    """`glasscell.directions.forward` on tensors."""

    def compute(x: Any, steps: Any, *own: Any) -> list[Any]:
        return engine.forward(x, steps, own, codes, sequences, tape)

    return _call(compute, [x, steps, *own], kept_shapes(x, own, codes, sequences, tape))


def _backward(
    x: Tensor, steps: Tensor, own: Sequence[Tensor], codes: list[int], kept: list[Tensor], cotangents: list[Tensor]
) -> list[Tensor]:
    """`glasscell.directions.backward` on tensors; refuses to be differentiated."""

    def compute(x: Any, steps: Any, *rest: Any) -> list[Any]:
        kept_at, last = len(own), len(own) + len(kept)
        return engine.backward(x, steps, rest[:kept_at], codes, rest[kept_at:last], rest[last:])

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def once(*tensors: Tensor) -> tuple[list[Tensor], Callable[..., Any]]:
        return _call(compute, tensors, gradient_shapes(x, own, dx=True)), _refuse

    results: list[Tensor] = once(x, steps, *own, *kept, *cotangents)
    return results


def _refuse(*_: Tensor) -> Any:
    raise NotImplementedError("the native engine has first derivatives only; second ones need engine='framework'")


def _call(compute: Callable[..., list[Any]], tensors: Sequence[Tensor], shapes: Sequence[Any]) -> list[Tensor]:
    """Run `compute` on the tensors as arrays, now or as part of the graph; `shapes`: of its results."""
    if tf.executing_eagerly():
        return [tf.convert_to_tensor(a) for a in compute(*(np.asarray(memoryview(t)) for t in tensors))]
    results: list[Tensor] = tf.numpy_function(compute, tensors, [tensors[0].dtype] * len(shapes), stateful=False)
    for result, shape in zip(results, shapes, strict=True):
        result.set_shape(shape)
    return results


def _compiles(graph: Any) -> bool:
    """Whether XLA will compile the graph that is being made."""
    from tensorflow.python.ops import control_flow_util  # there is no public way to ask

    return bool(control_flow_util.GraphOrParentsInXlaContext(graph))
