"""Runs the native engine as a PyTorch operation for the layers; `torch_rules` defines its operators and gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glasscell._ops import torch_equations as equations
from glasscell._ops.operands import OUTPUTS, Operands, each, flatten
from glasscell._ops.torch_compat import transforms_active
from glasscell._ops.torch_eligibility import why_in_torch, why_not_available
from glasscell._ops.torch_rules import backward, forward, forward_pass, placeholders
from glasscell._ops.torch_threads import use_openmp_threads

__all__ = ["backward", "forward", "run", "run_on", "why_in_torch", "why_not_available"]

Pass = tuple[Tensor | None, Tensor, Tensor]
_not_compiled = torch.compiler.disable(equations.forward)  # kept out of compiled code, which has no forward mode


def run(
    x: Tensor, step_flags: Tensor | None, directions: Sequence[Operands], sequences: bool, training: bool
) -> list[Pass]:
    """Runs each direction over `x: (B, T, I)`, all of one dtype, float32 or float64.

    step_flags: as `Call.step_flags`.

    Returns for each direction `h: (B, T, H)` in processing order, or None unless `sequences`, and the final h and c,
    (B, H). The gradient keeps this h: a caller who gives it to a user must copy it, for the user may write into it.
    Differentiable in x, the weights and the initial states. `training` is ignored: autograd asks for the tape.
    """
    return run_on("auto", x, step_flags, directions, sequences)[1]


def run_on(
    engine: str, x: Tensor, step_flags: Tensor | None, directions: Sequence[Operands], sequences: bool
) -> tuple[str, list[Pass]]:
    """Runs as `run`. Returns the engine that ran, "native" or "framework" (PyTorch's operations), and `run`'s results.

    Raises: ValueError for the engine "native" where it cannot run the call, with the reason.
    """
    placeholder, no_flags = placeholders(x)
    inputs, option_codes = flatten(directions, placeholder)
    step_flags = no_flags if step_flags is None else step_flags
    reason = why_in_torch(x, *inputs)
    if reason is None:
        engine, results = "native", forward_pass(x, step_flags, inputs, option_codes, sequences)
    elif engine == "native":
        raise ValueError(f"engine: 'native' cannot serve: {reason}")
    else:
        in_torch = equations.forward if transforms_active() else _not_compiled
        engine, results = "framework", each(in_torch(x, step_flags, inputs, option_codes), OUTPUTS)
    return engine, [(h if sequences else None, hT, cT) for hT, cT, h in results]


use_openmp_threads()
