"""The native engine as PyTorch operators with gradients: one call forward, one backward, any number of directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils import _pytree

from glasscell._ops import operands as engine
from glasscell._ops import torch_equations as equations
from glasscell._ops.operands import (
    KEPT,
    OUTPUTS,
    Direction,
    flatten,
    given,
    gradient_shapes,
    kept_shapes,
    own_gradients,
)
from glasscell._ops.torch_threads import borrow

ABSENT = {dtype: torch.empty(0, dtype=dtype, device="cpu") for dtype in (torch.float32, torch.float64, torch.uint8)}
FINAL = (KEPT.index("hT"), KEPT.index("cT"))  # of `KEPT`, what `backward` does not read
Pass = tuple[Tensor | None, Tensor, Tensor]


def why_not_available(x: Tensor) -> str | None:
    """The reason why the operators cannot serve this input; None if they can."""
    if x.device.type not in ("cpu", "meta"):
        return f"the tensors are on {x.device.type}, and the native engine is for CPUs"
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return "the model is being exported, and what is exported must run without glasscell"
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    return None


def why_in_torch(x: Tensor, *tensors: Tensor | None) -> str | None:
    """The reason why `run` takes torch's own operations for such tensors; None if it takes the operators."""
    compiling, transformed = torch.compiler.is_compiling(), _transformed()
    if compiling and transformed:
        return "a transform of torch.func is being compiled"
    if forward_ad.unpack_dual(x).primal is x:
        return None  # no level of forward mode is open
    tangents = (forward_ad.unpack_dual(t).tangent is not None for t in (x, *tensors) if t is not None)
    if compiling or transformed or any(tangents):  # the first two hide them
        return "derivatives are taken in forward mode, and the native engine has gradients alone"
    return None


def run(
    x: Tensor, steps: Tensor | None, directions: Sequence[Direction], sequences: bool, training: bool
) -> list[Pass]:
    """A whole pass of each direction over `x: (B, T, I)`, float32 or float64 like all else; steps: as `Call.steps`.

    Returns for each `h: (B, T, H)` in processing order, or None unless `sequences`, and the final h and c, (B, H).
    The gradient keeps this h: who hands it out hands out a copy, for its new owner may write into it.
    Differentiable in x, the weights and the initial states. `training` changes nothing: autograd tells.
    """
    own, codes = flatten(directions, _absent(x))
    tape = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *own))
    steps = _absent(x, torch.uint8) if steps is None else steps
    results: Sequence[Tensor]
    each = len(KEPT)
    if why_in_torch(x, *own) is not None:
        in_torch = equations.forward if _transformed() else _not_compiled
        results, each = in_torch(x, steps, own, codes), OUTPUTS
    elif torch.compiler.is_compiling():
        results = forward(x, steps, own, codes, sequences, tape)
    elif not at_hand(x, *own):
        results = _Forward.apply(x, steps, codes, sequences, *own)
    elif tape:
        results = _Direct.apply(x, steps, codes, sequences, *own)
    else:
        results = _forward(x, steps, own, codes, sequences, tape)
    passes = (results[k : k + OUTPUTS] for k in range(0, len(results), each))
    return [(h if sequences else None, hT, cT) for hT, cT, h in passes]


_not_compiled = torch.compiler.disable(equations.forward)  # what is compiled has no derivatives in forward mode


def _transformed() -> bool:
    """Whether a transform of `torch.func` is at work: there is no public way to ask, nor for the other kind of `vmap`,
    which `torch.autograd.grad` has for batches of cotangents."""
    active: bool = torch._C._are_functorch_transforms_active()
    return active


def at_hand(*tensors: Tensor) -> bool:
    """Whether their numbers can be had right now: no transform stands in between, and no subclass of tensors."""
    return not _transformed() and all(type(t) in (Tensor, torch.nn.Parameter) and not t.is_meta for t in tensors)


def _forward(
    x: Tensor, steps: Tensor, own: Sequence[Tensor], codes: list[int], sequences: bool, tape: bool
) -> list[Tensor]:
    """`glasscell._ops.operands.forward` on tensors."""
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
    """`glasscell._ops.operands.backward` on tensors."""
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
    kept = [_absent(x) if k % len(KEPT) in FINAL else t for k, t in enumerate(output)]
    ctx.save_for_backward(x, steps, *own, *kept)
    ctx.set_materialize_grads(False)


def _gradients(
    ctx: Any, cotangents: Sequence[Tensor | None], needed: Sequence[bool], backward: Callable[..., list[Tensor]]
) -> list[Any]:
    """Of x, where it is needed, and of all of `OWN`."""
    x, steps, *saved = ctx.saved_tensors
    own, kept = saved[: ctx.own], saved[ctx.own :]
    outputs = (t for k in range(0, len(kept), len(KEPT)) for t in cotangents[k:][:OUTPUTS])
    absent = _absent(x)
    wanted = [absent if t is None else t for t in outputs]
    if why_in_torch(*wanted) is not None or any(map(torch._C._functorch.is_legacy_batchedtensor, wanted)):
        return list(equations.gradients(x, steps, own, ctx.codes, wanted, needed))
    again = torch.is_grad_enabled() and not torch.compiler.is_compiling()  # someone may differentiate once more
    if again or (backward is _backward and not at_hand(x, *own, *wanted)):
        backward = _Backward.run
    dx, *found = backward(x, steps, own, ctx.codes, kept, wanted, needed[0])
    return [given(dx), *own_gradients([given(t) for t in found])]


