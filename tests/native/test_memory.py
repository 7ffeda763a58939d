"""Memory of a gradient: the tape, the checkpoints kept in its place, and the backward pass itself."""

import dataclasses

import numpy as np
import pytest

import pages
from cases import make_case
from compare import assert_same_bits, assert_same_results
from fresh import output_of
from glasscell import LSTM
from glasscell._ops.call import Call
from glasscell._ops.numpy import run
from preload import run_with

CHUNK, CHUNKS = 60, 6


def assert_same_from_less(case, dtype):
    """Compares outputs and gradients of the tape and of the checkpoints, and each once more."""
    arguments, cotangents = case.arguments(dtype), case.cotangents(dtype)
    rnn = case.layer("native", dtype)
    y, pullback = rnn.vjp(**arguments)
    y_less, pullback_less = rnn.vjp(**arguments, recompute=True)
    assert_same_bits(y_less, y, case)
    expected = pullback(*cotangents)
    for again in (pullback_less, pullback_less, pullback):
        assert_same_results(again(*cotangents), expected, case)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_same_bits_from_less(chunk, dtype):
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        assert_same_from_less(make_case(seed), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(12))
def test_the_same_bits_over_many_time_blocks(seed, dtype):
    """Long sequences of few rows, with everything that a step can do at the edges of time blocks."""
    assert_same_from_less(make_case(3 * seed, largest=(5, 1, 9, 20), steps=700 + 37 * seed), dtype)


def tape_bytes(B, T, H, keep, **arguments):
    cell = LSTM(H, **arguments).build(4, seed=0).cell
    x = np.ones((B, T, 4), np.float32)
    residuals = run(Call.checked(cell.weights, cell.options(), x), keep, "native").residuals
    return sum(getattr(residuals, field.name).nbytes for field in dataclasses.fields(residuals))


@pytest.mark.parametrize(("B", "T", "H"), [(1, 4096, 64), (4, 4096, 64), (32, 100, 50), (300, 7, 33)])
def test_tape(B, T, H):
    """24 bytes for each of B T H: h, c and four gates. Long sequences do with a quarter: h, and some cell states."""
    assert tape_bytes(B, T, H, "tape") <= 24 * B * T * H * 1.02
    for activation in ("tanh", "silu") if T == 4096 else ():  # with and without raw gates on the tape
        assert tape_bytes(B, T, H, "checkpoints", activation=activation) <= 6 * B * T * H


PEAKS = """
import ctypes, sys
import numpy as np
from glasscell import LSTM, set_num_threads
library = ctypes.CDLL(None)
alive, most = library.bytes_alive, library.most_bytes_alive
alive.restype = most.restype = ctypes.c_long
B, T, I, H, threads, recompute = map(int, sys.argv[1:])
set_num_threads(threads)
layer = LSTM(H, return_sequences=True, engine="native").build(I, seed=0)
x, dy = np.ones((B, T, I), np.float32), np.ones((B, T, H), np.float32)
layer(x[:1, :1])  # packs the weights, which the cell keeps
before = alive()
y, pullback = layer.vjp(x, recompute=bool(recompute))
kept = alive() - before - y.nbytes
before = alive()
library.forget_most()
gradients = pullback(dy)
results = sum(v.nbytes for v in vars(gradients).values())
print(kept, most() - before - results, results)
"""


@pytest.mark.parametrize("recompute", [0, 1])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sizes", [(8, 2048, 8, 128), (1, 4096, 8, 64), (64, 256, 16, 64)])
def test_all_that_is_allocated(sizes, threads, recompute):
    """The allocator counts the bytes that `vjp` leaves beside its output, and the most that its gradient takes for a
    while beside its results. The first is the tape, and a copy of x, which is the caller's. The second does not grow
    with T: the weights packed, and for one time block of 256 steps, or two where there are threads for two, the
    gradients of the gates and where the steps stand; with `recompute` the gates and the other packs too.
    """
    B, T, I, H = sizes
    kept, extra, results = map(int, run_with("count_allocations.cpp", "-c", PEAKS, *sizes, threads, recompute).split())
    assert results >= 4 * (B * T * I + (I + H) * 4 * H)
    assert kept <= (24 / 4 if recompute else 24 * 1.02) * B * T * H + 4 * B * T * I
    span, weights = 256 * (4 * H + I + H), 4 * H * (I + H + 1)
    assert extra <= ((threads + recompute) * span + (1 + recompute) * 2 * weights) * 4
    if T == 2048:
        assert extra <= 8 * B * T * H / 4  # far less than what such a pass needs with all of the gates' gradients


ADVISED = """
import sys
import numpy as np
from glasscell import LSTM
from pages import advised
layer = LSTM(int(sys.argv[1]), engine="native").build(256, seed=0)
before = sum(map(len, advised()))
layer(np.ones((1, 1, 256), np.float32))  # packs the weights
print(before, sum(map(len, advised())))
"""


@pages.needed
@pytest.mark.parametrize(("units", "least"), [(64, 0), (512, 4 * 2048 * (1 + 256 + 512))])
def test_large_blocks_ask_for_large_pages(units, least):
    printed = output_of("-c", ADVISED, units, NUMPY_MADVISE_HUGEPAGE="0")  # NumPy asks too, and must not here
    before, after = map(int, printed.split())
    assert before == 0
    assert (after >= least) if least else (after == 0)
