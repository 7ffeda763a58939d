"""Runs the equations of `_cells/lstm.py` over time in PyTorch's own operations, with gradients by autograd.

This path serves derivatives that the native operators lack: those in forward mode, and derivatives of gradients. Its
arguments and results are those of the operators; see `glasscell._ops.operands`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from glasscell._cells.lstm import raw_gates, step
from glasscell._ops.call import KEEP, RESET
from glasscell._ops.operands import Operands, input_gradients, none_if_placeholder, unflatten
from glasscell._ops.torch_compat import transforms_active

Wanted = Sequence[bool]  # whether a gradient is wanted: of x, of each of `inputs` and of each cotangent


def forward(x: Tensor, step_flags: Tensor, inputs: Sequence[Tensor], option_codes: Sequence[int]) -> list[Tensor]:
    """Runs the directions forward. Returns for each hT and cT, (B, H), and `h: (B, T, H)` in processing order."""
    return [
        result
        for direction in unflatten(inputs, option_codes)
        for result in _direction(x, none_if_placeholder(step_flags), direction)
    ]


def gradients(
    x: Tensor,
    step_flags: Tensor,
    inputs: Sequence[Tensor],
    option_codes: Sequence[int],
    cotangents: Sequence[Tensor],
    wanted: Wanted,
) -> list[Tensor | None]:
    """Computes the wanted gradients of x and `inputs`, None for others; in gradient mode they have a graph."""

    def run(sources: list[Tensor]) -> list[Tensor | None]:
        return [*forward(sources[0], step_flags, sources[1:], option_codes)]

    return _pull(run, [x, *inputs], wanted, cotangents)


def second(
    x: Tensor,
    step_flags: Tensor,
    inputs: Sequence[Tensor],
    option_codes: Sequence[int],
    cotangents: Sequence[Tensor],
    of_gradients: Sequence[Tensor | None],
    wanted: Wanted,
) -> list[Tensor | None]:
    """Computes second derivatives: gradients of x, `inputs` and cotangents, from those of `backward`'s results."""
    n, seeds = 1 + len(inputs), [of_gradients[0], *input_gradients(of_gradients[1:])]
    used = [seed is not None and none_if_placeholder(seed) is not None for seed in seeds]

    def run(sources: list[Tensor]) -> list[Tensor | None]:
        return gradients(sources[0], step_flags, sources[1:n], option_codes, sources[n:], used)

    return _pull(run, [x, *inputs, *cotangents], wanted, seeds)


def _direction(x: Tensor, step_flags: Tensor | None, d: Operands) -> tuple[Tensor, Tensor, Tensor]:
    W, R = (d.kernel.t(), d.recurrent_kernel.t()) if d.transposed_weights else (d.kernel, d.recurrent_kernel)
    b = W.new_zeros(W.shape[1]) if d.bias is None else d.bias
    h, c, hs = d.h0, d.c0, []
    for t in sorted(range(x.shape[1]), reverse=d.options.go_backwards):
        x_t, before, used = x[:, t], (h, c), None
        if step_flags is not None:
            used, reset = ((step_flags[:, t, None] & bit) != 0 for bit in (KEEP, RESET))
            h, c = before = torch.where(reset, 0, h), torch.where(reset, 0, c)
            x_t, h, c = (torch.where(used, value, 0) for value in (x_t, h, c))  # no overflow in gradients
        z = raw_gates(_masked(x_t, d.dropout_mask), _masked(h, d.recurrent_dropout_mask), W, R, b, torch)
        _, h, c = step(z, c, d.options, torch)
        if used is not None:
            h, c = (torch.where(used, after, value) for after, value in zip((h, c), before, strict=True))
        hs.append(h)
    return h, c, torch.stack(hs, 1)


def _masked(value: Tensor, mask: Tensor | None) -> list[Tensor]:
    """Multiplies the value with the dropout mask of each gate: one tensor for each gate."""
    return [value] * 4 if mask is None else [value * m for m in mask.expand(4, -1, -1)]


def _pull(
    function: Callable[[list[Tensor]], list[Tensor | None]],
    sources: Sequence[Tensor],
    wanted: Wanted,
    cotangents: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Computes the wanted gradients of the sources, from the cotangents of the results of `function(sources)`.

    Each source counts as an independent variable, even if it was computed from another source.
    """
    seeds = [None if t is None else none_if_placeholder(t) for t in cotangents]
    again, wanted = (
        torch.is_grad_enabled(),
        [bool(w) and none_if_placeholder(t) is not None for w, t in zip(wanted, sources, strict=True)],
    )
    if not any(wanted) or all(seed is None for seed in seeds):
        return [None] * len(sources)

    def run(*chosen: Tensor) -> tuple[Tensor, ...]:
        rest = iter(chosen)
        results = function([next(rest) if w else t for w, t in zip(wanted, sources, strict=True)])
        return tuple(y for y, seed in zip(results, seeds, strict=True) if y is not None and seed is not None)

    chosen, given_seeds = (
        [t for t, w in zip(sources, wanted, strict=True) if w],
        tuple(t for t in seeds if t is not None),
    )
    if transforms_active():  # there `requires_grad` of an outer level's tensor does not tell
        found = iter(torch.func.vjp(run, *chosen)[1](given_seeds))
    else:  # `vjp` takes no hooks on saved tensors
        with torch.enable_grad():
            views = [t.view_as(t) for t in chosen]
            apart = [t if t.requires_grad else t.detach().requires_grad_() for t in views]
            pairs = [(y, seed) for y, seed in zip(run(*apart), given_seeds, strict=True) if y.requires_grad]
            outputs, residuals = zip(*pairs, strict=True)
            found = iter(torch.autograd.grad(outputs, apart, residuals, create_graph=again, allow_unused=True))
    return [next(found) if w else None for w in wanted]
