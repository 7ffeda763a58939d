"""The same bits: for every instruction set, batch, chunking, padding, number of threads and team, traced or not.

Each test compares bits, forward and gradients, in float32 and, where cheap, in float64.
"""

import dataclasses
import functools
import json

import numpy as np
import pytest

from cases import GRADIENTS, make_case, run
from compare import assert_same_bits
from fresh import HERE, run_python
from glasscell import LSTM, RNN, _native
from glasscell._cells.layouts import LSTMWeights
from preload import library

DTYPES = [np.float32, np.float64]


@functools.cache
def digest(target):
    done = run_python(HERE / "digest.py", **({"GLASSCELL_TARGET": target} if target else {}))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("target", _native.targets())
def test_every_instruction_set_gives_the_same_bits(target):
    forced, default = digest(target), digest(None)
    assert forced["target"] == target
    assert default["target"] == _native.targets()[0]
    assert forced["digest"] == default["digest"]


def test_an_unknown_instruction_set_is_an_error():
    done = run_python("-c", "import glasscell", GLASSCELL_TARGET="sse9")
    assert done.returncode != 0
    message = done.stderr.strip().splitlines()[-1]
    assert "GLASSCELL_TARGET" in message
    assert "'sse9'" in message
    assert all(name in message for name in _native.targets())


def rows(case, which):
    """The case with only these rows of its batch."""
    batch_axis = {"dropout_mask": -2, "recurrent_dropout_mask": -2}

    def pick(name, value):
        if value is None:
            return None
        if isinstance(value, tuple):
            return tuple(v[which] for v in value)
        return np.take(value, which, axis=batch_axis.get(name, 0))

    options = {name: pick(name, value) for name, value in case.options.items()}
    return dataclasses.replace(
        case, x=case.x[which], dy=case.dy[which], dstate=pick("dstate", case.dstate), options=options
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(24))
def test_a_row_alone_or_in_a_batch(seed, dtype):
    """All that belongs to a row: also the gradients of its inputs and states, not the sums over the batch."""
    case = make_case(seed, largest=(20, 12, 40, 40))
    whole = run(case, "native", dtype)
    of_rows = [name for name in whole if name not in ("d_kernel", "d_recurrent_kernel", "d_bias")]
    B = len(case.x)
    for which in ([0], [B - 1], list(range(0, B, 2)), list(range(B))[::-1]):
        part = run(rows(case, which), "native", dtype)
        for name in of_rows:
            assert_same_bits(part[name], whole[name][which], f"{name}, rows {which} of {case}")


def steps(case, begin, end, state):
    """The case's steps begin..end-1, from this state."""
    options = {**case.options, "initial_state": state}
    for name in ("mask", "reset"):
        if options[name] is not None:
            options[name] = options[name][:, begin:end]
    if options["lengths"] is not None:
        options["lengths"] = np.clip(options["lengths"] - begin, 0, end - begin)
    return dataclasses.replace(case, x=case.x[:, begin:end], options=options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(24))
