"""What `torch_compat` takes of PyTorch beyond its public interface is as it was when it was taken."""

import sys
from pathlib import Path

import pytest
import torch
from torch import func
from torch.nn.utils.parametrize import register_parametrization
from torch.utils._python_dispatch import TorchDispatchMode

from glasscell._ops import torch_compat as compat

MOVED = "PyTorch has moved {}: see src/glasscell/_ops/torch_compat.py"


@pytest.mark.filterwarnings("ignore:.torch.jit.*deprecated:DeprecationWarning")  # PyTorch's own, of its forward mode
@pytest.mark.parametrize("transform", [func.grad, func.vmap, lambda f: lambda x: func.jvp(f, (x,), (x,))])
def test_transforms_are_seen(transform):
    seen = []

    def note(x):
        seen.append(compat.transforms_active())
        return x.sum()

    transform(note)(torch.ones(2))
    assert (seen, compat.transforms_active()) == ([True], False), MOVED.format("_are_functorch_transforms_active")


def test_batches_of_cotangents_are_seen():
    seen, x = [], torch.ones(2, requires_grad=True)
    y = 2 * x
    y.register_hook(lambda g: seen.append((compat.is_batched_cotangent(g), compat.transforms_active())))
    torch.autograd.grad(y, x, torch.eye(2), is_grads_batched=True, retain_graph=True)
    torch.autograd.grad(y, x, torch.ones(2))
    assert seen == [(True, False), (False, False)], MOVED.format("is_legacy_batchedtensor")


class Heir(torch.Tensor):
    """Inherits PyTorch's operations."""


class Own(torch.Tensor):
    """Has operations of its own."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return super().__torch_function__(function, types, args, kwargs)


@pytest.mark.parametrize("mode", [torch.no_grad(), torch.device("cpu")], ids=["no mode", "a mode for functions"])
def test_operations_of_a_class_are_seen(mode):
    plain = torch.ones(2)
    tensors = plain, torch.nn.Parameter(plain), plain.as_subclass(Heir), plain.as_subclass(Own)
    with mode:
        found = [compat.has_own_operations(t) for t in tensors]
    assert found == [False, False, False, True], MOVED.format("Tensor.__torch_function__")


def test_flat_weights_are_those_of_the_pass():
    module, moved = torch.nn.LSTM(3, 4, 2, bidirectional=True), MOVED.format("_flat_weights")
    assert all(a is b for a, b in zip(compat.flat_weights(module), module.parameters(), strict=True)), moved
    x, by_hand = torch.ones(5, 1, 3), torch.zeros(16, 3)
    before = module(x)[0]
    module._flat_weights[0] = by_hand
    assert compat.flat_weights(module)[0] is by_hand, moved
    assert not torch.equal(module(x)[0], before), moved
    register_parametrization(module, "weight_hh_l0", torch.nn.Tanh())
    old = compat.flat_weights(module, refresh=False)[1]
    assert compat.flat_weights(module)[1] is not old, MOVED.format("_update_flat_weights")


@pytest.mark.parametrize("kind", ["forward_pre_hook", "forward_hook", "full_backward_pre_hook", "full_backward_hook"])
def test_hooks_are_seen(kind):
    module = torch.nn.Linear(2, 2)
    assert not compat.is_hooked(module)
    getattr(module, f"register_{kind}")(lambda *_: None)
    assert compat.is_hooked(module), MOVED.format(f"the dictionary of register_{kind}")


@pytest.mark.skipif(sys.platform != "linux", reason="the name of a shared library on Linux")
def test_the_library_of_the_threads_is_there():
    assert Path(compat.openmp_library()).is_file(), MOVED.format("libtorch_cpu.so")


def test_modes_below_autograd_are_seen():
    class Mode(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            return function(*args, **(kwargs or {}))

    assert not compat.dispatch_modes_active()
    with Mode():
        assert compat.dispatch_modes_active(), MOVED.format("_len_torch_dispatch_stack")
    assert not compat.dispatch_modes_active()


def test_weights_that_are_parameters_are_seen():
    module, moved = torch.nn.LSTM(3, 4), MOVED.format("_flat_weight_refs")
    assert compat.own_weights(module) is module._flat_weights, moved
    seen = []
    module.forward = lambda x: seen.append(compat.own_weights(module))
    func.functional_call(module, {"bias_hh_l0": torch.zeros(16)}, (torch.ones(2, 3),))
    module._parameters["bias_hh_l0"] = torch.nn.Parameter(torch.ones(16))
    seen.append(compat.own_weights(module))
    assert seen == [None, None], moved
    module._update_flat_weights()
    assert compat.own_weights(module)[3] is module.bias_hh_l0, moved
    register_parametrization(module, "weight_hh_l0", torch.nn.Tanh())
    assert compat.own_weights(module) is None, moved


def test_memory_is_that_of_the_tensor():
    tensor = torch.arange(6.0).view(2, 3)
    array = compat.array_at(tensor.data_ptr(), tensor.shape, tensor.dtype)
    array[1, 2] = 9
    assert tensor[1, 2] == 9
    for t in (tensor, tensor.t(), tensor[:, 1:], tensor[:0], torch.complex(tensor, tensor).conj().imag):
        assert (compat.memory_of(t) == t.numpy(force=True)).all()
        assert compat.memory_of(t).shape == t.shape
