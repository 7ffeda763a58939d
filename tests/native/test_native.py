"""The native engine against the reference: outputs, states, traces and every gradient, over random configurations."""

import dataclasses
import itertools
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

from cases import NAMES, make_case, run, sized_case
from compare import arrays_of, assert_close, assert_same_results, error, scale
from drawn import spoil
from glasscell import RNN, LSTMCell
from glasscell._cells.layouts import LSTMWeights
from glasscell._ops import aligned, reference
from glasscell._ops import numpy as engine

CHUNK, CHUNKS = 60, 6  # 360 configurations; every activation is among them, in either role


def term_by_term(a, b):
    """A matrix product that adds up its terms one after another."""
    total = np.zeros((len(a), b.shape[1]), a.dtype)
    for column, row in zip(a.T, b, strict=True):
        total += column[:, None] * row
    return total


def numpy_with(**functions):
    return SimpleNamespace(**{**vars(np), **functions})


@pytest.fixture(autouse=True)
def nan_filled(monkeypatch):
    """The engine's empty arrays are full of NaN: an element that the kernel leaves out shows."""

    def empty(shape, dtype=float):
        return np.full(shape, np.nan, dtype)

    filled = numpy_with(empty=empty, empty_like=lambda array: np.full_like(array, np.nan))
    monkeypatch.setattr(engine, "np", filled)
    monkeypatch.setattr(aligned, "empty", empty)


def assert_all_finite(results, case):
    """Gates of skipped steps are NaN in a trace; nothing else is."""
    for name, value in results.items():
        finite = np.isfinite(value)
        assert finite.all() or (name.startswith("trace.") and np.isnan(value[~finite]).all()), f"{name} of {case}"


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_float64(chunk):
    """1e-12 of each array's scale: both engines round some hundred operations on the way to an element and in another
    order, and the recurrence amplifies that: 5000 times the epsilon of 2.2e-16, where one wrong term gives 1e-3."""
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        case = make_case(seed)
        expected, got = run(case, "reference"), run(case, "native")
        assert got.keys() == expected.keys()
        assert_all_finite(expected, case)
        for name, value in expected.items():
            assert_close(got[name], value, 1e-12, f"{name} of {case}")


# Arrays that come out of the same sums and differ in how much of them cancels: their errors share one scale.
TOGETHER = [("output", "h", "c"), ("d_kernel", "d_recurrent_kernel", "d_bias")]


def float32_errors(case):
    """Name to (plain, native): errors of both float32 engines, in epsilons of the scale, against the reference in
    float64 on the same float32 numbers. Arrays that are all zero are left out; both must have them zero."""
    truth = run(case, "reference", np.float64)
    plain, native = run(case, "reference", np.float32), run(case, "native", np.float32)
    scales = {name: scale(value) for name, value in truth.items()}
    for group in TOGETHER:
        scales.update(dict.fromkeys(group, max(scales.get(name, 0.0) for name in group)))
    errors = {}
    for name, value in truth.items():
        assert native[name].dtype == np.float32
        off = error(plain[name], value), error(native[name], value)
        if scales[name] > 0:
            errors[name] = tuple(e / (scales[name] * np.finfo(np.float32).eps) for e in off)
        else:
            assert not off[1].any()
    return errors


def allowed(name):
    return 3 if name.startswith("trace.z") else 2


def test_float32_is_as_accurate_as_promised():
    """At most twice the error of plain float32: the root mean square over all configurations.

    In one configuration the worst element may be off by twice that of plain float32 and a floor of 16 epsilons of the
    scale: where few elements make an array, plain float32 is now and then right by luck, and a ratio to its error
    says nothing. Over all configurations luck evens out, and no floor is needed.

    A raw gate gets a factor of 3 instead of 2: it is one chain of additions in the documented order, which is what
    makes its bits the same everywhere, while the matrix product behind plain float32 adds up several shorter ones.
    """
    squares = defaultdict(list)
    for seed in range(CHUNK * CHUNKS):
        case = make_case(seed)
        for name, (plain, native) in float32_errors(case).items():
            worst = native.max(initial=0.0), plain.max(initial=0.0)
            assert worst[0] <= 2 * worst[1] + 16, f"{name} of {case}: {worst[0]:.1f} eps, plain {worst[1]:.1f}"
            squares[name].append((np.mean(plain**2), np.mean(native**2)))
    for name, pairs in squares.items():
        plain, native = np.sqrt(np.mean(pairs, axis=0))
        assert native <= allowed(name) * plain, f"{name}: {native:.3f} eps, plain {plain:.3f}"


