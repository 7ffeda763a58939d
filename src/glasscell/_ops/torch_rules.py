"""Defines the native operation in PyTorch: operators for compilers, functions for autograd and `torch.func`.

Autograd does not see tensors inside a list, so the functions take their tensors as separate arguments, called a row:
x, step_flags, the `INPUTS` of all directions, their `RESIDUALS`, then cotangents. `_parts` splits a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from glasscell._ops import operands as engine
from glasscell._ops import torch_equations as equations
from glasscell._ops.operands import (
    OUTPUTS,
    RESIDUALS,
    each,
    gradient_shapes,
    input_gradients,
    none_if_placeholder,
    operand_counts,
    outputs_of,
    read_by_backward,
    residual_shapes,
)
from glasscell._ops.torch_compat import PLAIN, is_batched_cotangent, memory_of
from glasscell._ops.torch_eligibility import at_hand, why_in_torch

PLACEHOLDERS = {
    dtype: torch.empty(0, dtype=dtype, device="cpu") for dtype in (torch.float32, torch.float64, torch.uint8)
}
OPERANDS = "Tensor x, Tensor step_flags, Tensor[] inputs, int[] option_codes"


def forward_pass(
    x: Tensor, step_flags: Tensor, inputs: list[Tensor], codes: list[int], sequences: bool
) -> list[Sequence[Tensor]]:
    """Runs the forward pass by the cheapest rule that works here. Returns hT, cT and h of each direction."""
    tape = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *inputs))
    if torch.compiler.is_compiling():
        return outputs_of(forward(x, step_flags, inputs, codes, sequences, tape))
    if not at_hand(x, *inputs):
        return outputs_of(_Forward.apply(codes, x, step_flags, *inputs))
    if tape:
        return each(_ForwardAtHand.apply(codes, x, step_flags, *inputs), OUTPUTS)
    arrays = outputs_of(_forward_arrays(x, step_flags, inputs, codes, sequences, False))
    return [[torch.from_numpy(array) for array in own] for own in arrays]


def placeholders(like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the tensors that stand for None: one for inputs, one for step flags."""
    if torch.compiler.is_compiling() or type(like) not in PLAIN or like.is_meta:
        return like.new_empty(0), like.new_empty(0, dtype=torch.uint8)
    return PLACEHOLDERS[like.dtype], PLACEHOLDERS[torch.uint8]


def _forward_arrays(x: Tensor, step_flags: Tensor, inputs: Sequence[Tensor], *rest: Any) -> list[Any]:
    return engine.forward(memory_of(x), memory_of(step_flags), [memory_of(t) for t in inputs], *rest)


def _forward(*operands: Any) -> list[Tensor]:
    """Calls `operands.forward` on the tensors as arrays."""
    return [torch.from_numpy(array) for array in _forward_arrays(*operands)]


def _backward(
    x: Tensor, step_flags: Tensor, inputs: Sequence[Tensor], codes: list[int], residuals: Any, cotangents: Any, dx: bool
) -> list[Tensor]:
    """Calls `operands.backward` on the tensors as arrays."""
    own, tape, given = ([memory_of(t) for t in tensors] for tensors in (inputs, residuals, cotangents))
    results = engine.backward(memory_of(x), memory_of(step_flags), own, codes, tape, given, dx)
    return [torch.from_numpy(array) for array in results]


forward = torch.library.custom_op(
    "glasscell::forward", _forward, mutates_args=(), schema=f"({OPERANDS}, bool sequences, bool tape) -> Tensor[]"
)
backward = torch.library.custom_op(
    "glasscell::backward",
    _backward,
    mutates_args=(),
    schema=f"({OPERANDS}, Tensor[] residuals, Tensor[] cotangents, bool dx) -> Tensor[]",
)


@forward.register_fake  # type: ignore[untyped-decorator]
def _(x: Tensor, step_flags: Tensor, *rest: Any) -> list[Tensor]:
    return [x.new_empty(shape) for shape in residual_shapes(x, *rest)]


@backward.register_fake  # type: ignore[untyped-decorator]
def _(x: Tensor, step_flags: Tensor, inputs: list[Tensor], *rest: Any) -> list[Tensor]:
    return [x.new_empty(shape) for shape in gradient_shapes(x, inputs, rest[-1])]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    x, step_flags, own, ctx.codes, *_ = inputs
    ctx.results = len(RESIDUALS)  # the number of results of each direction that have cotangents
    ctx.save_for_backward(x, step_flags, *own, *read_by_backward(output, placeholders(x)[0]))
    ctx.set_materialize_grads(False)


def _parts(codes: list[int], row: Sequence[Any]) -> tuple[Any, Any, list[Any], list[Any], list[Any]]:
    """Splits a row into x, step_flags, inputs, residuals and the rest."""
    x, step_flags, *tensors = row
    inputs, residuals = (count - 2 for count in operand_counts(codes))
    return x, step_flags, tensors[:inputs], tensors[inputs:residuals], tensors[residuals:]


