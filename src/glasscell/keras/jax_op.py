"""The native engine as a JAX operation with gradients: one XLA custom call forward, one backward."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glasscell._native import jax_handlers, needs_raw_gates
from glasscell.cell import Options
from glasscell.sequence import Direction

Array = Any

HANDLERS = jax_handlers()
for name, capsule in HANDLERS.items():
    jax.ffi.register_ffi_target(name, capsule, platform="cpu")


def why_not_available(x: Array) -> str | None:
    """The reason why this process cannot run the operation; None if it can."""
    if not HANDLERS:
        return "this build of glasscell has no call from JAX (jaxlib's headers were missing); build it anew"
    if jax.default_backend() != "cpu":
        return f"JAX runs on {jax.default_backend()}, and the native engine is for CPUs"
    return None


def run(x: Array, steps: Array | None, directions: Sequence[Direction], sequences: bool, training: bool) -> list[Any]:
    return [_run(d.options, sequences, x, *d[1:6], steps, *d[6:]) for d in directions]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(
    options: Options,
    sequences: bool,
    x: Array,
    kernel: Array,
    recurrent_kernel: Array,
    bias: Array | None,
    h0: Array,
    c0: Array,
    steps: Array | None,
    input_mask: Array | None,
    recurrent_mask: Array | None,
) -> tuple[Array | None, Array, Array]:
    """A whole pass; arguments as `glasscell.sequence.Call` names them, all of x's dtype (float32 or float64).

    Returns `h: (B, T, H)` in processing order, or None unless `sequences`, and the final h and c, each (B, H).
    Differentiable in x, the weights and the initial state; the masks count as constants.
    """
    arguments = (x, kernel, recurrent_kernel, bias, h0, c0, steps, input_mask, recurrent_mask)
    h, _, _, _, hT, cT = _forward(options, arguments, sequences=sequences, tape=False)
    return (h if sequences else None), hT, cT


def _run_forward(options: Options, sequences: bool, *arguments: Array) -> tuple[Any, Any]:
    h, c, gates, z, hT, cT = _forward(options, arguments, sequences=True, tape=True)
    return ((h if sequences else None), hT, cT), (arguments, h, c, gates, z)


def _run_backward(options: Options, sequences: bool, saved: Any, cotangents: Any) -> tuple[Array | None, ...]:
    (x, kernel, recurrent_kernel, bias, h0, c0, *masks), h, c, gates, z = saved
    dh_all, dhT, dcT = cotangents
    steps, input_mask, recurrent_mask = masks
    shapes = [x, kernel, recurrent_kernel, bias, h0, c0]
    gradients: list[Array | None] = jax.ffi.ffi_call(
        f"glasscell_backward_{x.dtype.name}",
        [jax.ShapeDtypeStruct((0,) if like is None else like.shape, x.dtype) for like in shapes],
        vmap_method="sequential",
    )(
        x, kernel, recurrent_kernel, h0, c0, _given(steps, np.uint8), _given(input_mask, x.dtype),
        _given(recurrent_mask, x.dtype), h, c, gates, z, _given(dh_all, x.dtype), dhT, dcT, **_attributes(options),
    )  # fmt: skip
    if bias is None:
        gradients[3] = None
    return *gradients, None, None, None


_run.defvjp(_run_forward, _run_backward)


def _forward(options: Options, arguments: tuple[Array, ...], sequences: bool, tape: bool) -> list[Array]:
    """h, c, gates, z and the final h, c; what is not asked for comes empty."""
    x, kernel, recurrent_kernel, bias, h0, c0, steps, input_mask, recurrent_mask = arguments
    (B, T, _), H = x.shape, recurrent_kernel.shape[0]
    codes = options.codes()
    raw = tape and needs_raw_gates(codes["activation"], codes["recurrent_activation"])
    wanted = [(sequences, (B, T, H)), (tape, (B, T, H)), (tape, (B, T, 4, H)), (raw, (B, T, 4, H))]
    shapes = [shape if yes else (0,) for yes, shape in wanted] + [(B, H), (B, H)]
    results: list[Array] = jax.ffi.ffi_call(
        f"glasscell_forward_{x.dtype.name}",
        [jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes],
        vmap_method="sequential",
    )(
        x, kernel, recurrent_kernel, _given(bias, x.dtype), h0, c0, _given(steps, np.uint8),
        _given(input_mask, x.dtype), _given(recurrent_mask, x.dtype), **_attributes(options),
    )  # fmt: skip
    return results


def _given(array: Array | None, dtype: Any) -> Array:
    """The array, or the empty one that stands for None in the custom call."""
    return jnp.zeros((0,), dtype) if array is None else array


def _attributes(options: Options) -> dict[str, np.int64]:
    codes = options.codes()
    return {name: np.int64(codes[name]) for name in codes}  # type: ignore[literal-required]
