"""Bits do not depend on instruction set, batch, chunks, padding, number of threads or thread groups, traced or not."""

import dataclasses
import functools
import json

import numpy as np
import pytest

from cases import GRADIENTS, assert_same_on_threads, make_case, run, sized_case
from compare import assert_same_bits, assert_same_results
from fresh import HERE, output_of, run_python
from glasscell import LSTM, RNN, _native
from preload import run_with

DTYPES = [np.float32, np.float64]


@functools.cache
def digest(target):
    return json.loads(output_of(HERE / "digest.py", **({"GLASSCELL_TARGET": target} if target else {})))


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
    assert all(word in message for word in ("GLASSCELL_TARGET", "'sse9'", *_native.targets()))


def rows(case, which):
    """The case with only these rows of its batch."""

    def pick(name, value):
        if value is None or isinstance(value, tuple):
            return value and tuple(v[which] for v in value)
        return np.take(value, which, axis=-2 if name.endswith("dropout_mask") else 0)

    options = {name: pick(name, value) for name, value in case.options.items()}
    dstate = pick("dstate", case.dstate)
    return dataclasses.replace(case, x=case.x[which], dy=case.dy[which], dstate=dstate, options=options)


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
    T, layer = case.x.shape[1], case.layer("native", dtype)

    def values(case):
        """The final state, and the arrays of every step."""
        output, *state = layer(**case.arguments(dtype))
        trace = layer.trace(**case.arguments(dtype)).asdict()
        return tuple(state), {"output": output, **{name: a for name, a in trace.items() if name != "mask"}}

    expected = values(case)
    for size in {1, 3, max(T // 2, 1)}:
        state, parts = case.options["initial_state"], []
        for begin in range(0, T, size):
            state, part = values(steps(case, begin, min(begin + size, T), state))
            parts.append(part)
        whole = {name: np.concatenate([part[name] for part in parts], 1) for name in parts[0]}
        assert_same_results((state, whole), expected, case)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(24))
def test_traced_or_not(seed, dtype):
    """The state alone, the sequence, the tape for gradients and the whole trace keep different arrays."""
    case = make_case(seed, largest=(9, 20, 20, 40))
    arguments, layer = case.arguments(dtype), case.layer("native", dtype)
    flags = {"go_backwards": layer.go_backwards, "return_state": True, "engine": "native"}
    short, long = (RNN(layer.cell, return_sequences=sequences, **flags) for sequences in (False, True))
    trace = layer.trace(**arguments)
    h, c = trace.h[:, -1], trace.c[:, -1]
    got = short(**arguments), long(**arguments), short.vjp(**arguments)[0], long.vjp(**arguments)[0]
    assert_same_results(got, ((h, h, c), (trace.h, h, c), h, trace.h), case)


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


# B, T, I, H: too few rows to fill the tiles of all threads, and units and steps enough to share
# (native/engine/partition.cpp).
FEW_ROWS = [(1, 12, 30, 190), (2, 12, 30, 190), (3, 9, 17, 203), (4, 8, 40, 160), (5, 12, 1, 129), (6, 5, 33, 257),
            (7, 6, 64, 200)]  # fmt: skip


def few_rows(sizes):
    """A case of these sizes, with all that a step can do."""
    (B, T, I, H), rng = sizes, np.random.default_rng(sizes)
    odd, third = bool(B % 2), B % 3 == 0
    options = {
        "mask": rng.uniform(size=(B, T)) < 0.8 if odd else None,
        "lengths": rng.integers(1, T + 1, B) if third else None,
        "reset": rng.uniform(size=(B, T)) < 0.2 if odd else None,
        "dropout_mask": rng.standard_normal((4, B, I)) if B == 5 else None,
        "recurrent_dropout_mask": rng.standard_normal((B, H)) if third else None,
    }
    flags = {"return_sequences": True, "go_backwards": B % 4 == 2}
    a, s = ("tanh", "sigmoid") if odd else ("silu", "hard_sigmoid")
    return sized_case(sizes, options, flags=flags, activation=a, recurrent_activation=s)


def run_lean(case, dtype):
    """Runs a case in full, and by passes that keep less."""
    results, arguments = run(case, "native", dtype), case.arguments(dtype)
    gradients = case.layer("native", dtype).vjp(**arguments, recompute=True)[1](*case.cotangents(dtype))
    last = dataclasses.replace(case, flags={**case.flags, "return_sequences": False}).layer("native", dtype)
    assert_same_results(gradients, {name: results.get(f"d_{name}") for name in GRADIENTS}, case)
    return results, last(**arguments)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", FEW_ROWS, ids=str)
def test_any_number_of_threads_and_teams(sizes, dtype):
    case = few_rows(sizes)
    assert_same_on_threads(lambda: run_lean(case, dtype), what=case)


SEVEN = """
import os
import numpy as np
from cases import assert_same_on_threads
from drawn import in_steps
from glasscell import LSTM, Stream
from test_bits import FEW_ROWS, few_rows, run_lean
assert len(os.sched_getaffinity(0)) == 7
for dtype in (np.float32, np.float64):
    layer, x = LSTM(512, return_sequences=True).build(400, seed=0, dtype=dtype), np.ones((1, 3, 400), dtype)
    for case in map(few_rows, FEW_ROWS):
        assert_same_on_threads(lambda: run_lean(case, dtype), (3, 7), case)
    assert_same_on_threads(lambda: (layer(x), in_steps(Stream(layer), x)), (3, 7))
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
    run_with("seven_processors.cpp", "-c", SEVEN)
