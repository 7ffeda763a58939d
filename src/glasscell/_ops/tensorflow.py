"""Runs the native engine as a TensorFlow operation with gradients: one Python call forward, one backward."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from glasscell._ops import operands as engine
from glasscell._ops import tensorflow_compat as compat
from glasscell._ops.operands import (
    OUTPUTS,
    Operands,
    each,
    flatten,
    gradient_shapes,
    input_gradients,
    outputs_of,
    residual_shapes,
)

Tensor = Any
Pass = tuple[Tensor | None, Tensor, Tensor]
ADVICE = "to save this graph, trace it with engine='framework' or 'auto'"


def why_not_available(x: Tensor) -> str | None:
    """Finds the reason why the operation cannot run on this input; None if it can."""
    if tf.config.list_logical_devices("GPU"):
        return "TensorFlow sees a GPU, and the native engine is for CPUs"
    if isinstance(x, (tf.RaggedTensor, tf.SparseTensor)):
        return f"x is a {type(x).__name__}, and the native engine takes dense tensors"
    if compat.compiled_by_xla():
        return "the function is compiled by XLA (jit_compile=True), which takes no call into this process"
    return None


def run(
    x: Tensor, step_flags: Tensor | None, directions: Sequence[Operands], sequences: bool, training: bool
) -> list[Pass]:
    """Runs each direction over `x: (B, T, I)`, all of one dtype, float32 or float64.

    step_flags: as `Call.step_flags`.

    Returns for each direction `h: (B, T, H)` in processing order, or None unless `sequences`, and the final h and c,
    (B, H). It can be differentiated once, in x, the weights and the initial states. With `training` the tape is kept
    for the gradient; without it, a gradient runs the forward pass again.
    """
    compat.capture(_not_to_be_saved)
    x, placeholder = tf.convert_to_tensor(x), tf.constant([], x.dtype)  # x may be a variable
    given, option_codes = flatten(directions, placeholder)
    step_flags = tf.constant([], tf.uint8) if step_flags is None else step_flags
    outputs = OUTPUTS if sequences else 2  # the outputs of a direction: all, or hT and cT

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def whole(x: Tensor, *inputs: Tensor) -> tuple[list[Tensor], Callable[..., list[Tensor | None]]]:
        residuals = _forward(x, step_flags, inputs, option_codes, sequences, training)

        def gradient(*cotangents: Tensor) -> list[Tensor | None]:
            tape = residuals if training else _forward(x, step_flags, inputs, option_codes, sequences, True)
            rest = [placeholder] * (OUTPUTS - outputs)
            padded = [t for own in each(cotangents, outputs) for t in (*own, *rest)]
            dx, *found = _backward(x, step_flags, inputs, option_codes, tape, padded)
            return [dx, *input_gradients(found)]

        return [t for own in outputs_of(residuals) for t in own[:outputs]], gradient

    flat = whole(x, *map(tf.convert_to_tensor, given))
    return [(h[0] if h else None, hT, cT) for hT, cT, *h in each(flat, outputs)]


def _forward(
    x: Tensor, step_flags: Tensor, inputs: Sequence[Tensor], option_codes: list[int], sequences: bool, tape: bool
) -> list[Tensor]:
    """Runs `operands.forward` on tensors."""
    shapes = residual_shapes(x, inputs, option_codes, sequences, tape)
    return _call(forward, [sequences, tape, *option_codes], [x, step_flags, *inputs], shapes)


def _backward(
    x: Tensor, step_flags: Tensor, inputs: Sequence[Tensor], option_codes: list[int],
    residuals: list[Tensor], cotangents: list[Tensor],
) -> list[Tensor]:  # fmt: skip
    """Runs `operands.backward` on tensors; raises an error if it is differentiated."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def once(*tensors: Tensor) -> tuple[list[Tensor], Callable[..., Any]]:
        numbers = [len(inputs), len(residuals), *option_codes]
        return _call(backward, numbers, tensors, gradient_shapes(x, inputs, dx=True)), _refuse

    results: list[Tensor] = once(x, step_flags, *inputs, *residuals, *cotangents)
    return results


def _refuse(*_: Tensor) -> Any:
    raise NotImplementedError(
        "the native engine has first derivatives only, by tapes; second ones and forward mode need engine='framework'"
    )


def forward(numbers: Any, x: Any, step_flags: Any, *inputs: Any) -> list[Any]:
    """Runs the forward pass on arrays. numbers: `sequences`, `tape` and the option codes."""
    sequences, tape, *option_codes = map(int, numbers)
    return engine.forward(x, step_flags, inputs, option_codes, bool(sequences), bool(tape))


def backward(numbers: Any, x: Any, step_flags: Any, *rest: Any) -> list[Any]:
    """Runs the backward pass on arrays. numbers: the counts of inputs and of residuals, and the option codes."""
    inputs, residuals, *option_codes = map(int, numbers)
    last = inputs + residuals
    return engine.backward(x, step_flags, rest[:inputs], option_codes, rest[inputs:last], rest[last:])


def _call(
    compute: Callable[..., list[Any]], numbers: Sequence[int], tensors: Sequence[Tensor], shapes: Sequence[Any]
) -> list[Tensor]:
    """Runs `compute` on the tensors as arrays, now or as part of the graph. shapes: those of the results."""
    if tf.executing_eagerly():
        return [tf.convert_to_tensor(a) for a in compute(numbers, *(np.asarray(memoryview(t)) for t in tensors))]
    given = [tf.constant(numbers, tf.int64), *tensors]
    dtypes = [tensors[0].dtype] * len(shapes)
    results: list[Tensor] = tf.raw_ops.PyFuncStateless(input=given, token=_token(compute), Tout=dtypes)
    for result, shape in zip(results, shapes, strict=True):
        result.set_shape(shape)
    return results


@functools.cache
def _token(compute: Callable[..., list[Any]]) -> str:
    """Makes the name by which a graph calls a function of this process; no other process can have the same name.

    TensorFlow's own names are numbers: a saved graph would call any function that has the number in another process.
    """
    token = f"{compute.__name__} of glasscell.keras in the process that traced this graph ({uuid.uuid4()}); {ADVICE}"
    compat.register_py_function(token, compute)
    return token


@functools.cache
def _not_to_be_saved() -> Tensor:
    """Makes a resource for graphs to capture, so that TensorFlow refuses to save them: no saved object tracks it."""
    with tf.init_scope():
        return tf.raw_ops.VarHandleOp(dtype=tf.int32, shape=[], shared_name=f"glasscell.keras: {ADVICE}")
