"""The native kernel's elementwise functions over the whole range of float32, in units in the last place.

A cell of one input and one unit, with weights of one and no bias, has its input as raw gate, exactly: its gates are
the activations of whatever numbers it is given.
"""

import numpy as np
import pytest

from glasscell import RNN, LSTMCell
from glasscell._cells.activations import BUILT_IN

# The most by which a float32 result may miss the true value, in spacings of float32 at that value. The first three
# are what native/simd/math.h states; those built on them add the roundings of their own operations.
ULPS = {
    "tanh": 2, "sigmoid": 2, "exponential": 1, "elu": 2, "selu": 3, "softplus": 3, "softsign": 1.5, "silu": 3,
    "gelu": 6, "linear": 0, "relu": 0, "leaky_relu": 1, "celu": 2, "relu6": 0, "hard_silu": 2, "hard_tanh": 0,
    "hard_shrink": 0, "soft_shrink": 0.5, "log_sigmoid": 3, "mish": 4, "sparse_plus": 2, "sparse_sigmoid": 0.5,
    "squareplus": 3, "tanh_shrink": 4,
}  # fmt: skip
# Results this small are subnormal, or the product of a number with a subnormal one: they have fewer digits left, and
# their error is measured at this size instead.
SMALL = 2.0**-118


def activate(name, x):
    cell = LSTMCell(1, name, "linear", use_bias=False, dtype=x.dtype, engine="native")
    cell.set_weights([np.ones((1, 4), x.dtype), np.zeros((1, 4), x.dtype)])
    with np.errstate(invalid="ignore"):
        return cell.gates(x[:, None]).g[:, 0]


def inputs():
    """Every 6151st float32, of all exponents and both signs, and all of them around the known worst places."""
    sample = np.arange(0, 2**32, 6151, dtype=np.uint64).astype(np.uint32).view(np.float32)
    worst = np.float32(
        [0.0003449918, 0.1212, 0.517457247, 5.20192909, 5.846237, 7.2639213, 8.66255093, 16.6457, 27.3790684, 87.34]
    )
    near = (worst.view(np.uint32)[:, None] + np.arange(-500, 500, dtype=np.int32).view(np.uint32)).ravel()
    near = near.view(np.float32)
    return np.concatenate([sample[np.isfinite(sample)], near, -near])


def check(name, x, small=0.0):
    """Infinities and NaN in their places; else at most `ULPS` off, in spacings of numbers not below `small`."""
    with np.errstate(all="ignore"):
        true = BUILT_IN[name](x.astype(np.float64))
        rounded = true.astype(np.float32)
    got, finite = activate(name, x), np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    x, got, true = x[finite], got[finite].astype(np.float64), true[finite]
    exponents = np.frexp(np.maximum(np.abs(true), small))[1] - 1
    ulps = np.abs(got - true) / np.ldexp(1.0, np.maximum(exponents, -126) - 23)
    assert ulps.max(initial=0) <= ULPS[name], f"{name}({x[ulps.argmax()]!r}): {ulps.max():.3f} ulp"


@pytest.mark.parametrize("name", ULPS)
def test_units_in_the_last_place(name):
    check(name, inputs(), SMALL)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "exponential"])
def test_every_257th_float(name):
    """Infinities, NaN and subnormal results too; tools/check_elementwise.cpp takes every float."""
    for first in range(0, 2**32, 2**28):
        check(name, np.arange(first, first + 2**28, 257, dtype=np.uint64).astype(np.uint32).view(np.float32))


def test_hard_sigmoid():
    """x / 6 + 1/2 cancels near -3: to one float32 epsilon of 1."""
    x = inputs()
    true = BUILT_IN["hard_sigmoid"](x.astype(np.float64))
    assert np.abs(activate("hard_sigmoid", x) - true).max() <= np.finfo(np.float32).eps
    assert set(ULPS) | {"hard_sigmoid"} == set(BUILT_IN)


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_shape(name):
    """Odd or mirrored, bounded, and exact at the ends."""
    x = np.abs(inputs())
    x = x[x > 0]  # the sum that makes a raw gate has no -0
    right, left = activate(name, x), activate(name, -x)
    if name == "tanh":
        np.testing.assert_array_equal(left.view(np.uint32), (-right).view(np.uint32))
        assert right.max() == 1
        assert activate(name, np.float32([0.0])).tolist() == [0.0]
    else:
        assert np.abs(left + right - 1).max() <= np.finfo(np.float32).eps  # each to half an epsilon of 1
        assert (left.min(), right.max()) == (0, 1)
        assert activate(name, np.float32([0.0])).tolist() == [0.5]


def test_float64_to_a_few_ulps():
    """NumPy's own float64 functions are the measure here, good to an ulp or so themselves."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(100_000) * np.exp2(rng.integers(-30, 7, 100_000))
    with np.errstate(all="ignore"):
        for name in (
            "tanh",
            "sigmoid",
            "exponential",
            "elu",
            "softplus",
            "softsign",
            "log_sigmoid",
            "mish",
            "squareplus",
            "tanh_shrink",
        ):
            expected = BUILT_IN[name](x)
            got = activate(name, x)
            unit = np.spacing(np.maximum(np.abs(expected), 1e-290))
            assert (np.abs(got - expected) / unit).max() <= 4, name


def derivative(name, x, engine, recurrent):
    """Derives the activation at x, as the gradient of x: all else in the cell is 1, exactly."""
    gate, others = (0, 2) if recurrent else (2, 0)
    activations = ("linear", name) if recurrent else (name, "linear")
    cell = LSTMCell(1, *activations, dtype=x.dtype)
    kernel, bias = np.zeros((1, 4), x.dtype), np.zeros(4, x.dtype)
    kernel[0, gate], bias[others] = 1, 1
    cell.set_weights([kernel, np.zeros((1, 4), x.dtype), bias])
    state = np.zeros((len(x), 1), x.dtype), np.ones((len(x), 1), x.dtype)
    _, pullback = RNN(cell, engine=engine).vjp(x[:, None, None], (state[0], state[0]))
    with np.errstate(all="ignore"):
        return pullback(dstate=state).x[:, 0, 0]


KINKS = [0.0, 3.0, -3.0, 1.0, -1.0, 0.5, -0.5]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("recurrent", [False, True], ids=["activation", "recurrent_activation"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_derivatives_where_activations_have_kinks(name, recurrent, dtype):
    """At each kink, right beside it and near it: those of the reference, and of Keras on JAX. (At 0 the frameworks do
    not agree with one another on leaky_relu and selu, nor at 1 and -1 on hard_tanh and sparse_sigmoid.)"""
    keras, jax = pytest.importorskip("keras"), pytest.importorskip("jax")
    if keras.backend.backend() != "jax":
        pytest.skip("Keras runs on another backend")
    points = np.array(
        KINKS + [6.0] * (name == "relu6"), dtype
    )  # nothing nearer to 0: subnormal numbers are zero to XLA
    beside = [points[1:] * dtype(1 + side * 4 * np.finfo(dtype).eps) for side in (1, -1)]  # or x / 6 rounds to the kink
    x = np.concatenate([points, *beside, *(points + dtype(off) for off in (1e-30, -1e-30, 1e-3, -1e-3))])
    native, reference = (derivative(name, x, engine, recurrent) for engine in ("native", "reference"))
    bound = 8 * np.finfo(dtype).eps
    assert np.abs(native - reference).max() <= bound * np.abs(reference).max()
    function = keras.activations.get(name)
    if dtype == np.float32:
        expected = np.asarray(jax.vmap(jax.grad(function))(x))
        assert np.abs(native - expected).max() <= bound * np.abs(expected).max()
