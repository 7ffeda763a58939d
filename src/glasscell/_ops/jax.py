"""Runs the native engine as a JAX operation, which `jax_primitives` and `jax_rules` define for JAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glasscell._native import jax_handlers
from glasscell._ops import jax_rules  # noqa: F401  registers the derivatives and batches of `forward_p`
from glasscell._ops.jax_primitives import forward_p
from glasscell._ops.operands import Operands, flatten, outputs_of

Array = Any
FEW_ROWS = 8

for name, capsule in jax_handlers().items():
    jax.ffi.register_ffi_target(name, capsule, platform="cpu")


def why_not_available(x: Array) -> str | None:
    """Finds the reason why the operation cannot run on this input; None if it can."""
    if jax.default_backend() != "cpu":
        return f"JAX runs on {jax.default_backend()}, and the native engine is for CPUs"
    return None


def is_traced(x: Array) -> bool:
    """Tells whether JAX is tracing with x: for `jit`, for derivatives, or for a program to be saved."""
    return isinstance(x, jax.core.Tracer)


def why_slower(x: Array) -> str | None:
    """Finds the reason why the framework is faster on this input; None where it is not.

    The native call first packs the weights, which a single step of few rows does not repay. Measured on two cores with
    I = H = 4 to 256 and fifty steps in `lax.scan`: a native step of 1 to 4 rows takes 1.2 to more than 3 times as long,
    one of 8 rows about as long. Several steps in one call take less time natively.
    """
    rows, time = x.shape[:2]
    few = all(isinstance(n, int) for n in (rows, time)) and time == 1 and rows < FEW_ROWS
    return f"a single step of fewer than {FEW_ROWS} rows is faster in the framework" if few else None


def run(
    x: Array, step_flags: Array | None, directions: Sequence[Operands], sequences: bool, training: bool
) -> list[tuple[Array | None, Array, Array]]:
    """Runs each direction over `x: (B, T, I)`, all of one dtype, float32 or float64.

    step_flags: as `Call.step_flags`.

    Returns for each direction `h: (B, T, H)` in processing order, or None unless `sequences`, and the final h and c,
    (B, H). It can be differentiated any number of times. `training` is ignored: JAX itself asks for the tape when it
    differentiates.
    """
    inputs, option_codes = flatten(directions, jnp.zeros(0, x.dtype))
    step_flags = jnp.zeros(0, np.uint8) if step_flags is None else step_flags
    residuals = forward_p.bind(
        x, step_flags, *inputs, option_codes=tuple(option_codes), sequences=sequences, tape=False, batch=0
    )
    return [(h if sequences else None, hT, cT) for hT, cT, h in outputs_of(residuals)]