def test_whole_or_in_chunks(seed, dtype):
    case = make_case(seed, largest=(9, 20, 20, 40))
    flags = {"return_sequences": True, "zero_output_for_mask": case.flags["zero_output_for_mask"]}
    case = dataclasses.replace(case, flags=flags)
    T = case.x.shape[1]
    output, h, c = case.layer("native", dtype)(**case.arguments(dtype))
    trace = case.layer("native", dtype).trace(**case.arguments(dtype)).asdict()
    for size in {1, 3, max(T // 2, 1)}:
        state, outputs, traces = case.options["initial_state"], [], []
        for begin in range(0, T, size):
            chunk = steps(case, begin, min(begin + size, T), state)
            part, *state = chunk.layer("native", dtype)(**chunk.arguments(dtype))
            traces.append(chunk.layer("native", dtype).trace(**chunk.arguments(dtype)).asdict())
            outputs.append(part)
            state = tuple(state)
        assert_same_bits(np.concatenate(outputs, 1), output, case)
        assert_same_bits(state[0], h, case)
        assert_same_bits(state[1], c, case)
        for name, value in trace.items():
            if value.dtype == dtype:
                assert_same_bits(np.concatenate([part[name] for part in traces], 1), value, f"{name} of {case}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(24))
def test_traced_or_not(seed, dtype):
    """The state alone, the sequence, the tape for gradients and the whole trace keep different arrays."""
    case = make_case(seed, largest=(9, 20, 20, 40))
    arguments, layer = case.arguments(dtype), case.layer("native", dtype)

    def as_flagged(**flags):
        return RNN(layer.cell, go_backwards=layer.go_backwards, return_state=True, engine="native", **flags)

    last, h, c = as_flagged()(**arguments)
    sequence, h_, c_ = as_flagged(return_sequences=True)(**arguments)
    taped, _ = as_flagged(return_sequences=True).vjp(**arguments)
    taped_last, _ = as_flagged().vjp(**arguments)
    trace = layer.trace(**arguments)
    for got, expected in (
        (last, h), (h_, h), (c_, c), (taped, sequence), (taped_last, h),
        (trace.h, sequence), (trace.h[:, -1], h), (trace.c[:, -1], c),
    ):  # fmt: skip
        assert_same_bits(got, expected, case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(24))
def test_padded_or_not(seed, dtype):
    """Steps beyond the lengths, of NaN, used and reset as the masks may say there, change no bit of anything."""
    case = make_case(seed, largest=(9, 12, 20, 40))
    case = dataclasses.replace(case, flags={**case.flags, "return_sequences": True})
    B, T, _ = case.x.shape
    rng = np.random.default_rng(seed)
    if case.dy.ndim == 2:
        case = dataclasses.replace(case, dy=rng.standard_normal((B, T, case.dy.shape[1])).astype(np.float32))
    extra, backwards = 5, case.flags["go_backwards"]
    options = dict(case.options)
    options["lengths"] = np.full(B, T) if options["lengths"] is None else options["lengths"]
    for name in ("mask", "reset"):
        if options[name] is not None:
            options[name] = np.concatenate([options[name], rng.uniform(size=(B, extra)) < 0.5], 1)

    def pad(value, before, fill):
        width = [(0, 0), (extra, 0) if before else (0, extra), (0, 0)]
        return np.pad(value, width, constant_values=fill)

    x, dy = pad(case.x, False, np.nan), pad(case.dy, backwards, 0)
    expected = run(case, "native", dtype)
    got = run(dataclasses.replace(case, x=x, dy=dy, options=options), "native", dtype)
    real = slice(extra, None) if backwards else slice(T)  # of outputs, which come in processing order
    for name, value in expected.items():
        result = got[name]
        if name == "output" or name.startswith("trace."):
            result = result[:, real]
        if name == "d_x":
            assert not result[:, T:].any()
            result = result[:, :T]
        assert_same_bits(result, value, f"{name} of {case}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_later_call_leaves_earlier_results(dtype):
    """A second call on the same layer does not touch what the first one gave."""
    layer = LSTM(33, return_sequences=True, engine="native").build(5, seed=0, dtype=dtype)
    rng = np.random.default_rng(0)
    first = rng.standard_normal((4, 6, 5)).astype(dtype)
    y, pullback = layer.vjp(first)
    kept, gradients = y.copy(), pullback(y)
    copies = {name: getattr(gradients, name).copy() for name in GRADIENTS}
    _, again = layer.vjp(2 * first)
    again(kept)
    assert_same_bits(y, kept)
    for name, value in copies.items():
        assert_same_bits(getattr(gradients, name), value, name)


# B, T, I, H: too few rows to fill the tiles of all threads, and units and steps enough to share
# (native/engine/partition.cpp).
FEW_ROWS = [(1, 12, 30, 190), (2, 12, 30, 190), (3, 9, 17, 203), (4, 8, 40, 160), (5, 12, 1, 129), (6, 5, 33, 257),
            (7, 6, 64, 200)]  # fmt: skip


def few_rows(sizes):
    """A case of these sizes, with all that a step can do."""
    B, T, I, H = sizes
    rng, case = np.random.default_rng(B), make_case(B)

    def normal(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    odd = bool(B % 2)
    options = {
        "initial_state": (normal(B, H), normal(B, H)),
        "mask": rng.uniform(size=(B, T)) < 0.8 if odd else None,
        "lengths": rng.integers(1, T + 1, B) if B % 3 == 0 else None,
        "reset": rng.uniform(size=(B, T)) < 0.2 if odd else None,
        "dropout_mask": normal(4, B, I) if B == 5 else None,
        "recurrent_dropout_mask": normal(B, H) if B % 3 == 0 else None,
    }
    return dataclasses.replace(
        case,
        activation="tanh" if odd else "silu",
        recurrent_activation="sigmoid" if odd else "hard_sigmoid",
        flags={"return_sequences": True, "go_backwards": B % 4 == 2},
        weights=LSTMWeights(normal(I, 4 * H, scale=I**-0.5), normal(H, 4 * H, scale=H**-0.5), normal(4 * H, scale=0.3)),
        x=normal(B, T, I),
        options=options,
        dy=normal(B, T, H),
        dstate=(normal(B, H), normal(B, H)),
    )


def run_lean(case, dtype):
    """What `run` gives, and the gradients and the state from passes that keep less."""
    results, arguments = run(case, "native", dtype), case.arguments(dtype)
    gradients = case.layer("native", dtype).vjp(**arguments, recompute=True)[1](*case.cotangents(dtype))
    last = dataclasses.replace(case, flags={**case.flags, "return_sequences": False}).layer("native", dtype)
    names = ("last", "last.h", "last.c")
    results |= {f"recomputed {name}": getattr(gradients, name) for name in GRADIENTS}
    return results | dict(zip(names, last(**arguments), strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", FEW_ROWS, ids=str)
def test_any_number_of_threads_and_teams(threads, sizes, dtype):
    case = few_rows(sizes)
    threads(1)
    expected = run_lean(case, dtype)
    for name in GRADIENTS:
        assert_same_bits(expected[f"recomputed {name}"], expected[f"d_{name}"], f"{name} of {case}")
    for n in (2, 3, 7):
        threads(n)
        for name, value in run_lean(case, dtype).items():
            assert_same_bits(value, expected[name], f"{name} of {n} threads, {case}")


SEVEN = """
import os
import numpy as np
from compare import assert_same_bits
from glasscell import LSTM, Stream, set_num_threads
from test_bits import FEW_ROWS, few_rows, run_lean
assert len(os.sched_getaffinity(0)) == 7
for dtype in (np.float32, np.float64):
    layer, x = LSTM(512, return_sequences=True).build(400, seed=0, dtype=dtype), np.ones((1, 3, 400), dtype)
    cases = [few_rows(sizes) for sizes in FEW_ROWS]
    set_num_threads(1)
    expected, y = [run_lean(case, dtype) for case in cases], layer(x)
    for n in (3, 7):
        set_num_threads(n)
        for case, wanted in zip(cases, expected):
            for name, value in run_lean(case, dtype).items():
                assert_same_bits(value, wanted[name], f"{name} of {n} threads, {case}")
        stream = Stream(layer)
        assert_same_bits(np.stack([stream.step(x[:, t]).copy() for t in range(3)], 1), y)
"""


def test_how_bits_are_compared():
    one, other = np.array([0x7FC00123, 0xFFC00456], np.uint32).view(np.float32)
    assert_same_bits(one, other)
    number = np.float32(1)
    for got, expected in (
        (one, number),
        (number, one),
        (np.float32(-0.0), 0 * number),
        (number, np.nextafter(number, 2 * number)),
    ):
        with pytest.raises(AssertionError, match="1 of 1 differ"):
            assert_same_bits(got, expected)


@pytest.mark.parametrize("activation", ["tanh", "silu"])  # silu keeps its raw gates too
def test_large_tapes(activation):
    """A tape of some megabytes goes past the caches; that of each of its rows does not."""
    B, T, H = 24, 120, 64
    layer = LSTM(H, activation, return_sequences=True).build(5, seed=0)
    x = np.random.default_rng(0).standard_normal((B, T, 5)).astype(np.float32)
    whole = layer.trace(x)
    for b in range(0, B, 5):
        row = layer.trace(x[b : b + 1])
        for name in "hcifgo":
            assert_same_bits(getattr(row, name)[0], getattr(whole, name)[b], name)
    y, pullback = layer.vjp(x)
    assert_same_bits(y, whole.h)
    part, pullback_part = layer.vjp(x[:3])
    assert_same_bits(pullback(y).x[:3], pullback_part(part).x)


def test_large_teams():
    """A team only comes together where each member has a processor: here the process believes that it has seven."""
    _, path = library("seven_processors.cpp")
    done = run_python("-c", SEVEN, LD_PRELOAD=str(path))
    assert done.returncode == 0, done.stderr
