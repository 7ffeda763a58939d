"""The native engine against the reference: outputs, states, traces and every gradient, over random configurations."""

import dataclasses
from collections import defaultdict

import numpy as np
import pytest
from cases import GRADIENTS, make_case, run
from compare import assert_close, assert_same_bits, error, scale

from glasscell import RNN, LSTMCell, engine

CHUNK, CHUNKS = 60, 6


class NanFilled:
    """NumPy, except that its empty arrays are full of NaN: an element the kernel leaves out shows."""

    def __getattr__(self, name):
        return getattr(np, name)

    @staticmethod
    def empty(shape, dtype=float):
        return np.full(shape, np.nan, dtype)

    @staticmethod
    def empty_like(array):
        return np.full_like(array, np.nan)


@pytest.fixture(autouse=True)
def nan_filled(monkeypatch):
    monkeypatch.setattr(engine, "np", NanFilled())


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


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_float32_is_as_accurate_as_promised(chunk):
    """At most twice the error of plain float32, both against the reference in float64 on the same float32 numbers.

    Of a single configuration that holds for the worst element up to a floor of 4 epsilons of the array's scale:
    where plain float32 happens to be lucky (one step, one input), a ratio to its error says nothing. Over the
    configurations of a chunk luck evens out, and the root mean square of all errors keeps it without a floor.
    """
    eps = np.finfo(np.float32).eps
    squares = {which: defaultdict(list) for which in ("native", "plain")}
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        case = make_case(seed)
        truth = run(case, "reference", np.float64)
        plain, native = run(case, "reference", np.float32), run(case, "native", np.float32)
        for name, value in truth.items():
            unit = scale(value)
            assert native[name].dtype == np.float32
            errors = {"plain": error(plain[name], value), "native": error(native[name], value)}
            worst = {which: e.max(initial=0.0) for which, e in errors.items()}
            assert worst["native"] <= 2 * worst["plain"] + 4 * eps * unit, (
                f"{name} of {case}: {worst['native'] / (unit * eps):.1f} eps, plain {worst['plain'] / (unit * eps):.1f}"
            )
            if unit > 0:
                for which, e in errors.items():
                    squares[which][name].append(np.mean((e / (unit * eps)) ** 2))
    for name, native_squares in squares["native"].items():
        rms, plain_rms = (float(np.sqrt(np.mean(s))) for s in (native_squares, squares["plain"][name]))
        assert rms <= 2 * plain_rms, f"{name}: {rms:.3f} eps, plain {plain_rms:.3f}"


def every_other(array):
    """The same numbers in an array that is not contiguous."""
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


@pytest.mark.parametrize("seed", [0, 9, 18, 27])
def test_non_contiguous_inputs(seed):
    case = make_case(seed, largest=(5, 7, 9, 9))
    masks = {"mask": np.random.default_rng(seed).uniform(size=case.x.shape[:2]) < 0.7}
    case = dataclasses.replace(case, options={**case.options, **masks})
    layer, arguments = case.layer("native", np.float32), case.arguments(np.float32)
    (output, pullback), (dy, dstate) = layer.vjp(**arguments), case.cotangents(np.float32)
    odd = {
        name: np.asfortranarray(value) if name == "mask" else every_other(value)
        for name, value in arguments.items()
        if isinstance(value, np.ndarray) and name not in ("lengths", "reset")
    }
    odd_output, odd_pullback = layer.vjp(**{**arguments, **odd})
    assert_same_bits(odd_output, output)
    expected, got = pullback(dy, dstate), odd_pullback(every_other(dy), dstate and tuple(map(every_other, dstate)))
    for name in GRADIENTS:
        if getattr(expected, name) is not None:
            assert_same_bits(getattr(got, name), getattr(expected, name), name)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["x", "h0", "c0", "kernel", "recurrent_kernel", "bias", "dy"])
@pytest.mark.parametrize("seed", range(0, 12, 2))
def test_nan_and_infinity_pass_as_in_the_reference(where, poison, seed):
    """Same NaN, same infinities in the same places; the other numbers to rounding. Every pair of seed and place has
    its own activations."""
    pair = make_case(seed + 12 * ["x", "h0", "c0", "kernel", "recurrent_kernel", "bias", "dy"].index(where) + 1)
    case = make_case(3 * seed, largest=(3, 4, 5, 5))
    B, T, _ = case.x.shape
    H = case.weights.recurrent_kernel.shape[0]
    arrays = {
        "x": case.x.copy(),
        "dy": case.dy.copy(),
        "h0": np.full((B, H), 0.1, np.float32),
        "c0": np.full((B, H), 0.2, np.float32),
        **{name: None if w is None else w.copy() for name, w in case.weights._asdict().items()},
    }
    if arrays["bias"] is None:
        arrays["bias"] = np.zeros(4 * H, np.float32)
    arrays[where].flat[arrays[where].size // 2] = poison
    case = dataclasses.replace(
        case,
        activation=pair.activation,
        recurrent_activation=pair.recurrent_activation,
        weights=type(case.weights)(arrays["kernel"], arrays["recurrent_kernel"], arrays["bias"]),
        x=arrays["x"],
        dy=arrays["dy"],
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
    reset = np.zeros((B, T), bool)
    used = mask & (np.arange(T) < lengths[:, None])
    forgotten = rng.uniform(size=B) < 0.5
    first = lengths - 1 if case.flags["go_backwards"] else np.zeros(B, int)
    reset[forgotten, first[forgotten]] = True
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
    assert (~used).any()
    expected, got = run(clean, engine_name, np.float32), run(poisoned, engine_name, np.float32)
    for key, value in expected.items():
        assert_same_bits(got[key], value, f"{key} of {clean}")


def test_pullback_twice():
    for seed in range(6):
        case = make_case(seed, largest=(5, 9, 9, 33))
        _, pullback = case.layer("native", np.float32).vjp(**case.arguments(np.float32))
        dy, dstate = case.cotangents(np.float32)
        first, again = pullback(dy, dstate), pullback(dy, dstate)
        other = pullback(2 * dy, dstate and tuple(2 * d for d in dstate))
        for name in GRADIENTS:
            if getattr(first, name) is not None:
                assert_same_bits(getattr(again, name), getattr(first, name), name)
                assert_same_bits(getattr(other, name), 2 * getattr(first, name), name)  # doubling is exact


def test_gradients_of_nothing_are_zero():
    case = make_case(0, largest=(5, 9, 9, 9))
    _, pullback = case.layer("native", np.float32).vjp(**case.arguments(np.float32))
    gradients = pullback()
    for name in GRADIENTS:
        value = getattr(gradients, name)
        assert value is None or not value.any()


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
