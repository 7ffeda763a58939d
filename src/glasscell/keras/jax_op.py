"""The native engine as a JAX operation with gradients: one XLA custom call forward, one backward."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from glasscell._native import jax_handlers
from glasscell.directions import KEPT, OUTPUTS, Direction, flatten, gradient_shapes, kept_shapes, own_gradients

Array = Any

HANDLERS = jax_handlers()
for name, capsule in HANDLERS.items():
    jax.ffi.register_ffi_target(name, capsule, platform="cpu")


def why_not_available(x: Array) -> str | None:
    """The reason why the operation cannot serve this input; None if it can."""
    if not HANDLERS:
        return "this build of glasscell has no call from JAX (jaxlib's headers were missing); build it anew"
    if jax.default_backend() != "cpu":
        return f"JAX runs on {jax.default_backend()}, and the native engine is for CPUs"
    return None


def run(
    x: Array, steps: Array | None, directions: Sequence[Direction], sequences: bool, training: bool
) -> list[tuple[Array | None, Array, Array]]:
    """A whole pass of each direction over `x: (B, T, I)`, float32 or float64 like all else; steps: as `Call.steps`.

    Returns for each `h: (B, T, H)` in processing order, or None unless `sequences`, and the final h and c, (B, H).
    Differentiable, once, in x, the weights and the initial states; the masks count as constants. `training` changes
    nothing: JAX tells whether it differentiates.
    """
    own, codes = flatten(directions, jnp.zeros((0,), x.dtype))
    steps = jnp.zeros((0,), np.uint8) if steps is None else steps
    outputs = _run(tuple(codes), sequences, x, steps, tuple(own))
    each = (outputs[k : k + OUTPUTS] for k in range(0, len(outputs), OUTPUTS))
    return [(h if sequences else None, hT, cT) for hT, cT, h in each]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(codes: tuple[int, ...], sequences: bool, x: Array, steps: Array, own: tuple[Array, ...]) -> list[Array]:
    return _outputs(_forward(codes, sequences, False, x, steps, own), sequences)


def _run_forward(codes: tuple[int, ...], sequences: bool, x: Any, steps: Any, own: tuple[Any, ...]) -> Any:
    values = x.value, steps.value, tuple(t.value for t in own)
    kept = _forward(codes, sequences, True, *values)
    # Data that comes from outside has no use for a gradient. What is saved may hold arrays alone: () stands for yes.
    return _outputs(kept, sequences), (*values, kept, () if x.perturbed else None)


def _run_backward(codes: tuple[int, ...], sequences: bool, saved: Any, cotangents: list[Any]) -> tuple[Any, ...]:
    x, steps, own, kept, dx_wanted = saved
    shapes = gradient_shapes(x, own, dx=dx_wanted is not None)
    absent = jnp.zeros((0,), x.dtype)
    given = [absent if isinstance(t, SymbolicZero) else t for t in cotangents]
    dx, *found = _call("backward", codes, x.dtype, shapes, steps, x, *own, *kept, *given)
    return None if dx_wanted is None else dx, None, tuple(own_gradients(found))


_run.defvjp(_run_forward, _run_backward, symbolic_zeros=True)


def _forward(codes: tuple[int, ...], sequences: bool, tape: bool, x: Array, steps: Array, own: Any) -> list[Array]:
    return _call("forward", codes, x.dtype, kept_shapes(x, own, codes, sequences, tape), steps, x, *own)


def _outputs(kept: list[Array], sequences: bool) -> list[Array]:
    absent = kept[0][:0, 0]
    each = (kept[k:][:OUTPUTS] for k in range(0, len(kept), len(KEPT)))
    return [t for hT, cT, h in each for t in (hT, cT, h if sequences else absent)]


def _call(name: str, codes: tuple[int, ...], dtype: Any, shapes: list[Any], *arrays: Array) -> list[Array]:
    call = jax.ffi.ffi_call(
        f"glasscell_{name}_{dtype.name}",
        [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes],
        vmap_method="sequential",
    )
    results: list[Array] = call(*arrays, codes=np.asarray(codes, np.int64))
    return results
