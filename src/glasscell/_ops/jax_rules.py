"""Defines the rules by which JAX differentiates and batches the primitives of `jax_primitives`.

The derivative of `forward_p` is `tangent_p`, whose transpose is `backward_p`. The derivatives of `tangent_p` and
`backward_p` are those of the equations (`jax_equations`), with their residuals as constants.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from glasscell._ops import jax_equations as equations
from glasscell._ops.jax_compat import zero_tangent
from glasscell._ops.jax_primitives import Codes, backward_p, forward_p, forward_shapes, result_avals, tangent_p
from glasscell._ops.operands import OUTPUTS, RESIDUALS, batch_axes, each, gradient_positions, operand_counts

Array = Any


# --- derivatives


def _forward_jvp(
    primals: Sequence[Array], tangents: Sequence[Any], *, option_codes: Codes, sequences: bool, tape: bool, batch: int
) -> tuple[list[Array], list[Any]]:
    at = gradient_positions(option_codes)
    parameters: dict[str, Any] = {"option_codes": option_codes, "sequences": sequences, "batch": batch}
    if any(t is not None for k, t in enumerate(_nonzero(tangents)) if k not in at):
        # Dropout masks have a tangent too: the native engine takes them as constants, so the equations run.
        function = functools.partial(equations.forward, tape=tape, **parameters)
        return _with_tangents(function(*primals), equations.derivative(function, primals, _nonzero(tangents)))
    residuals = forward_p.bind(*primals, tape=True, **parameters)
    given = _nonzero([tangents[k] for k in at])
    wanted = tuple(t is not None for t in given)
    found = tangent_p.bind(*primals, *residuals, *(t for t in given if t is not None), wanted=wanted, **parameters)
    shapes = result_avals(forward_shapes, *primals, tape=tape, **parameters)
    outputs = [t if t.shape == s.shape else jnp.zeros(s.shape, s.dtype) for t, s in zip(residuals, shapes, strict=True)]
    none = [None] * (len(RESIDUALS) - OUTPUTS)
    return _with_tangents(outputs, [t for own in each(found, OUTPUTS) for t in (*own, *none)])


def _equations_jvp(primitive: Primitive, primals: Sequence[Array], tangents: Sequence[Any], **parameters: Any) -> Any:
    inputs, residuals = operand_counts(parameters["option_codes"])
    given = [None if inputs <= k < residuals else t for k, t in enumerate(_nonzero(tangents))]
    function: Any = functools.partial(_EQUATIONS[primitive], **parameters)
    return _with_tangents(primitive.bind(*primals, **parameters), equations.derivative(function, primals, given))


def _nonzero(tangents: Sequence[Any]) -> list[Array | None]:
    """Replaces tangents that are zero by None."""
    return [None if type(t) is ad.Zero else t for t in tangents]


def _with_tangents(results: list[Array], tangents: Sequence[Array | None]) -> tuple[list[Array], list[Any]]:
    """Returns the results and their tangents, as JAX's rules do; None and a placeholder's tangent become zero."""
    return results, [
        zero_tangent(result) if t is None or t.shape != result.shape else t
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
    """Sums the gradient of an operand along the leading axes along which the operand does not vary."""
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
    """Batches a primitive by one more leading axis."""
    moved = [t[None] if axis is None else jnp.moveaxis(t, axis, 0) for t, axis in zip(operands, axes, strict=True)]
    results = primitive.bind(*moved, **parameters | {"batch": parameters["batch"] + 1})
    return results, [0] * len(results)


def _batch_forward(operands: Sequence[Array], axes: Sequence[int | None], **parameters: Any) -> Any:
    """Batches `forward_p`: as rows of one batch where all share the weights, else by one more leading axis."""
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
    """Folds the mapped axis of a tensor into its batch axis `row`; None: the tensor has no batch axis."""
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