def _differentiate(ctx: Any, cotangents: list[Tensor | None]) -> tuple[Any, ...]:
    needed = ctx.needs_input_grad
    dx, *own = _gradients(ctx, cotangents, [needed[0], *needed[2]], backward)
    return dx, None, own, None, None, None


forward.register_autograd(_differentiate, setup_context=_save)


class _Direct(torch.autograd.Function):  # type: ignore[misc]
    """The same for tensors that are there: what an operator costs by itself is more than a short pass takes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, steps: Tensor, codes: list[int], sequences: bool, *own: Tensor
    ) -> tuple[Tensor, ...]:
        kept = tuple(_forward(x, steps, own, codes, sequences, tape=True))
        _Forward.setup_context(ctx, (x, steps, codes, sequences, *own), kept)
        return kept

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        return _Forward.backward(ctx, *cotangents)


class _Forward(torch.autograd.Function):  # type: ignore[misc]
    """The same for transforms of `torch.func` and for subclasses of tensors. It takes PyTorch longer to call."""

    @staticmethod
    def forward(x: Tensor, steps: Tensor, codes: list[int], sequences: bool, *own: Tensor) -> tuple[Tensor, ...]:
        run = _forward if at_hand(x, *own) else forward
        return tuple(run(x, steps, list(own), codes, sequences, True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, steps, codes, _, *own = inputs
        _save(ctx, (x, steps, own, codes), output)
        ctx.mark_non_differentiable(*(t for k, t in enumerate(output) if k % len(KEPT) >= OUTPUTS))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        compiling = torch.compiler.is_compiling()
        needed = [ctx.needs_input_grad[0], *ctx.needs_input_grad[4:]]
        dx, *own = _gradients(ctx, cotangents, needed, backward if compiling else _backward)
        return dx, None, None, None, *own

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        return _one_by_one(_Forward, info.batch_size, in_dims, arguments)


class _Backward(torch.autograd.Function):  # type: ignore[misc]
    """The gradients, which can be differentiated in turn."""

    @staticmethod
    def run(x: Tensor, steps: Tensor, own: list[Tensor], codes: list[int], *rest: Any) -> list[Tensor]:
        """As `backward`."""
        kept, cotangents, dx = rest
        return list(_Backward.apply(x, steps, codes, dx, len(own), len(kept), *own, *kept, *cotangents))

    @staticmethod
    def forward(
        x: Tensor, steps: Tensor, codes: list[int], dx: bool, own: int, kept: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        run = _backward if at_hand(x, *tensors) else backward
        parts = list(tensors[:own]), codes, list(tensors[own:][:kept]), list(tensors[own + kept :])
        return tuple(run(x, steps, *parts, dx))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, steps, ctx.codes, _, ctx.own, ctx.kept, *tensors = inputs
        ctx.save_for_backward(x, steps, *tensors[: ctx.own], *tensors[ctx.own + ctx.kept :])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        x, steps, *saved = ctx.saved_tensors
        own, first = saved[: ctx.own], saved[ctx.own :]
        (needed, *_), of_tensors = ctx.needs_input_grad[:6], ctx.needs_input_grad[6:]
        wanted = [needed, *of_tensors[: ctx.own], *of_tensors[ctx.own + ctx.kept :]]
        dx, *found = equations.second(x, steps, own, ctx.codes, first, cotangents, wanted)
        return dx, *[None] * 5, *found[: ctx.own], *[None] * ctx.kept, *found[ctx.own :]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        return _one_by_one(_Backward, info.batch_size, in_dims, arguments)


def _one_by_one(function: Any, size: int, in_dims: tuple[Any, ...], arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    """A function under `vmap`: each element of the batch has the bits that it has alone."""

    def element(k: int) -> tuple[Tensor, ...]:
        each = _pytree.tree_map(lambda a, d: a if d is None else a.select(d, k), arguments, in_dims)
        results: tuple[Tensor, ...] = function.apply(*each)
        return results

    results = tuple(torch.stack(each) for each in zip(*map(element, range(size)), strict=True))
    return results, (0,) * len(results)


def _absent(like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """What stands for None among tensors."""
    if torch.compiler.is_compiling() or type(like) not in (Tensor, torch.nn.Parameter) or like.is_meta:
        return like.new_empty(0, dtype=dtype)
    return ABSENT[dtype or like.dtype]


def _array(tensor: Tensor) -> Any:
    array = (tensor if tensor.is_contiguous() else tensor.contiguous()).numpy(force=True)
    return array if array.flags.aligned else array.copy()  # `torch.frombuffer` takes any address


borrow()
