"""The bits do not follow the caller's rounding mode, nor its flushing of subnormal numbers; both stay as they were."""

import contextlib
import ctypes

import numpy as np
import pytest

from compare import assert_same_bits
from fresh import run_python
from glasscell import LSTM, Stream
from glasscell._ops import operands as directions
from glasscell._ops.operands import Operands, flatten
from preload import library

B, T, I, H = 8, 40, 24, 64  # work for two threads
STATES = [(0, 1), (1, 0), (2, 0), (3, 0), (2, 1)]  # to the nearest, down, up, to zero; flushing or not


def small(*shape, seed=0):
    """Numbers around the smallest normal float32: products and sums of them are subnormal."""
    return (np.random.default_rng(seed).standard_normal(shape) * 2.0**-126).astype(np.float32)


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


def layer(**options):
    return LSTM(H, return_sequences=True, use_bias=False, engine="native", **options).build(I, seed=0)


def forward():
    rnn, x = layer(), small(B, T, I)
    return lambda: [rnn(x), *rnn.trace(np.ones_like(x)).asdict().values()]


def pack():
    """The packing too happens in that state."""
    rnn, x = layer(), small(B, T, I)
    weights = [w.copy() for w in rnn.cell.weights if w is not None]

    def call():
        rnn.cell.set_weights(weights)
        return [rnn(x)]

    return call


def backward():
    rnn, x, dy = layer(activation="silu"), np.ones((B, T, I), np.float32), small(B, T, H)
    return lambda: list(vars(rnn.vjp(x)[1](dy)).values())


def recomputed():
    rnn, x, dy = layer(), np.ones((B, T, I), np.float32), small(B, T, H)
    return lambda: list(vars(rnn.vjp(x, recompute=True)[1](dy)).values())


def team():
    rnn = LSTM(512, return_sequences=True, use_bias=False, engine="native").build(512, seed=0)
    x = small(1, 3, 512)
    return lambda: [rnn(x)]


def stream():
    rnn, x = LSTM(512, use_bias=False, engine="native").build(I, seed=0), small(2, 3, I)

    def call():
        one = Stream(rnn, 2)
        return [one.step(x[:, t]).copy() for t in range(3)]

    return call


def both(transposed_weights):
    turned = (lambda a: np.ascontiguousarray(a.T)) if transposed_weights else (lambda a: a)
    own = []
    for back in (False, True):
        cell = layer().cell
        kernels = map(turned, cell.weights[:2])
        states = small(2, B, H, seed=1)
        own.append(Operands(cell.options(back), *kernels, None, *states, transposed_weights=transposed_weights))
    absent = np.empty(0, np.float32)
    tensors, codes = flatten(own, absent)
    x, dy, steps = small(B, T, I), small(B, T, H, seed=2), np.empty(0, np.uint8)

    def call():
        kept = directions.forward(x, steps, tensors, codes, True, True)
        return kept + directions.backward(x, steps, tensors, codes, kept, [absent, absent, dy] * 2)

    return call


CALLS = [forward, pack, backward, recomputed, team, stream, lambda: both(False), lambda: both(True)]
NAMES = ["forward", "pack", "backward", "recomputed", "team", "stream", "both", "both outputs first"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 2])
def test_bits_do_not_follow_the_state_of_the_caller(processor, threads, name, count):
    call = CALLS[NAMES.index(name)]()
    threads(count)
    expected = [value for value in call() if value is not None]
    floats = [value for value in expected if value.dtype == np.float32]
    assert any(((value != 0) & (np.abs(value) < np.finfo(np.float32).tiny)).any() for value in floats)
    for rounding, flush in STATES:
        with state(processor, rounding, flush):
            got = [value for value in call() if value is not None]
        for one, other in zip(got, expected, strict=True):
            if one.dtype == np.float32:
                assert_same_bits(one, other, f"{name}, rounding {rounding}, flush {flush}")


WORKERS = """
import ctypes, sys
import numpy as np
from compare import assert_same_bits
from glasscell import LSTM, set_num_threads
from test_float_state import small
processor = ctypes.CDLL(sys.argv[1])
rnn = LSTM(64, return_sequences=True, use_bias=False, engine="native").build(24, seed=0)
x = small(8, 40, 24)
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
    done = run_python("-c", WORKERS, path)
    assert done.returncode == 0, done.stderr


def test_torch_flushes_its_own_subnormal_numbers_alone():
    torch = pytest.importorskip("torch")
    import glasscell.torch

    lstm, x = glasscell.torch.LSTM(I, H, bias=False, bidirectional=True), torch.from_numpy(small(T, B, I))

    def call():
        lstm.zero_grad()
        y, _ = lstm(x)
        y.sum().backward()
        return y, *(p.grad.clone() for p in lstm.parameters())

    expected = call()
    assert torch.set_flush_denormal(True)
    try:
        got = call()
        assert float(torch.tensor([1e-39]) * 1) == 0  # it is still on
    finally:
        torch.set_flush_denormal(False)
    for one, other in zip(got, expected, strict=True):
        assert_same_bits(one.detach().numpy(), other.detach().numpy())