def gradients(
    codes: list[int],
    saved: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
    needed: Sequence[bool],
    backward: Callable[..., list[Tensor]] = _backward,
) -> list[Any]:
    """Computes the gradients of x, if needed, and of all `INPUTS`, by the cheapest rule that works here.

    saved: the row up to `RESIDUALS`. cotangents: those of each direction's hT, cT and h.
    """
    x, step_flags, inputs, residuals, _ = _parts(codes, saved)
    placeholder, _ = placeholders(x)
    wanted = [placeholder if t is None else t for t in cotangents]
    if why_in_torch(*wanted) is not None or any(map(is_batched_cotangent, wanted)):
        return list(equations.gradients(x, step_flags, inputs, codes, wanted, needed))
    again = torch.is_grad_enabled() and not torch.compiler.is_compiling()  # the gradients may be differentiated in turn
    if again or (backward is _backward and not at_hand(x, *inputs, *wanted)):
        dx, *found = _Backward.apply(codes, needed[0], x, step_flags, *inputs, *residuals, *wanted)
    else:
        dx, *found = backward(x, step_flags, inputs, codes, residuals, wanted, needed[0])
    return [none_if_placeholder(dx), *input_gradients([none_if_placeholder(t) for t in found])]


def _gradients(ctx: Any, cotangents: Sequence[Tensor | None], *rest: Any) -> list[Any]:
    outputs = [t for own in each(cotangents, ctx.results) for t in own[:OUTPUTS]]
    return gradients(ctx.codes, ctx.saved_tensors, outputs, *rest)


def _differentiate(ctx: Any, cotangents: list[Tensor | None]) -> tuple[Any, ...]:
    needed = ctx.needs_input_grad
    dx, *inputs = _gradients(ctx, cotangents, [needed[0], *needed[2]], backward)
    return dx, None, inputs, None, None, None


forward.register_autograd(_differentiate, setup_context=_save)


class _Rule(torch.autograd.Function):  # type: ignore[misc]
    """The base of the functions below, which take option codes, tensors and numbers; `vmap` runs them in a loop."""

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        """Runs each element of the batch in a call of its own, so that batching does not change its bits."""

        def element(k: int) -> tuple[Tensor, ...]:
            own = (a.select(d, k) if isinstance(d, int) else a for a, d in zip(arguments, in_dims, strict=True))
            results: tuple[Tensor, ...] = cls.apply(*own)
            return results

        results = tuple(torch.stack(own) for own in zip(*map(element, range(info.batch_size)), strict=True))
        return results, (0,) * len(results)


class _Forward(_Rule):
    """Runs the forward pass for transforms of `torch.func` and for subclasses of tensors."""

    @staticmethod
    def forward(codes: list[int], x: Tensor, step_flags: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        run = _forward if at_hand(x, *inputs) else forward
        return tuple(run(x, step_flags, list(inputs), codes, True, True))

    @staticmethod
    def setup_context(ctx: Any, arguments: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        codes, x, step_flags, *inputs = arguments
        _save(ctx, (x, step_flags, inputs, codes), output)
        ctx.mark_non_differentiable(*(t for own in each(output, len(RESIDUALS)) for t in own[OUTPUTS:]))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        _, x, _, *inputs = ctx.needs_input_grad
        run = backward if torch.compiler.is_compiling() else _backward
        dx, *found = _gradients(ctx, cotangents, [x, *inputs], run)
        return None, dx, None, *found


class _ForwardAtHand(torch.autograd.Function):  # type: ignore[misc]
    """Runs the forward pass for tensors whose memory can be read now. It saves its residuals inside `forward`, which
    has less overhead than `_Forward` with its `setup_context`; an operator would have the most."""

    @staticmethod
    def forward(ctx: Any, codes: list[int], x: Tensor, step_flags: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        residuals = _forward(x, step_flags, inputs, codes, True, True)
        _save(ctx, (x, step_flags, inputs, codes), residuals)
        ctx.results = OUTPUTS
        return tuple(t for own in outputs_of(residuals) for t in own)

    backward = staticmethod(_Forward.backward)


class _Backward(_Rule):
    """Computes the gradients, which can be differentiated in turn."""

    @staticmethod
    def forward(codes: list[int], dx: bool, *row: Tensor) -> tuple[Tensor, ...]:
        x, step_flags, inputs, residuals, cotangents = _parts(codes, row)
        run = _backward if at_hand(x, *row[2:]) else backward
        return tuple(run(x, step_flags, inputs, codes, residuals, cotangents, dx))

    @staticmethod
    def setup_context(ctx: Any, arguments: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.codes, _, *row = arguments
        x, step_flags, inputs, _, cotangents = _parts(ctx.codes, row)
        ctx.save_for_backward(x, step_flags, *inputs, *cotangents)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        x, step_flags, *saved = ctx.saved_tensors
        needed, _, inputs, residuals, of_cotangents = _parts(ctx.codes, ctx.needs_input_grad[2:])
        n, wanted = len(inputs), [needed, *inputs, *of_cotangents]
        dx, *found = equations.second(x, step_flags, saved[:n], ctx.codes, saved[n:], cotangents, wanted)
        return None, None, dx, None, *found[:n], *[None] * len(residuals), *found[n:]
