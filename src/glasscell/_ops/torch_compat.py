"""The parts of PyTorch that glasscell uses beyond its public interface, each with the reason.

tests/torch/test_torch_compat.py names the one that PyTorch has moved.
"""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

PLAIN = (Tensor, torch.nn.Parameter)  # the classes of tensors without operations of their own


def transforms_active() -> bool:
    """Tells whether a transform of `torch.func` is at work. PyTorch has no public question for it."""
    active: bool = torch._C._are_functorch_transforms_active()
    return active


def dispatch_modes_active() -> bool:
    """Tells whether a mode looks at each operation below autograd, as that of `make_fx`. Nothing public does."""
    depth: int = torch._C._len_torch_dispatch_stack()
    return depth > 0


class _Memory:
    """Shows NumPy the memory of a tensor, and keeps it alive."""

    __slots__ = ("__array_interface__", "tensor")
    __array_interface__: dict[str, Any]
    tensor: Tensor


TYPES = {t: np.dtype(str(t).removeprefix("torch.")).str for t in (torch.float32, torch.float64, torch.uint8)}


def array_of(tensor: Tensor) -> Any:
    """A tensor on the CPU, float32 or float64, as an aligned array to read, without a copy where it can be.

    `Tensor.numpy` gives one too, but PyTorch never resizes that memory again, as FSDP and `out=` have to.
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
    """`array_of`, in half its time, for as long as the caller holds the tensor; of bytes too, perhaps not aligned."""
    address = tensor.data_ptr()
    if tensor.is_contiguous() and not tensor.is_neg() and (address or not tensor.numel()):
        return array_at(address, tensor.shape, tensor.dtype)
    return array_of(tensor)


@lru_cache(1024)  # parameters stay where they are, and others come back to the same places
def array_at(address: int, shape: tuple[int, ...], dtype: torch.dtype) -> Any:
    """The memory of a contiguous tensor, at its `data_ptr()`, as an array, for as long as the caller holds the tensor.

    It takes a quarter of the time of `array_of`. The array says where and in which shape, so that it cannot be out of
    date; whoever asks has seen the tensor there.
    """
    shown = _Memory()
    shown.__array_interface__ = {"shape": tuple(shape), "typestr": TYPES[dtype], "data": (address, False), "version": 3}
    return np.asarray(shown)


def copy_in_inference(module: torch.nn.RNNBase) -> Any:
    """A thin copy of an RNN, in inference: with the RNN's own parameters and hooks, and copies of its parts.

    `copy.copy` refuses parametrized modules, and `eval` of its copies would reach the parts of the module itself. A
    pass may write into the list of weights, and what `module.compile` has compiled has seen no trace.
    """
    own = {"_modules": deepcopy(module._modules), "_flat_weights": list(module._flat_weights)}
    copy: Any = object.__new__(type(module))  # the class that FSDP makes has another `__new__`
    vars(copy).update(vars(module) | own, _compiled_call_impl=None)
    return copy.eval()


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
    if refresh and own_weights(module) is None:
        module._update_flat_weights()
    weights: list[Any] = module._flat_weights
    return weights


def own_weights(module: torch.nn.RNNBase) -> list[Any] | None:
    """`flat_weights` where each attribute is a parameter, and the one that the list was made of; elsewhere None.

    There `_update_flat_weights` does nothing, and takes eight times as long to find out.
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
    """Tells whether PyTorch calls somebody's function before or after a module. It offers no other way to ask."""
    hooks = module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks
    return any(hooks)


def openmp_library() -> str:
    """The path of the library that has the functions of PyTorch's OpenMP runtime. PyTorch has no name for it."""
    return str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")
