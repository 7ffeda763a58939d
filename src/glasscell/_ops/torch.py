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
    OUTPUTS,
    RESIDUALS,
    Operands,
    each,
    flatten,
    gradient_shapes,
    input_gradients,
    none_if_placeholder,
    outputs_of,
    read_by_backward,
    residual_shapes,
)
from glasscell._ops.torch_threads import use_openmp_threads

PLACEHOLDERS = {
    dtype: torch.empty(0, dtype=dtype, device="cpu") for dtype in (torch.float32, torch.float64, torch.uint8)
}
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
    x: Tensor, step_flags: Tensor | None, directions: Sequence[Operands], sequences: bool, training: bool
) -> list[Pass]:
    """A whole pass of each direction over `x: (B, T, I)`, all of one dtype, float32 or float64.

    step_flags: as `Call.step_flags`.

    Returns for each `h: (B, T, H)` in processing order, or None unless `sequences`, and the final h and c, (B, H).
    The gradient keeps this h: who hands it out hands out a copy, for its new owner may write into it.
    Differentiable in x, the weights and the initial states. `training` changes nothing: autograd tells.
    """
    inputs, option_codes = flatten(directions, _placeholder(x))
    tape = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *inputs))
    step_flags = _placeholder(x, torch.uint8) if step_flags is None else step_flags
    results: Sequence[Tensor]
    size = len(RESIDUALS)
    if why_in_torch(x, *inputs) is not None:
        in_torch = equations.forward if _transformed() else _not_compiled
        results, size = in_torch(x, step_flags, inputs, option_codes), OUTPUTS
    elif torch.compiler.is_compiling():
        results = forward(x, step_flags, inputs, option_codes, sequences, tape)
    elif not at_hand(x, *inputs):
        results = _Forward.apply(x, step_flags, option_codes, sequences, *inputs)
    elif tape:
        results = _Direct.apply(x, step_flags, option_codes, sequences, *inputs)
    else:
        results = _forward(x, step_flags, inputs, option_codes, sequences, tape)
    return [(h if sequences else None, hT, cT) for hT, cT, h, *_ in each(results, size)]


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
    x: Tensor, step_flags: Tensor, inputs: Sequence[Tensor], option_codes: list[int], sequences: bool, tape: bool
) -> list[Tensor]:
    """`glasscell._ops.operands.forward` on tensors."""
    results = engine.forward(_array(x), _array(step_flags), [_array(t) for t in inputs], option_codes, sequences, tape)
    return [torch.from_numpy(array) for array in results]


def _backward(
    x: Tensor,
    step_flags: Tensor,
    inputs: Sequence[Tensor],
    option_codes: list[int],
    residuals: list[Tensor],
    cotangents: list[Tensor],
    dx: bool,
) -> list[Tensor]:
    """`glasscell._ops.operands.backward` on tensors."""
    tape, given = ([_array(t) for t in tensors] for tensors in (residuals, cotangents))
    results = engine.backward(_array(x), _array(step_flags), [_array(t) for t in inputs], option_codes, tape, given, dx)
    return [torch.from_numpy(array) for array in results]


@torch.library.custom_op("glasscell::forward", mutates_args=())  # type: ignore[untyped-decorator]
def forward(
    x: Tensor, step_flags: Tensor, inputs: list[Tensor], option_codes: list[int], sequences: bool, tape: bool
) -> list[Tensor]:
    """The forward pass as compilers see it."""
    return _forward(x, step_flags, inputs, option_codes, sequences, tape)


@torch.library.custom_op("glasscell::backward", mutates_args=())  # type: ignore[untyped-decorator]
def backward(
    x: Tensor,
    step_flags: Tensor,
    inputs: list[Tensor],
    option_codes: list[int],
    residuals: list[Tensor],
    cotangents: list[Tensor],
    dx: bool,
) -> list[Tensor]:
    """The backward pass as compilers see it."""
    return _backward(x, step_flags, inputs, option_codes, residuals, cotangents, dx)


@forward.register_fake  # type: ignore[untyped-decorator]
def _(
    x: Tensor, step_flags: Tensor, inputs: list[Tensor], option_codes: list[int], sequences: bool, tape: bool
) -> list[Tensor]:
    return [x.new_empty(shape) for shape in residual_shapes(x, inputs, option_codes, sequences, tape)]


