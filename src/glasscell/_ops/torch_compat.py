"""The parts of PyTorch that glasscell uses beyond its public interface, each with the reason.

tests/torch/test_torch_compat.py names the one that PyTorch has moved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PLAIN = (Tensor, torch.nn.Parameter)  # the classes of tensors without operations of their own


def transforms_active() -> bool:
    """Tells whether a transform of `torch.func` is at work. PyTorch has no public question for it."""
    active: bool = torch._C._are_functorch_transforms_active()
    return active


def is_batched_cotangent(tensor: Tensor) -> bool:
    """Tells whether `torch.autograd.grad(..., is_grads_batched=True)` made a tensor.

    Its `vmap` is older than that of `torch.func`: `transforms_active` does not see it, and nothing public does.
    """
    batched: bool = torch._C._functorch.is_legacy_batchedtensor(tensor)
    return batched


def has_own_operations(tensor: Tensor) -> bool:
    """Tells whether a tensor's class overrides PyTorch's operations.

    The public `torch.overrides.has_torch_function` says so of every tensor while some modes are on.
    """
    if type(tensor) in PLAIN:
        return False
    own = getattr(type(tensor).__torch_function__, "__func__", None)
    return own not in (None, Tensor.__torch_function__.__func__)


def flat_weights(module: torch.nn.RNNBase, refresh: bool = True) -> list[Any]:
    """The weights of an RNN in the order in which PyTorch's own pass reads them.

    The list may hold other tensors than the parameters: those of a parametrization, or what a user has put there.
    refresh: read the attributes anew, which evaluates parametrizations.
    """
    if refresh:
        module._update_flat_weights()
    weights: list[Any] = module._flat_weights
    return weights


def is_hooked(module: torch.nn.Module) -> bool:
    """Tells whether PyTorch calls somebody's function before or after a module. It offers no other way to ask."""
    hooks = module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks
    return any(hooks)


def openmp_library() -> str:
    """The path of the library that has the functions of PyTorch's OpenMP runtime. PyTorch has no name for it."""
    return str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")
