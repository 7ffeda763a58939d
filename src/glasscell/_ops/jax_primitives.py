"""Defines the native calls as JAX primitives, with their lowerings; `jax_rules` has their derivatives and batching.

`forward_p` is a forward pass, `tangent_p` its derivative along tangents, `backward_p` the transpose of that derivative.
`forward_p` and `backward_p` are native calls; `tangent_p` runs the equations (`jax_equations`). `tangent_p` and
`backward_p` also take the residuals of the pass, which are functions of x, step_flags and inputs; only the native call
of `backward_p` reads them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import mlir, xla

from glasscell._ops import jax_compat as compat
from glasscell._ops import jax_equations as equations
from glasscell._ops.operands import gradient_shapes, operand_counts, outputs_of, residual_shapes

Array = Any
Codes = tuple[int, ...]

forward_p, tangent_p, backward_p = map(Primitive, ("glasscell_forward", "glasscell_tangent", "glasscell_backward"))


# --- the shapes of results


def forward_shapes(*operands: Any, option_codes: Codes, sequences: bool, tape: bool, batch: int) -> list[Any]:
    """Computes the shapes of `forward_p`'s results without their leading axes."""
    x, _, *inputs = _cores(operands, batch)
    return residual_shapes(x, inputs, option_codes, sequences, tape)


def _tangent_shapes(*operands: Any, option_codes: Codes, sequences: bool, wanted: Any, batch: int) -> list[Any]:
    x, _, *inputs = _cores(operands[: operand_counts(option_codes)[0]], batch)
    shapes = residual_shapes(x, inputs, option_codes, sequences, False)
    return [shape for own in outputs_of(shapes) for shape in own]


def _backward_shapes(*operands: Any, option_codes: Codes, dx: bool, batch: int) -> list[Any]:
    x, _, *inputs = _cores(operands[: operand_counts(option_codes)[0]], batch)
    return gradient_shapes(x, inputs, dx)


def _cores(operands: Sequence[Any], batch: int) -> list[Any]:
    """Returns the shapes and dtypes of the operands without their leading axes."""
    return [jax.ShapeDtypeStruct(t.shape[batch:], t.dtype) for t in operands]


def _abstract(shapes: Callable[..., list[Any]], *operands: Any, **parameters: Any) -> list[Any]:
    """Returns the abstract values of a primitive's results. Raises: NotImplementedError inside a checked shard_map."""
    if any(map(compat.varies, operands)):
        raise NotImplementedError(
            "jax.shard_map: the native engine does not say over which axes of the mesh its results vary, and gradients "
            "would be wrong: pass check_vma=False"
        )
    return result_avals(shapes, *operands, **parameters)


def result_avals(shapes: Callable[..., list[Any]], *operands: Any, batch: int, **parameters: Any) -> list[Any]:
    """Returns the abstract values of a primitive's results, leading axes included."""
    lead = jnp.broadcast_shapes(*(t.shape[:batch] for t in operands))
    found = shapes(*operands, batch=batch, **parameters)
    return [jax.core.ShapedArray((*lead, *shape), operands[0].dtype) for shape in found]


# --- the native calls


def _native(
    name: str, shapes: Callable[..., list[Any]], *operands: Array, option_codes: Codes, **parameters: Any
) -> Any:
    """Calls the native engine's handler of this name."""
    x, step_flags, *rest = operands
    found = result_avals(shapes, *operands, option_codes=option_codes, **parameters)
    call = jax.ffi.ffi_call(f"glasscell_{name}_{x.dtype.name}", found)
    return call(step_flags, x, *rest, option_codes=np.asarray(option_codes, np.int64))


def _define(primitive: Primitive, shapes: Callable[..., list[Any]], equation: Callable[..., Any], native: bool) -> None:
    """Gives a primitive its shapes and its lowerings: the native call on CPUs if there is one, else the equations."""
    primitive.multiple_results = True
    primitive.def_impl(functools.partial(xla.apply_primitive, primitive))
    primitive.def_abstract_eval(functools.partial(_abstract, shapes))
    by_equations = mlir.lower_fun(equation)
    mlir.register_lowering(primitive, by_equations)
    if native:
        by_call = mlir.lower_fun(functools.partial(_native, primitive.name.removeprefix("glasscell_"), shapes))

        def lower(context: Any, *operands: Any, **parameters: Any) -> Any:
            lowered = by_equations if compat.is_exported(context) else by_call  # a saved program needs no glasscell
            return lowered(context, *operands, **parameters)

        mlir.register_lowering(primitive, lower, platform="cpu")


_define(forward_p, forward_shapes, equations.forward, native=True)
_define(tangent_p, _tangent_shapes, equations.tangent, native=False)
_define(backward_p, _backward_shapes, equations.backward, native=True)