@backward.register_fake  # type: ignore[untyped-decorator]
def _(
    x: Tensor,
    step_flags: Tensor,
    inputs: list[Tensor],
    option_codes: list[int],
    residuals: list[Tensor],
    cotangents: list[Tensor],
    dx: bool,
) -> list[Tensor]:
    return [x.new_empty(shape) for shape in gradient_shapes(x, inputs, dx)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    x, step_flags, own, ctx.option_codes, *_ = inputs
    ctx.inputs = len(own)
    ctx.save_for_backward(x, step_flags, *own, *read_by_backward(output, _placeholder(x)))
    ctx.set_materialize_grads(False)


def _gradients(
    ctx: Any, cotangents: Sequence[Tensor | None], needed: Sequence[bool], backward: Callable[..., list[Tensor]]
) -> list[Any]:
    """Of x, where it is needed, and of all of `INPUTS`."""
    x, step_flags, *saved = ctx.saved_tensors
    inputs, residuals = saved[: ctx.inputs], saved[ctx.inputs :]
    outputs = (t for own in outputs_of(cotangents) for t in own)
    placeholder = _placeholder(x)
    wanted = [placeholder if t is None else t for t in outputs]
    if why_in_torch(*wanted) is not None or any(map(torch._C._functorch.is_legacy_batchedtensor, wanted)):
        return list(equations.gradients(x, step_flags, inputs, ctx.option_codes, wanted, needed))
    again = torch.is_grad_enabled() and not torch.compiler.is_compiling()  # someone may differentiate once more
    if again or (backward is _backward and not at_hand(x, *inputs, *wanted)):
        backward = _Backward.run
    dx, *found = backward(x, step_flags, inputs, ctx.option_codes, residuals, wanted, needed[0])
    return [none_if_placeholder(dx), *input_gradients([none_if_placeholder(t) for t in found])]


def _differentiate(ctx: Any, cotangents: list[Tensor | None]) -> tuple[Any, ...]:
    needed = ctx.needs_input_grad
    dx, *inputs = _gradients(ctx, cotangents, [needed[0], *needed[2]], backward)
    return dx, None, inputs, None, None, None


forward.register_autograd(_differentiate, setup_context=_save)


class _Direct(torch.autograd.Function):  # type: ignore[misc]
    """The same for tensors that are there: what an operator costs by itself is more than a short pass takes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, step_flags: Tensor, option_codes: list[int], sequences: bool, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        residuals = tuple(_forward(x, step_flags, inputs, option_codes, sequences, tape=True))
        _Forward.setup_context(ctx, (x, step_flags, option_codes, sequences, *inputs), residuals)
        return residuals

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        return _Forward.backward(ctx, *cotangents)


class _Forward(torch.autograd.Function):  # type: ignore[misc]
    """The same for transforms of `torch.func` and for subclasses of tensors. It takes PyTorch longer to call."""

    @staticmethod
    def forward(
        x: Tensor, step_flags: Tensor, option_codes: list[int], sequences: bool, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        run = _forward if at_hand(x, *inputs) else forward
        return tuple(run(x, step_flags, list(inputs), option_codes, sequences, True))

    @staticmethod
    def setup_context(ctx: Any, arguments: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, step_flags, option_codes, _, *inputs = arguments
        _save(ctx, (x, step_flags, inputs, option_codes), output)
        ctx.mark_non_differentiable(*(t for own in each(output, len(RESIDUALS)) for t in own[OUTPUTS:]))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        compiling = torch.compiler.is_compiling()
        needed = [ctx.needs_input_grad[0], *ctx.needs_input_grad[4:]]
        dx, *inputs = _gradients(ctx, cotangents, needed, backward if compiling else _backward)
        return dx, None, None, None, *inputs

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        return _one_by_one(_Forward, info.batch_size, in_dims, arguments)


class _Backward(torch.autograd.Function):  # type: ignore[misc]
    """The gradients, which can be differentiated in turn."""

    @staticmethod
    def run(x: Tensor, step_flags: Tensor, inputs: list[Tensor], option_codes: list[int], *rest: Any) -> list[Tensor]:
        """As `backward`."""
        residuals, cotangents, dx = rest
        return list(
            _Backward.apply(
                x, step_flags, option_codes, dx, len(inputs), len(residuals), *inputs, *residuals, *cotangents
            )
        )

    @staticmethod
    def forward(
        x: Tensor, step_flags: Tensor, option_codes: list[int], dx: bool, inputs: int, residuals: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        run = _backward if at_hand(x, *tensors) else backward
        parts = (
            list(tensors[:inputs]),
            option_codes,
            list(tensors[inputs:][:residuals]),
            list(tensors[inputs + residuals :]),
        )
        return tuple(run(x, step_flags, *parts, dx))

    @staticmethod
    def setup_context(ctx: Any, arguments: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, step_flags, ctx.option_codes, _, ctx.inputs, ctx.residuals, *tensors = arguments
        ctx.save_for_backward(x, step_flags, *tensors[: ctx.inputs], *tensors[ctx.inputs + ctx.residuals :])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        x, step_flags, *saved = ctx.saved_tensors
        inputs, first = saved[: ctx.inputs], saved[ctx.inputs :]
        (needed, *_), of_tensors = ctx.needs_input_grad[:6], ctx.needs_input_grad[6:]
        wanted = [needed, *of_tensors[: ctx.inputs], *of_tensors[ctx.inputs + ctx.residuals :]]
        dx, *found = equations.second(x, step_flags, inputs, ctx.option_codes, first, cotangents, wanted)
        return dx, *[None] * 5, *found[: ctx.inputs], *[None] * ctx.residuals, *found[ctx.inputs :]

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


def _placeholder(like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """What stands for None among tensors."""
    if torch.compiler.is_compiling() or type(like) not in (Tensor, torch.nn.Parameter) or like.is_meta:
        return like.new_empty(0, dtype=dtype)
    return PLACEHOLDERS[dtype or like.dtype]


def _array(tensor: Tensor) -> Any:
    array = (tensor if tensor.is_contiguous() else tensor.contiguous()).numpy(force=True)
    return array if array.flags.aligned else array.copy()  # `torch.frombuffer` takes any address


use_openmp_threads()
