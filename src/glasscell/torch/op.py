"""The native engine as PyTorch operators with gradients: one call forward, one backward, any number of directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from glasscell import directions as engine
from glasscell.directions import KEPT, OUTPUTS, Direction, flatten, given, gradient_shapes, kept_shapes, own_gradients

Pass = tuple[Tensor | None, Tensor, Tensor]


def why_not_available(x: Tensor) -> str | None:
    """The reason why the operators cannot serve this input; None if they can."""
    if x.device.type not in ("cpu", "meta"):
        return f"the tensors are on {x.device.type}, and the native engine is for CPUs"
    if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() or torch.jit.is_tracing():
        return "the model is being exported, and what is exported must run without glasscell"
    return None


def run(
    x: Tensor, steps: Tensor | None, directions: Sequence[Direction], sequences: bool, training: bool
) -> list[Pass]:
    """A whole pass of each direction over `x: (B, T, I)`, float32 or float64 like all else; steps: as `Call.steps`.

    Returns for each `h: (B, T, H)` in processing order, or None unless `sequences`, and the final h and c, (B, H).
    Differentiable, once, in x, the weights and the initial states. `training` changes nothing: autograd tells.
    """
    own, codes = flatten(directions, x.new_empty(0))
    tape = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *own))
    steps = x.new_empty(0, dtype=torch.uint8) if steps is None else steps
    results = forward(x, steps, own, codes, sequences, tape)
    each = (results[k : k + len(KEPT)] for k in range(0, len(results), len(KEPT)))
    return [(h if sequences else None, hT, cT) for hT, cT, h, *_ in each]


@torch.library.custom_op("glasscell::forward", mutates_args=())  # type: ignore[untyped-decorator]
def forward(x: Tensor, steps: Tensor, own: list[Tensor], codes: list[int], sequences: bool, tape: bool) -> list[Tensor]:
    """`glasscell.directions.forward` on tensors."""
    results = engine.forward(_array(x), _array(steps), [_array(t) for t in own], codes, sequences, tape)
    return [torch.from_numpy(array) for array in results]


@torch.library.custom_op("glasscell::backward", mutates_args=())  # type: ignore[untyped-decorator]
def backward(
    x: Tensor, steps: Tensor, own: list[Tensor], codes: list[int], kept: list[Tensor], cotangents: list[Tensor]
) -> list[Tensor]:
    """`glasscell.directions.backward` on tensors."""
    lists = ([_array(t) for t in tensors] for tensors in (kept, cotangents))
    results = engine.backward(_array(x), _array(steps), [_array(t) for t in own], codes, *lists)
    return [torch.from_numpy(array) for array in results]


@forward.register_fake  # type: ignore[untyped-decorator]
def _(x: Tensor, steps: Tensor, own: list[Tensor], codes: list[int], sequences: bool, tape: bool) -> list[Tensor]:
    return [x.new_empty(shape) for shape in kept_shapes(x, own, codes, sequences, tape)]


@backward.register_fake  # type: ignore[untyped-decorator]
def _(
    x: Tensor, steps: Tensor, own: list[Tensor], codes: list[int], kept: list[Tensor], cotangents: list[Tensor]
) -> list[Tensor]:
    return [x.new_empty(shape) for shape in gradient_shapes(x, own)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, steps, own, ctx.codes, _, _ = inputs
    ctx.own = len(own)
    ctx.save_for_backward(x, steps, *own, *output)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, cotangents: list[Tensor | None]) -> tuple[Any, ...]:
    x, steps, *saved = ctx.saved_tensors
    own, kept = saved[: ctx.own], saved[ctx.own :]
    outputs = (t for k in range(0, len(kept), len(KEPT)) for t in cotangents[k:][:OUTPUTS])
    wanted = [x.new_empty(0) if t is None else t for t in outputs]
    dx, *found = backward(x, steps, own, ctx.codes, kept, wanted)
    return dx, None, own_gradients([given(t) for t in found]), None, None, None


forward.register_autograd(_backward, setup_context=_save)


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()
