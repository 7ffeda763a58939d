"""The native engine as PyTorch operators with gradients: one call forward, one backward, any number of directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from glasscell import directions as engine
from glasscell.directions import KEPT, OUTPUTS, Direction, flatten, given, gradient_shapes, kept_shapes, own_gradients

ABSENT = {dtype: torch.empty(0, dtype=dtype) for dtype in (torch.float32, torch.float64, torch.uint8)}
Pass = tuple[Tensor | None, Tensor, Tensor]


def why_not_available(x: Tensor) -> str | None:
    """The reason why the operators cannot serve this input; None if they can."""
    if x.device.type not in ("cpu", "meta"):
        return f"the tensors are on {x.device.type}, and the native engine is for CPUs"
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return "the model is being exported, and what is exported must run without glasscell"
    if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():  # there is no public way
        return "a transform of torch.func is at work, and the native engine has gradients by autograd alone"
    return None


def run(
    x: Tensor, steps: Tensor | None, directions: Sequence[Direction], sequences: bool, training: bool
) -> list[Pass]:
    """A whole pass of each direction over `x: (B, T, I)`, float32 or float64 like all else; steps: as `Call.steps`.

    Returns for each `h: (B, T, H)` in processing order, or None unless `sequences`, and the final h and c, (B, H).
    Differentiable, once, in x, the weights and the initial states. `training` changes nothing: autograd tells.
    """
    own, codes = flatten(directions, _absent(x.dtype))
    tape = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *own))
    steps = _absent(torch.uint8) if steps is None else steps
    results: Sequence[Tensor]
    if not _at_hand(x, *own):
        results = forward(x, steps, own, codes, sequences, tape)
    elif tape:
        results = _Direct.apply(x, steps, codes, sequences, *own)
    else:
        results = _forward(x, steps, own, codes, sequences, tape)
    each = (results[k : k + len(KEPT)] for k in range(0, len(results), len(KEPT)))
    return [(h if sequences else None, hT, cT) for hT, cT, h, *_ in each]


def _at_hand(*tensors: Tensor) -> bool:
    """Whether their numbers can be had right now: no compiler stands in between, and no subclass of tensors."""
    return not torch.compiler.is_compiling() and all(type(t) in (Tensor, torch.nn.Parameter) for t in tensors)


def _forward(
    x: Tensor, steps: Tensor, own: Sequence[Tensor], codes: list[int], sequences: bool, tape: bool
) -> list[Tensor]:
    """`glasscell.directions.forward` on tensors."""
    results = engine.forward(_array(x), _array(steps), [_array(t) for t in own], codes, sequences, tape)
    return [torch.from_numpy(array) for array in results]


def _backward(
    x: Tensor,
    steps: Tensor,
    own: Sequence[Tensor],
    codes: list[int],
    kept: list[Tensor],
    cotangents: list[Tensor],
    dx: bool,
) -> list[Tensor]:
    """`glasscell.directions.backward` on tensors."""
    tape, given = ([_array(t) for t in tensors] for tensors in (kept, cotangents))
    results = engine.backward(_array(x), _array(steps), [_array(t) for t in own], codes, tape, given, dx)
    return [torch.from_numpy(array) for array in results]


@torch.library.custom_op("glasscell::forward", mutates_args=())  # type: ignore[untyped-decorator]
def forward(x: Tensor, steps: Tensor, own: list[Tensor], codes: list[int], sequences: bool, tape: bool) -> list[Tensor]:
    """The forward pass as compilers see it."""
    return _forward(x, steps, own, codes, sequences, tape)


@torch.library.custom_op("glasscell::backward", mutates_args=())  # type: ignore[untyped-decorator]
def backward(
    x: Tensor,
    steps: Tensor,
    own: list[Tensor],
    codes: list[int],
    kept: list[Tensor],
    cotangents: list[Tensor],
    dx: bool,
) -> list[Tensor]:
    """The backward pass as compilers see it."""
    return _backward(x, steps, own, codes, kept, cotangents, dx)


@forward.register_fake  # type: ignore[untyped-decorator]
def _(x: Tensor, steps: Tensor, own: list[Tensor], codes: list[int], sequences: bool, tape: bool) -> list[Tensor]:
    return [x.new_empty(shape) for shape in kept_shapes(x, own, codes, sequences, tape)]


@backward.register_fake  # type: ignore[untyped-decorator]
def _(
    x: Tensor,
    steps: Tensor,
    own: list[Tensor],
    codes: list[int],
    kept: list[Tensor],
    cotangents: list[Tensor],
    dx: bool,
) -> list[Tensor]:
    return [x.new_empty(shape) for shape in gradient_shapes(x, own, dx)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    x, steps, own, ctx.codes, *_ = inputs
    ctx.own = len(own)
    ctx.save_for_backward(x, steps, *own, *output)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, cotangents: Sequence[Tensor | None], backward: Callable[..., list[Tensor]]) -> list[Any]:
    """Of x, where it is wanted, and of all of `OWN`."""
    x, steps, *saved = ctx.saved_tensors
    own, kept = saved[: ctx.own], saved[ctx.own :]
    outputs = (t for k in range(0, len(kept), len(KEPT)) for t in cotangents[k:][:OUTPUTS])
    absent = _absent(x.dtype)
    wanted = [absent if t is None else t for t in outputs]
    dx, *found = backward(x, steps, own, ctx.codes, kept, wanted, ctx.needs_input_grad[0])
    return [given(dx), *own_gradients([given(t) for t in found])]


def _differentiate(ctx: Any, cotangents: list[Tensor | None]) -> tuple[Any, ...]:
    dx, *own = _gradients(ctx, cotangents, backward)
    return dx, None, own, None, None, None


forward.register_autograd(_differentiate, setup_context=_save)


class _Direct(torch.autograd.Function):  # type: ignore[misc]
    """The same for tensors that are there: what an operator costs by itself is more than a short pass takes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, steps: Tensor, codes: list[int], sequences: bool, *own: Tensor
    ) -> tuple[Tensor, ...]:
        kept = _forward(x, steps, own, codes, sequences, tape=True)
        _save(ctx, (x, steps, own, codes), kept)
        ctx.mark_non_differentiable(*(t for k, t in enumerate(kept) if k % len(KEPT) >= OUTPUTS))
        return tuple(kept)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        again = torch.is_grad_enabled()  # someone wants to differentiate once more, which the operator refuses
        dx, *own = _gradients(ctx, cotangents, backward if again or torch.compiler.is_compiling() else _backward)
        return dx, None, None, None, *own


def _absent(dtype: torch.dtype) -> Tensor:
    """What stands for None among tensors."""
    return torch.empty(0, dtype=dtype) if torch.compiler.is_compiling() else ABSENT[dtype]


def _array(tensor: Tensor) -> Any:
    return (tensor if tensor.is_contiguous() else tensor.contiguous()).numpy(force=True)
