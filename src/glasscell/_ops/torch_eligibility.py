"""Decides whether the native operators can run on PyTorch's tensors, or PyTorch's own operations must."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from glasscell._ops.torch_compat import PLAIN, dispatch_modes_active, transforms_active

NATIVE = (torch.float32, torch.float64)  # the dtypes that the engine computes in


def why_not_available(x: Tensor) -> str | None:
    """Finds the reason why the operators cannot run on this input; None if they can."""
    if x.device.type not in ("cpu", "meta"):
        return f"the tensors are on {x.device.type}, and the native engine is for CPUs"
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return "the model is being exported, and what is exported must run without glasscell"
    if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    return None


def why_in_torch(x: Tensor, *tensors: Tensor | None) -> str | None:
    """Finds the reason why `run` uses PyTorch's operations for these tensors; None if it uses the operators."""
    compiling, transformed = torch.compiler.is_compiling(), transforms_active()
    if compiling and transformed:
        return "a transform of torch.func is being compiled"
    if forward_ad.unpack_dual(x).primal is x:
        return None  # no level of forward mode is open
    tangents = (forward_ad.unpack_dual(t).tangent is not None for t in (x, *tensors) if t is not None)
    if compiling or transformed or any(tangents):  # `compiling` and `transformed` hide tangents
        return "derivatives are taken in forward mode, and the native engine has gradients alone"
    return None


def at_hand(*tensors: Tensor) -> bool:
    """Tells whether the tensors' memory can be read now: no transform, no mode, no subclass, no meta tensors."""
    if transforms_active() or (not torch.compiler.is_compiling() and dispatch_modes_active()):
        return False
    return all(type(t) in PLAIN and not t.is_meta for t in tensors)


def nothing_between(x: Tensor) -> bool:
    """Tells whether this is plain eager code: no compiler, export, autocast, transform, mode or forward mode."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing():
        return False
    if torch.is_autocast_enabled("cpu") or transforms_active() or dispatch_modes_active():
        return False
    return forward_ad.unpack_dual(x).primal is x
