"""The native calls as JAX primitives: how each is lowered, differentiated and batched.

`forward_p` is a pass, `tangent_p` its derivative along tangents, `backward_p` the transpose of that. Forward and
backward are native calls; the derivative along tangents, and every derivative of `tangent_p` and `backward_p`, is that
of the equations (`jax_equations`). What a primitive takes as residuals of a pass follows from x, step_flags and inputs,
and only `backward_p`'s native call reads it: it counts as a constant.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir, xla

from glasscell._ops import jax_equations as equations
from glasscell._ops.operands import (
    OUTPUTS,
    RESIDUALS,
    batch_axes,
    each,
    gradient_positions,
    gradient_shapes,
    operand_counts,
    outputs_of,
    residual_shapes,
)

Array = Any
Codes = tuple[int, ...]

forward_p, tangent_p, backward_p = map(Primitive, ("glasscell_forward", "glasscell_tangent", "glasscell_backward"))


# --- the shapes of results


def _forward_shapes(*operands: Any, option_codes: Codes, sequences: bool, tape: bool, batch: int) -> list[Any]:
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
    """The shapes and dtypes of the operands without their leading axes."""
    return [jax.ShapeDtypeStruct(t.shape[batch:], t.dtype) for t in operands]


def _abstract(shapes: Callable[..., list[Any]], *operands: Any, **parameters: Any) -> list[Any]:
    if any(t.mat.varying for t in operands):  # there is no public way to give results theirs, or to ask
        raise NotImplementedError(
            "jax.shard_map: the native engine does not say over which axes of the mesh its results vary, and gradients "
            "would be wrong: pass check_vma=False"
        )
    return _results(shapes, *operands, **parameters)


def _results(shapes: Callable[..., list[Any]], *operands: Any, batch: int, **parameters: Any) -> list[Any]:
    lead = jnp.broadcast_shapes(*(t.shape[:batch] for t in operands))
    found = shapes(*operands, batch=batch, **parameters)
    return [jax.core.ShapedArray((*lead, *shape), operands[0].dtype) for shape in found]


# --- the native calls


def _native(
    name: str, shapes: Callable[..., list[Any]], *operands: Array, option_codes: Codes, **parameters: Any
) -> Any:
    x, step_flags, *rest = operands
    results = _results(shapes, *operands, option_codes=option_codes, **parameters)
    call = jax.ffi.ffi_call(f"glasscell_{name}_{x.dtype.name}", results)
    return call(step_flags, x, *rest, option_codes=np.asarray(option_codes, np.int64))


def _define(primitive: Primitive, shapes: Callable[..., list[Any]], equation: Callable[..., Any], native: bool) -> None:
    primitive.multiple_results = True
    primitive.def_impl(functools.partial(xla.apply_primitive, primitive))
    primitive.def_abstract_eval(functools.partial(_abstract, shapes))
    by_equations = mlir.lower_fun(equation)
    mlir.register_lowering(primitive, by_equations)
    if native:
        by_call = mlir.lower_fun(functools.partial(_native, primitive.name.removeprefix("glasscell_"), shapes))

        def lower(context: Any, *operands: Any, **parameters: Any) -> Any:
            # What is exported must run without glasscell.
            exported = context.module_context.lowering_parameters.for_export
            return (by_equations if exported else by_call)(context, *operands, **parameters)

        mlir.register_lowering(primitive, lower, platform="cpu")


_define(forward_p, _forward_shapes, equations.forward, native=True)
_define(tangent_p, _tangent_shapes, equations.tangent, native=False)
_define(backward_p, _backward_shapes, equations.backward, native=True)


# --- derivatives


def _forward_jvp(
    primals: Sequence[Array], tangents: Sequence[Any], *, option_codes: Codes, sequences: bool, tape: bool, batch: int
) -> tuple[list[Array], list[Any]]:
    at = gradient_positions(option_codes)
    parameters: dict[str, Any] = {"option_codes": option_codes, "sequences": sequences, "batch": batch}
    if any(t is not None for k, t in enumerate(_nonzero(tangents)) if k not in at):
        # Masks that depend on what is differentiated: for the native engine they are constants.
        function = functools.partial(equations.forward, tape=tape, **parameters)
        return _with_tangents(function(*primals), equations.derivative(function, primals, _nonzero(tangents)))
    residuals = forward_p.bind(*primals, tape=True, **parameters)
    given = _nonzero([tangents[k] for k in at])
    wanted = tuple(t is not None for t in given)
    found = tangent_p.bind(*primals, *residuals, *(t for t in given if t is not None), wanted=wanted, **parameters)
    shapes = _results(_forward_shapes, *primals, tape=tape, **parameters)
    outputs = [t if t.shape == s.shape else jnp.zeros(s.shape, s.dtype) for t, s in zip(residuals, shapes, strict=True)]
    none = [None] * (len(RESIDUALS) - OUTPUTS)
    return _with_tangents(outputs, [t for own in each(found, OUTPUTS) for t in (*own, *none)])


def _equations_jvp(primitive: Primitive, primals: Sequence[Array], tangents: Sequence[Any], **parameters: Any) -> Any:
    inputs, residuals = operand_counts(parameters["option_codes"])
    given = [None if inputs <= k < residuals else t for k, t in enumerate(_nonzero(tangents))]
    function: Any = functools.partial(_EQUATIONS[primitive], **parameters)
    return _with_tangents(primitive.bind(*primals, **parameters), equations.derivative(function, primals, given))


def _nonzero(tangents: Sequence[Any]) -> list[Array | None]:
    """The tangents, None for those that are zero."""
    return [None if type(t) is ad.Zero else t for t in tangents]


def _with_tangents(results: list[Array], tangents: Sequence[Array | None]) -> tuple[list[Array], list[Any]]:
    """What a rule gives; a tangent that is None, or that of a placeholder, is zero."""
    return results, [
        ad.Zero(jax.typeof(result).to_tangent_aval()) if t is None or t.shape != result.shape else t
        for result, t in zip(results, tangents, strict=True)
    ]


def _tangent_transpose(
    cotangents: Sequence[Any],
    *operands: Any,
    option_codes: Codes,
    sequences: bool,
    wanted: tuple[bool, ...],
    batch: int,
) -> list[Any]:
    rest = operands[: len(operands) - sum(wanted)]
    placeholder = jnp.zeros((1,) * batch + (0,), rest[0].dtype)
    given = [placeholder if t is None else t for t in _nonzero(cotangents)]
    found = backward_p.bind(*rest, *given, option_codes=option_codes, dx=wanted[0], batch=batch)
    asked = [
        _shared(t, batch, rest[k]) for t, k, w in zip(found, gradient_positions(option_codes), wanted, strict=True) if w
    ]
    return [None] * len(rest) + asked


def _backward_transpose(
    cotangents: Sequence[Any], *operands: Any, option_codes: Codes, dx: bool, batch: int
) -> list[Array | None]:
    at = operand_counts(option_codes)[1]
    given = _nonzero(cotangents)
    wanted = tuple(t is not None for t in given)
    parameters = {"option_codes": option_codes, "sequences": True, "wanted": wanted, "batch": batch}
    found = tangent_p.bind(*operands[:at], *(t for t in given if t is not None), **parameters)
    results: list[Array | None] = [None] * at
    for t, operand in zip(found, operands[at:], strict=True):
        asked = ad.is_undefined_primal(operand) and operand.aval.shape[batch:] != (0,)
        results.append(_shared(t, batch, operand.aval) if asked else None)
    return results


def _shared(gradient: Array, batch: int, like: Any) -> Array:
    """The gradient of an operand: summed along the leading axes in which the operand is the same for all."""
    axes = tuple(k for k in range(batch) if like.shape[k] == 1 != gradient.shape[k])
    return gradient.sum(axes, keepdims=True) if axes else gradient


_EQUATIONS: dict[Primitive, Callable[..., list[Array]]] = {tangent_p: equations.tangent, backward_p: equations.backward}
ad.primitive_jvps[forward_p] = _forward_jvp
for primitive in _EQUATIONS:
    ad.primitive_jvps[primitive] = functools.partial(_equations_jvp, primitive)
ad.primitive_transposes[tangent_p] = _tangent_transpose
ad.primitive_transposes[backward_p] = _backward_transpose


# --- batching


def _batch(primitive: Primitive, operands: Sequence[Array], axes: Sequence[int | None], **parameters: Any) -> Any:
    """One more leading axis."""
    moved = [t[None] if axis is None else jnp.moveaxis(t, axis, 0) for t, axis in zip(operands, axes, strict=True)]
    results = primitive.bind(*moved, **parameters | {"batch": parameters["batch"] + 1})
    return results, [0] * len(results)


def _batch_forward(operands: Sequence[Array], axes: Sequence[int | None], **parameters: Any) -> Any:
    """As rows of one batch, where all have the same weights; else one more leading axis."""
    rows = batch_axes(parameters["option_codes"])
    weights = [k for k, row in enumerate(rows) if row is None]
    if parameters["batch"] or any(axes[k] is not None for k in weights):
        return _batch(forward_p, operands, axes, **parameters)
    size = next(t.shape[axis] for t, axis in zip(operands, axes, strict=True) if axis is not None)
    folded = [_fold(t, axis, size, row) for t, axis, row in zip(operands, axes, rows, strict=True)]
    results = forward_p.bind(*folded, **parameters)
    unfolded = [t if t.shape == (0,) else t.reshape(size, -1, *t.shape[1:]) for t in results]
    return unfolded, [None if t.shape == (0,) else 0 for t in results]


def _fold(tensor: Array, axis: int | None, size: int, row: int | None) -> Array:
    """The tensor with the mapped axis made part of the axis `row`; None: it is the same for all rows."""
    if row is None or (axis is None and tensor.shape == (0,)):
        return tensor
    if axis is None:
        shape = tensor.shape
        tensor = jnp.broadcast_to(jnp.expand_dims(tensor, row), (*shape[:row], size, *shape[row:]))
    else:
        tensor = jnp.moveaxis(tensor, axis, row)
    shape = tensor.shape
    return tensor.reshape(*shape[:row], shape[row] * shape[row + 1], *shape[row + 2 :])


batching.primitive_batchers[forward_p] = _batch_forward
for primitive in _EQUATIONS:
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive)
