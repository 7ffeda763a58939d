"""The bits do not follow the caller's rounding mode, nor its flushing of subnormal numbers; both stay as they were."""

import contextlib
import ctypes

import numpy as np
import pytest

import out_of_memory as calls
from compare import assert_same_results
from fresh import output_of
from preload import library

STATES = [(0, 1), (1, 0), (2, 0), (3, 0), (2, 1)]  # to the nearest, down, up, to zero; flushing or not
SMALLEST = 2.0**-126  # the smallest normal float32: products and sums of numbers around it are subnormal


@pytest.fixture(scope="module")
def processor():
    _, path = library("float_state.cpp")
    return ctypes.CDLL(str(path))


@contextlib.contextmanager
def state(processor, rounding, flush):
    assert processor.set_float_state(rounding, flush) == 0
    before = processor.float_state()
    try:
        yield
        assert processor.float_state() == before
    finally:
        processor.set_float_state(0, 0)


CALLS = [calls.forward, calls.pack, calls.vjp, calls.vjp_from_checkpoints, calls.team, calls.stream, calls.both,
         calls.both_transposed]  # fmt: skip


@pytest.mark.parametrize("make", CALLS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("count", [1, 2])
def test_bits_do_not_follow_the_state_of_the_caller(processor, threads, make, count):
    call = make(SMALLEST)
    threads(count)
    expected = call()
    assert any(((value != 0) & (np.abs(value) < np.finfo(np.float32).tiny)).any() for value in expected)
    for rounding, flush in STATES:
        with state(processor, rounding, flush):
            got = call()
        assert_same_results(got, expected, f"rounding {rounding}, flush {flush}")


WORKERS = """
import ctypes, sys
import numpy as np
from compare import assert_same_bits
from glasscell import set_num_threads
from out_of_memory import layer, x
from test_float_state import SMALLEST
processor = ctypes.CDLL(sys.argv[1])
rnn, x = layer(SMALLEST), np.float32(SMALLEST) * x
set_num_threads(1)
expected = rnn(x)
assert processor.set_float_state(2, 1) == 0
set_num_threads(2)
for _ in range(200):
    assert_same_bits(rnn(x), expected)
"""


def test_workers_that_begin_in_another_state():
    """A thread inherits the state of the one that starts it."""
    _, path = library("float_state.cpp")
    output_of("-c", WORKERS, path)


def test_torch_flushes_its_own_subnormal_numbers_alone():
    torch = pytest.importorskip("torch")
    import glasscell.torch

    lstm = glasscell.torch.LSTM(calls.I, calls.H, bias=False, batch_first=True, bidirectional=True)
    x = torch.from_numpy(np.float32(SMALLEST) * calls.x)

    def call():
        y, _ = lstm(x)
        return y, torch.autograd.grad(y.sum(), list(lstm.parameters()))

    expected = call()
    assert torch.set_flush_denormal(True)
    try:
        got = call()
        assert float(torch.tensor([1e-39]) * 1) == 0  # it is still on
    finally:
        torch.set_flush_denormal(False)
    assert_same_results(got, expected)
