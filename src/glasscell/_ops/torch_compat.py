"""Wraps the private parts of PyTorch that glasscell uses, each with the reason.

tests/torch/test_torch_compat.py fails by name when PyTorch moves one.
"""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

PLAIN = (Tensor, torch.nn.Parameter)  # the classes of tensors that do not override operations


def transforms_active() -> bool:
    """Tells whether a transform of `torch.func` is active. PyTorch has no public way to ask."""
    active: bool = torch._C._are_functorch_transforms_active()
    return active


def dispatch_modes_active() -> bool:
    """Tells whether a dispatch mode intercepts operations, as in `make_fx`. PyTorch has no public way to ask."""
    depth: int = torch._C._len_torch_dispatch_stack()
    return depth > 0


class _Memory:
    """Shows NumPy the memory of a tensor, and keeps it alive."""

    __slots__ = ("__array_interface__", "tensor")
    __array_interface__: dict[str, Any]
    tensor: Tensor


TYPES = {t: np.dtype(str(t).removeprefix("torch.")).str for t in (torch.float32, torch.float64, torch.uint8)}


def array_of(tensor: Tensor) -> Any:
    """Views a float32 or float64 tensor on the CPU as an aligned read-only array; copies only where it must.

    `Tensor.numpy` is not used: PyTorch never again resizes memory that it has shared so, and FSDP and `out=` resize.
    """
    if not tensor.numel():
        return tensor.numpy(force=True)
    tensor = tensor.contiguous()
    shown = _Memory()
    shown.tensor = tensor = tensor.resolve_neg() if tensor.is_neg() else tensor
    shown.__array_interface__ = {
        "shape": tuple(tensor.shape),
        "typestr": TYPES[tensor.dtype],
        "data": (tensor.data_ptr(), True),
        "version": 3,
    }
    array = np.asarray(shown)
    return array if array.flags.aligned else array.copy()  # `torch.frombuffer` takes any address


def memory_of(tensor: Tensor) -> Any:
    """Views a tensor as `array_of`, in half the time. The view is valid only as long as the caller holds the tensor.

    The tensor may also be of uint8, and the array may be unaligned.
    """
    address = tensor.data_ptr()
    if tensor.is_contiguous() and not tensor.is_neg() and (address or not tensor.numel()):
        return array_at(address, tensor.shape, tensor.dtype)
    return array_of(tensor)


@lru_cache(1024)  # parameters keep their addresses, and other tensors often get an earlier address again
def array_at(address: int, shape: tuple[int, ...], dtype: torch.dtype) -> Any:
    """Views a contiguous tensor at the `address` of its memory as an array, valid while the caller holds the tensor.

    It takes a quarter of the time of `array_of`. The array holds only address, shape and dtype, so a cached one is
    never out of date; the caller knows that its tensor is at the address.
    """
    shown = _Memory()
    shown.__array_interface__ = {"shape": tuple(shape), "typestr": TYPES[dtype], "data": (address, False), "version": 3}
    return np.asarray(shown)


def copy_in_inference(module: torch.nn.RNNBase) -> Any:
    """Copies an RNN for inference: the copy shares its parameters and hooks, and has copies of its submodules.

    `copy.copy` refuses parametrized modules, and `eval` of such a copy would change the submodules of the original. The
    list of weights is copied because a pass may write into it. A compiled call is dropped: it records no trace.
    """
    own = {"_modules": deepcopy(module._modules), "_flat_weights": list(module._flat_weights)}
    copy: Any = object.__new__(type(module))  # not `type(module).__new__`: FSDP makes a class with another one
    vars(copy).update(vars(module) | own, _compiled_call_impl=None)
    return copy.eval()


def is_batched_cotangent(tensor: Tensor) -> bool:
    """Tells whether a tensor comes from `torch.autograd.grad(..., is_grads_batched=True)`.

    That uses a `vmap` older than `torch.func`'s, which `transforms_active` does not see. PyTorch has no public way to
    ask.
    """
    batched: bool = torch._C._functorch.is_legacy_batchedtensor(tensor)
    return batched


def has_own_operations(tensor: Tensor) -> bool:
    """Tells whether a tensor's class overrides PyTorch's operations.

    The public `torch.overrides.has_torch_function` is true for every tensor while some modes are active.
    """
    if type(tensor) in PLAIN:
        return False
    own = getattr(type(tensor).__torch_function__, "__func__", None)
    return own not in (None, Tensor.__torch_function__.__func__)


def flat_weights(module: torch.nn.RNNBase, refresh: bool = True) -> list[Any]:
    """Lists the weights of an RNN in the order in which PyTorch's own pass reads them.

    The list may hold other tensors than the parameters: those of a parametrization, or a user's own.
    refresh: read the attributes again, which evaluates parametrizations.
    """
    if refresh and own_weights(module) is None:
        module._update_flat_weights()
    weights: list[Any] = module._flat_weights
    return weights


def own_weights(module: torch.nn.RNNBase) -> list[Any] | None:
    """Returns `flat_weights` where every weight is still the parameter that the list was made from; else None.

    In that case `_update_flat_weights` would change nothing, and would take eight times as long to find out.
    """
    if torch.compiler.is_compiling():
        return None
    parameters = module._parameters
    for name, ref in zip(module._flat_weights_names, module._flat_weight_refs, strict=True):
        parameter = parameters.get(name)
        if parameter is None or ref is None or ref() is not parameter:
            return None
    weights: list[Any] = module._flat_weights
    return weights


def is_hooked(module: torch.nn.Module) -> bool:
    """Tells whether a module has hooks, forward or backward. PyTorch has no public way to ask."""
    hooks = module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks
    return any(hooks)


def openmp_library() -> str:
    """Returns the path of a library through which PyTorch's OpenMP runtime is found. PyTorch has no name for it."""
    return str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")