def test_every_pair_of_activations():
    """On a small case, to what `test_float64` allows."""
    plain = sized_case((2, 2, 2, 3), {})
    tiny = dataclasses.replace(plain, weights=LSTMWeights(*(w / 16 for w in plain.weights)))  # or it overflows
    for a, s in itertools.product(NAMES, NAMES):
        case = dataclasses.replace(tiny if "exponential" in (a, s) else plain, activation=a, recurrent_activation=s)
        expected, got = run(case, "reference"), run(case, "native")
        assert_all_finite(expected, case)
        for name, value in expected.items():
            assert_close(got[name], value, 1e-12, f"{name} of {case}")


@pytest.mark.parametrize(
    ("B", "T", "I", "H"), [(64, 100, 32, 32), (8, 10, 512, 512)], ids=["long sums of gradients", "wide layers"]
)
def test_float32_is_as_accurate_as_promised_at_training_sizes(B, T, I, H, monkeypatch):
    """Sums of thousands of steps, or of hundreds of inputs: the same promise, for the root mean square of each array.

    Plain float32 is term by term here. NumPy's own product adds up several shorter chains of such long sums, and how
    many depends on the processor: of 1024 terms our one chain, in the order that makes its bits the same everywhere,
    was 1.9 to 2.06 times as far off as those.
    """
    monkeypatch.setattr(reference, "np", numpy_with(matmul=term_by_term))
    case = sized_case((B, T, I, H), {})
    for name, errors in float32_errors(case).items():
        plain, native = (float(np.sqrt(np.mean(e**2))) for e in errors)
        assert native <= allowed(name) * plain, f"{name}: {native:.3f} eps, plain {plain:.3f}"


