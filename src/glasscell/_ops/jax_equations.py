"""Runs the equations of `_cells/lstm.py` in a JAX scan, for derivatives that the engine lacks, and for export.

Forward mode, derivatives of derivatives and exported programs run these functions. Each function takes the operands and
parameters of the primitive of its name. Operands have `batch` leading axes; an axis has size 1 where the operand does
not vary along it. In the results these axes have full size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from glasscell._cells.activations import Activation
from glasscell._cells.lstm import Options, raw_gates, step
from glasscell._ops.call import KEEP, RESET
from glasscell._ops.operands import (
    INPUTS,
    WEIGHTS,
    each,
    none_if_placeholder,
    operand_counts,
    outputs_of,
    residual_shapes,
    residuals_of,
    unflatten,
)

Array = Any
Codes = tuple[int, ...]


def forward(*operands: Array, option_codes: Codes, sequences: bool, tape: bool, batch: int) -> list[Array]:
    """Computes what `operands.forward` does. operands: x, step_flags, inputs."""

    def one(x: Array, step_flags: Array, *inputs: Array) -> list[Array]:
        residuals = [t for d in _directions(option_codes, inputs) for t in _loop(x, step_flags, *d)]
        shapes = residual_shapes(x, inputs, option_codes, sequences, tape)
        return [
            t if shape == t.shape else jnp.zeros(shape, x.dtype) for t, shape in zip(residuals, shapes, strict=True)
        ]

    return _over(batch, one)(*operands)


def tangent(
    *operands: Array, option_codes: Codes, sequences: bool, wanted: tuple[bool, ...], batch: int
) -> list[Array]:
    """Computes the tangents of `forward`'s `OUTPUTS`; that of h is a placeholder unless `sequences`.

    operands: x, step_flags, inputs, residuals; then the nonzero tangents among those of x and of each direction's
    `WEIGHTS`. `wanted` marks which ones are given; the others are zero.
    """

    def one(*operands: Array) -> list[Array]:
        rest = len(operands) - sum(wanted)
        outputs, moving = _outputs(option_codes, sequences, operands)
        tangents = iter(operands[rest:])
        along = [next(tangents) if moves else None for moves in wanted]
        found: list[Array] = derivative(outputs, moving, along)
        return found

    return _over(batch, one)(*operands)


def backward(*operands: Array, option_codes: Codes, dx: bool, batch: int) -> list[Array]:
    """Computes what `operands.backward` does. operands: x, step_flags, inputs, residuals, cotangents."""

    def one(*operands: Array) -> list[Array]:
        outputs, moving = _outputs(option_codes, True, operands)
        found, pull = jax.vjp(outputs, *moving)
        cotangents = operands[len(operands) - len(found) :]
        zeros = [
            jnp.zeros_like(t) if none_if_placeholder(ct) is None else ct
            for ct, t in zip(cotangents, found, strict=True)
        ]
        d_x, *rest = pull(zeros)
        return [d_x if dx else jnp.zeros(0, d_x.dtype), *rest]

    return _over(batch, one)(*operands)


def derivative(function: Callable[..., Any], primals: Sequence[Array], tangents: Sequence[Array | None]) -> Any:
    """Differentiates the function along the tangents. None is a zero tangent, for which nothing is computed."""
    at = [k for k, t in enumerate(tangents) if t is not None]

    def moved(*values: Array) -> Any:
        operands = list(primals)
        for k, value in zip(at, values, strict=True):
            operands[k] = value
        return function(*operands)

    return jax.jvp(moved, [primals[k] for k in at], [tangents[k] for k in at])[1]


def _outputs(
    option_codes: Codes, sequences: bool, operands: Sequence[Array]
) -> tuple[Callable[..., list[Array]], list[Array]]:
    """Returns a function from x and each direction's `WEIGHTS` to `forward`'s `OUTPUTS`, and its arguments here."""
    x, step_flags, *rest = operands[: operand_counts(option_codes)[0]]
    inputs = each(rest, len(INPUTS))
    masks = [own[len(WEIGHTS) :] for own in inputs]

    def outputs(x: Array, *weights: Array) -> list[Array]:
        own = [t for parts in zip(each(weights, len(WEIGHTS)), masks, strict=True) for part in parts for t in part]
        residuals = forward(x, step_flags, *own, option_codes=option_codes, sequences=sequences, tape=False, batch=0)
        return [t for own in outputs_of(residuals) for t in own]

    return outputs, [x, *(t for own in inputs for t in own[: len(WEIGHTS)])]


def _over(batch: int, function: Callable[..., list[Array]]) -> Callable[..., list[Array]]:
    """Maps the function over `batch` leading axes."""

    def over(*operands: Array) -> list[Array]:
        lead = jnp.broadcast_shapes(*(t.shape[:batch] for t in operands))
        mapped = function
        for _ in range(batch):
            mapped = jax.vmap(mapped)
        return mapped(*(jnp.broadcast_to(t, lead + t.shape[batch:]) for t in operands))

    return over if batch else function


def _directions(option_codes: Codes, inputs: Sequence[Array]) -> Iterator[tuple[Any, ...]]:
    """Yields the options and tensors of each direction; the options have Keras's functions as activations."""
    for options, *tensors, _ in unflatten(inputs, option_codes):
        a, s = map(_of_keras, (options.activation, options.recurrent_activation))
        yield replace(options, activation=a, recurrent_activation=s), *tensors


