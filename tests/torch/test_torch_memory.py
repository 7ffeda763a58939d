"""What a call leaves of the tensors it was given: PyTorch can resize them, as it must in FSDP and with `out=`."""

import os
import socket

import numpy as np
import pytest
import torch

from glasscell._ops.torch_compat import array_of
from glasscell.torch import LSTM
from torch_pairs import agree, flat, twins


@pytest.mark.parametrize("use", ["inference", "training", "trace"])
def test_tensors_can_be_resized_after_a_call(use):
    lstm, x = LSTM(3, 4, 2, bidirectional=True), torch.randn(5, 2, 3)
    hx = torch.randn(4, 2, 4), torch.randn(4, 2, 4)
    steps = {"lengths": torch.tensor([3, 5]), "mask": torch.ones(5, 2, dtype=torch.bool)}
    given, gradient = [x, *hx, *steps.values(), *lstm.parameters()], torch.ones(5, 2, 8)
    if use == "trace":
        lstm.trace(x, hx, **steps)
    else:
        with torch.set_grad_enabled(use == "training"):
            y, _ = lstm(x, hx, **steps)
        assert lstm.engine_used == "native"
        given += flat(lstm(x, hx))
    if use == "training":
        y.backward(gradient)
        given.append(gradient)
    assert all(t.untyped_storage().resizable() for t in given)
    torch.cat([torch.ones(7, 2, 3)], out=x.resize_(0))
    assert x.shape == (7, 2, 3)


def test_arrays_show_the_tensor():
    z = torch.randn(3, 2, dtype=torch.complex64)
    plain = torch.randn(2, 3)
    for t in (plain, plain.t(), plain[:, 1:], torch.tensor(3.0), z.conj().imag, torch.nn.Parameter(plain.double())):
        array, expected = array_of(t), t.numpy(force=True)
        assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
        assert array.flags.c_contiguous
        np.testing.assert_array_equal(array, expected)
    assert array_of(plain).ctypes.data == plain.data_ptr()
    alone = array_of(torch.full((100_000,), 3.0))
    torch.zeros(100_000)
    assert (alone == 3).all()


@pytest.fixture
def mesh():
    """A mesh of this process alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    yield torch.distributed.init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor:UserWarning")  # torch's, batch first
@pytest.mark.parametrize("alone", [True, False])
def test_sharded_by_fsdp(mesh, alone):
    """By itself and as a part of what is sharded: trained beside torch's, natively."""
    theirs, mine = twins(3, 4, batch_first=True)
    models = [torch.nn.Sequential(lstm) for lstm in (theirs, mine)]
    x, results = torch.randn(2, 5, 3), []
    for model in models:
        torch.distributed.fsdp.fully_shard(model[0] if alone else model, mesh=mesh)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(2):
            optimizer.zero_grad()
            outputs = flat(model(x))
            sum(t.square().sum() for t in outputs).backward()
            optimizer.step()
        results.append([*outputs, *(p.grad.full_tensor() for p in model.parameters())])
    assert mine.engine_used == "native"
    agree(*reversed(results))