PLACES = ["x", "h0", "c0", "kernel", "recurrent_kernel", "bias", "dy"]


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("seed", range(0, 12, 2))
def test_nan_and_infinity_pass_as_in_the_reference(where, poison, seed):
    """NaN and infinities in their places; the other numbers to rounding. Every pair of seed and place has its own
    activations."""
    pair, case = make_case(seed + 12 * PLACES.index(where) + 1), make_case(3 * seed, largest=(3, 4, 5, 5))
    B, H = len(case.x), len(case.weights.recurrent_kernel)
    weights = case.weights._replace(bias=np.zeros(4 * H, np.float32)) if case.weights.bias is None else case.weights
    arrays = {"x": case.x, "dy": case.dy, **weights._asdict()}
    arrays |= {name: np.full((B, H), value, np.float32) for name, value in (("h0", 0.1), ("c0", 0.2))}
    arrays[where].flat[arrays[where].size // 2] = poison
    case = dataclasses.replace(
        case,
        activation=pair.activation,
        recurrent_activation=pair.recurrent_activation,
        weights=weights,
        options={**case.options, "initial_state": (arrays["h0"], arrays["c0"])},
    )
    expected, got = run(case, "reference"), run(case, "native")
    for name, value in expected.items():
        assert_close(got[name], value, 1e-11, f"{name} of {case}")


@pytest.mark.parametrize("seed", range(8))
def test_what_is_not_used_never_matters(engine_name, seed):
    """NaN in x at skipped steps and beyond the lengths, in an initial state that is reset at once, and in the
    gradients of outputs that are zero for the mask: the same bits as with ordinary numbers there."""
    rng = np.random.default_rng(seed)
    case = make_case(seed, largest=(6, 9, 7, 9))
    B, T, _ = case.x.shape
    H = case.weights.recurrent_kernel.shape[0]
    lengths, mask = rng.integers(1, T + 1, B), rng.uniform(size=(B, T)) < 0.6
    lengths[0], mask[0, 0] = T, False
    used = mask & (np.arange(T) < lengths[:, None])
    first, forgotten = (T - 1, lengths == T) if case.flags["go_backwards"] else (0, rng.uniform(size=B) < 0.5)
    reset = np.zeros((B, T), bool)
    reset[forgotten, first] = True
    state = tuple(rng.standard_normal((2, B, H)).astype(np.float32))
    flags = {**case.flags, "return_sequences": True, "zero_output_for_mask": True}
    options = {**case.options, "initial_state": state, "mask": mask, "lengths": lengths, "reset": reset}
    dy = rng.standard_normal((B, T, H)).astype(np.float32)
    clean = dataclasses.replace(case, options=options, flags=flags, dy=dy)

    x, dy, state = case.x.copy(), dy.copy(), tuple(s.copy() for s in state)
    x[~used] = np.nan
    dy[~(used[:, ::-1] if case.flags["go_backwards"] else used)] = np.nan
    for s in state:
        s[forgotten] = np.nan
    poisoned = dataclasses.replace(clean, x=x, dy=dy, options={**options, "initial_state": state})
    assert_same_results(run(poisoned, engine_name, np.float32), run(clean, engine_name, np.float32), clean)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_pullback_gives_the_gradients_of_its_call(engine_name, seed, recompute, dtype):
    """Nothing that is written into arguments and results afterwards, or set in the layer, changes them."""
    case = make_case(seed, largest=(5, 9, 9, 33))
    rnn, arguments = case.layer(engine_name, dtype), case.arguments(dtype)
    expected = case.layer(engine_name, dtype).vjp(**arguments)[1](*case.cotangents(dtype))
    output, pullback = rnn.vjp(**arguments, recompute=recompute)
    spoil(output, arguments)
    rnn.return_sequences, rnn.go_backwards = not rnn.return_sequences, not rnn.go_backwards
    rnn.zero_output_for_mask = not rnn.zero_output_for_mask
    rnn.cell.set_weights([np.full_like(w, np.nan) for w in rnn.cell.get_weights()])
    for factor in (1, 1, 2):  # doubling is exact
        dy, dstate = case.cotangents(dtype)
        dy, dstate = factor * dy, dstate and tuple(factor * d for d in dstate)
        got = pullback(dy, dstate)
        assert_same_results(got, {name: factor * value for name, value in arrays_of(expected).items()}, case)
        spoil(dy, dstate, got)


def test_gradients_of_nothing_are_zero():
    case = make_case(0, largest=(5, 9, 9, 9))
    _, pullback = case.layer("native", np.float32).vjp(**case.arguments(np.float32))
    assert not any(value.any() for value in arrays_of(pullback()).values())


@pytest.mark.parametrize(("B", "T"), [(0, 3), (2, 0), (0, 0)])
def test_nothing_to_do(engine_name, B, T):
    """No rows or no steps: empty outputs, the state as it was, no weight gradients."""
    cell = LSTMCell(3).build(2, seed=0)
    state = np.ones((2, B, 3), np.float32)
    layer = RNN(cell, return_sequences=True, return_state=True, engine=engine_name)
    x = np.ones((B, T, 2), np.float32)
    output, h, c = layer(x, tuple(state))
    assert output.shape == (B, T, 3)
    np.testing.assert_array_equal((h, c), state)
    assert not any(np.shares_memory(s, state) for s in (h, c))
    _, pullback = layer.vjp(x, tuple(state))
    gradients = pullback(np.ones((B, T, 3), np.float32), tuple(2 * state))
    np.testing.assert_array_equal((gradients.h0, gradients.c0), 2 * state)
    assert not any(w.any() for w in (gradients.kernel, gradients.recurrent_kernel, gradients.bias))
    assert gradients.x.shape == x.shape


@pytest.mark.parametrize("name", ["auto", "native"])
def test_native_is_what_ran(name):
    layer = RNN(LSTMCell(3).build(2, seed=0), engine=name)
    layer(np.ones((1, 2, 2), np.float32))
    assert layer.engine_used == "native"


def test_auto_takes_the_reference_where_native_cannot_serve():
    for cell in (LSTMCell(3, activation=np.sin), LSTMCell(3, dtype=np.float16)):
        layer = RNN(cell.build(2, seed=0))
        layer(np.ones((1, 2, 2), cell.dtype))
        assert layer.engine_used == "reference"