def _of_keras(activation: Activation) -> Activation:
    """Returns the activation with Keras's own function, so that all derivatives are the framework's, at kinks too."""
    function = keras.activations.get(activation.name)
    return Activation(activation.name, lambda x, xp: function(x), None)


def _loop(
    x: Array, step_flags: Array, options: Options, kernel: Array, recurrent_kernel: Array, bias: Array | None,
    h0: Array, c0: Array, dropout_mask: Array | None, recurrent_dropout_mask: Array | None,
) -> list[Array]:  # fmt: skip
    """Runs one direction over time and gives its `RESIDUALS`."""
    bias = jnp.zeros(kernel.shape[1], x.dtype) if bias is None else bias
    bits = jnp.full(x.shape[:2], KEEP, np.uint8) if none_if_placeholder(step_flags) is None else step_flags

    def one(state: tuple[Array, Array], now: tuple[Array, Array]) -> Any:
        x_t, bits_t = now
        used, reset = (bits_t & KEEP != 0)[:, None], (bits_t & RESET != 0)[:, None]
        h, c = (jnp.where(reset, 0, t) for t in state)
        seen = _masked(jnp.where(used, x_t, 0), dropout_mask)  # the input of an unused step is never read
        z = raw_gates(seen, _masked(h, recurrent_dropout_mask), kernel, recurrent_kernel, bias, jnp)
        gates, h_next, c_next = step(z, c, options, jnp)
        h, c = jnp.where(used, h_next, h), jnp.where(used, c_next, c)
        return (h, c), (h, c, jnp.stack(gates, 1), jnp.stack(z, 1))

    over_time = [jnp.swapaxes(t[:, ::-1] if options.go_backwards else t, 0, 1) for t in (x, bits)]
    (hT, cT), kept = jax.lax.scan(one, (h0, c0), tuple(over_time))
    h, c, gates, z = (jnp.swapaxes(t, 0, 1) for t in kept)
    return residuals_of(hT, cT, h, c, gates, z, cell_checkpoints=jnp.zeros(0, x.dtype))


def _masked(value: Array, mask: Array | None) -> list[Array]:
    """Multiplies the value with the dropout mask of each gate, and gives one array for each."""
    return [value] * 4 if mask is None else [value * m for m in jnp.broadcast_to(mask, (4, *mask.shape[1:]))]
