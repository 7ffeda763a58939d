"""The equations of `_cells/lstm.py`: against a scalar loop, over every array namespace, and their gradients."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch

from cases import NAMES
from compare import assert_close
from glasscell._cells import activations
from glasscell._cells.activations import BUILT_IN
from glasscell._cells.lstm import Gates, Options, raw_gates, raw_gates_gradient, step, step_gradient

# Written here a second time, one number at a time, as the textbooks have them.
SCALAR = {
    "tanh": math.tanh,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "linear": lambda x: x,
    "relu": lambda x: max(x, 0.0),
    "hard_sigmoid": lambda x: min(max(x + 3, 0.0), 6.0) / 6,
    "leaky_relu": lambda x: x if x > 0 else 0.2 * x,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (math.exp(x) - 1)),
    "exponential": math.exp,
    "softplus": lambda x: math.log(1 + math.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    "celu": lambda x: max(x, 0.0) + min(0.0, math.exp(x) - 1),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "hard_silu": lambda x: x * min(max(x + 3, 0.0), 6.0) / 6,
    "hard_tanh": lambda x: min(max(x, -1.0), 1.0),
    "hard_shrink": lambda x: x if abs(x) > 0.5 else 0.0,
    "soft_shrink": lambda x: math.copysign(max(abs(x) - 0.5, 0.0), x),
    "log_sigmoid": lambda x: math.log(1 / (1 + math.exp(-x))),
    "mish": lambda x: x * math.tanh(math.log(1 + math.exp(x))),
    "sparse_plus": lambda x: 0.0 if x <= -1 else x if x >= 1 else (x + 1) ** 2 / 4,
    "sparse_sigmoid": lambda x: min(max(x + 1, 0.0), 2.0) / 2,
    "squareplus": lambda x: (x + math.sqrt(x * x + 4)) / 2,
    "tanh_shrink": lambda x: x - math.tanh(x),
}
KINKS = {
    **dict.fromkeys(("relu", "leaky_relu", "elu", "selu", "celu"), (0,)),
    **dict.fromkeys(("hard_sigmoid", "hard_silu"), (-3, 3)),
    **dict.fromkeys(("hard_tanh", "sparse_plus", "sparse_sigmoid"), (-1, 1)),
    **dict.fromkeys(("hard_shrink", "soft_shrink"), (-0.5, 0.5)),
    "relu6": (0, 6),
}
# Each side rounds a handful of operations and the sums of a few products: some float64 epsilons (2.2e-16).
ROUNDING = 1e-14

# Namespace, array maker, dtype: keras.ops rounds some float64 results to float32, so it is held to float32.
NAMESPACES = {
    "jax": (jnp, jnp.asarray, np.float64),
    "torch": (torch, torch.from_numpy, np.float64),
    "keras": (keras.ops, keras.ops.convert_to_tensor, np.float32),
}


def numbers(rng, I=3, H=4, B=2):
    """x and h for each gate, c, kernel, recurrent kernel, bias, dh, dc."""
    x, h = (list(rng.standard_normal((4, B, n))) for n in (I, H))
    weights = [rng.standard_normal(shape) for shape in ((I, 4 * H), (H, 4 * H), (4 * H,))]
    return x, h, rng.standard_normal((B, H)), weights, rng.standard_normal((B, H)), rng.standard_normal((B, H))


def options(a, s="sigmoid"):
    return Options(BUILT_IN[a], BUILT_IN[s])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("role", ["activation", "recurrent_activation"])
def test_equations_against_a_scalar_loop(rng, name, role):
    a, s = (name, "sigmoid") if role == "activation" else ("tanh", name)
    x, h, c, (W, R, b), _, _ = numbers(rng)
    z = raw_gates(x, h, W, R, b, np)
    gates, h_next, c_next = step(z, c, options(a, s), np)
    B, I, H = len(c), W.shape[0], R.shape[0]
    expected = {n: np.empty((B, H)) for n in ("i", "f", "g", "o", "zi", "zf", "zg", "zo", "h", "c")}
    for row in range(B):
        for u in range(H):
            v = []
            for k, gate in enumerate("ifgo"):
                total = b[k * H + u]
                total += sum(x[k][row, n] * W[n, k * H + u] for n in range(I))
                total += sum(h[k][row, n] * R[n, k * H + u] for n in range(H))
                expected["z" + gate][row, u] = total
                v.append(SCALAR[a if gate == "g" else s](total))
                expected[gate][row, u] = v[-1]
            expected["c"][row, u] = v[1] * c[row, u] + v[0] * v[2]
            expected["h"][row, u] = v[3] * SCALAR[a](expected["c"][row, u])
    got = {**gates._asdict(), **{"z" + n: array for n, array in z._asdict().items()}, "h": h_next, "c": c_next}
    for n, array in got.items():
        assert_close(array, expected[n], ROUNDING, n)


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("name", NAMES)
def test_every_namespace_gives_the_same_numbers(rng, name, namespace):
    """Step and gradients to 50 epsilons: sums in another order, and each library's own exp, tanh and erf."""
    xp, array, dtype = NAMESPACES[namespace]
    x, h, c, weights, dh, dc = numbers(rng)

    def everything(xp, array, dtype):
        def tensor(value):
            return array(value.astype(dtype))

        x_, h_, W = [tensor(v) for v in x], [tensor(v) for v in h], [tensor(w) for w in weights]
        z = raw_gates(x_, h_, *W, xp)
        gates, h_next, c_next = step(z, tensor(c), options(name, name), xp)
        dz, dc_ = step_gradient(z, gates, tensor(c), c_next, tensor(dh), tensor(dc), options(name, name), xp)
        dx, dh_, *d_weights = raw_gates_gradient(dz, x_, h_, *W[:2], xp)
        return [*z, *gates, h_next, c_next, *dz, dc_, *dx, *dh_, *d_weights]

    expected = everything(np, np.asarray, np.float64)
    with jax.enable_x64(True):
        got = [np.asarray(value) for value in everything(xp, array, dtype)]
    for n, (value, reference) in enumerate(zip(got, expected, strict=True)):
        assert value.dtype == dtype
        assert_close(value, reference, 50 * np.finfo(dtype).eps, n)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_of_keras(name):
    """Agrees to 4 float32 epsilons of 1 or of the value: hard_sigmoid and gelu are written in another order there."""
    x = np.linspace(-6, 6, 4001, dtype=np.float32)
    expected = np.asarray(keras.activations.get(name)(x))
    got = BUILT_IN[name](x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=4 * 2**-23, atol=4 * 2**-23)


@pytest.mark.parametrize("name", NAMES)
def test_derivative_against_central_differences(name):
    """Error of a central difference at step 1e-5: truncation 1e-10 times f''', rounding 1e-16 / 1e-5 times f."""
    x = np.linspace(-5, 5, 997)
    bends = KINKS.get(name, (0,))  # softsign's second derivative jumps at zero
    x = x[[min(abs(v - bend) for bend in bends) > 1e-3 for v in x]]
    f, derivative = BUILT_IN[name], BUILT_IN[name].derivative
    expected = (f(x + 1e-5) - f(x - 1e-5)) / 2e-5
    assert_close(derivative(x, np), expected, 1e-9)


@pytest.mark.parametrize("name", KINKS)
def test_derivative_at_a_kink_is_that_of_keras(name):
    for kink in KINKS[name]:
        expected = jax.grad(lambda v: keras.activations.get(name)(v))(jnp.float32(kink))
        got = BUILT_IN[name].derivative(np.array([kink], np.float32), np)
        np.testing.assert_allclose(got, [expected], rtol=2**-22)  # two roundings


# x: value and derivative at -inf, +inf; "nan" where IEEE arithmetic gives infinity times zero or over infinity
LIMITS = {
    "tanh": ((-1, 0), (1, 0)),
    "sigmoid": ((0, 0), (1, 0)),
    "linear": ((-np.inf, 1), (np.inf, 1)),
    "relu": ((0, 0), (np.inf, 1)),
    "hard_sigmoid": ((0, 0), (1, 0)),
    "leaky_relu": ((-np.inf, 0.2), (np.inf, 1)),
    "elu": ((-1, 0), (np.inf, 1)),
    "selu": ((-1.7580993408473766, 0), (np.inf, 1.0507009873554805)),
    "exponential": ((0, 0), (np.inf, np.inf)),
    "softplus": ((0, 0), (np.inf, 1)),
    "softsign": ((np.nan, np.nan), (np.nan, np.nan)),
    "silu": ((np.nan, np.nan), (np.inf, np.nan)),
    "gelu": ((np.nan, np.nan), (np.inf, np.nan)),
    "celu": ((-1, 0), (np.inf, 1)),
    "relu6": ((0, 0), (6, 0)),
    "hard_silu": ((np.nan, 0), (np.inf, 1)),
    "hard_tanh": ((-1, 0), (1, 0)),
    "hard_shrink": ((-np.inf, 1), (np.inf, 1)),
    "soft_shrink": ((-np.inf, 1), (np.inf, 1)),
    "log_sigmoid": ((-np.inf, 1), (0, 0)),
    "mish": ((np.nan, np.nan), (np.inf, np.nan)),
    "sparse_plus": ((0, 0), (np.inf, 1)),
    "sparse_sigmoid": ((0, 0), (1, 0)),
    "squareplus": ((0, 0), (np.inf, 1)),
    "tanh_shrink": ((-np.inf, 1), (np.inf, 1)),
}


@pytest.mark.parametrize("name", NAMES)
def test_infinities_and_nan(name):
    (low, low_slope), (high, high_slope) = LIMITS[name]
    x = np.array([-np.inf, np.inf, np.nan])
    with np.errstate(all="ignore"):
        value, slope = BUILT_IN[name](x), BUILT_IN[name].derivative(x, np)
    np.testing.assert_allclose(value, [low, high, np.nan], rtol=1e-15)
    np.testing.assert_allclose(slope[:2], [low_slope, high_slope], rtol=1e-15)


FAR = np.array([-1e4, -800.0, 800.0, 1e4])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("tanh", np.sign(FAR)), *((name, FAR > 0) for name in ("sigmoid", "hard_sigmoid")),
     ("softsign", FAR / (1 + np.abs(FAR))), *((name, np.maximum(FAR, 0)) for name in ("softplus", "mish")),
     ("log_sigmoid", np.minimum(FAR, 0)), ("tanh_shrink", FAR - np.sign(FAR)),
     ("squareplus", ((np.abs(FAR) + np.hypot(FAR, 2)) / 2) ** np.sign(FAR))],
)  # fmt: skip
def test_far_values_do_not_overflow(name, expected):
    with np.errstate(over="raise", invalid="raise"):
        value, slope = BUILT_IN[name](FAR), BUILT_IN[name].derivative(FAR, np)
    np.testing.assert_allclose(value, expected, rtol=1e-15)
    assert np.isfinite(slope).all()


def test_the_left_tail_keeps_its_digits():
    """Where 1 + e^x or 1 + erf would have rounded to one, or to nought, or a difference is smaller than its terms."""
    np.testing.assert_allclose(BUILT_IN["sigmoid"](np.array([-700.0])), [math.exp(-700)], rtol=1e-14)
    np.testing.assert_allclose(BUILT_IN["gelu"](np.array([-10.0])), [-5 * math.erfc(10 / math.sqrt(2))], rtol=1e-14)
    for name, x, expected in (
        ("mish", -700, -700 * math.exp(-700)),
        ("log_sigmoid", 700, -math.exp(-700)),
        ("squareplus", -1e9, 1e-9),
        ("squareplus", -1e300, 1e-300),
        ("tanh_shrink", 1e-7, 1e-21 / 3),
        ("hard_silu", -3 + 2**-51, -(2**-52)),
    ):
        with np.errstate(over="raise"):
            np.testing.assert_allclose(BUILT_IN[name](np.array([x])), [expected], rtol=1e-13, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("role", ["activation", "recurrent_activation"])
def test_gradients_against_autograd(rng, name, role):
    """`step_gradient` and `raw_gates_gradient` against PyTorch's own differentiation of `raw_gates` and `step`."""
    chosen = options(name) if role == "activation" else options("tanh", name)
    x, h, c, weights, dh, dc = numbers(rng)
    z = raw_gates(x, h, *weights, np)
    gates, _, c_next = step(z, c, chosen, np)
    dz, d_c = step_gradient(z, gates, c, c_next, dh, dc, chosen, np)
    dx, d_h, *d_weights = raw_gates_gradient(dz, x, h, *weights[:2], np)

    leaves = [torch.tensor(v, requires_grad=True) for v in (*x, *h, *weights, c)]
    z_ = raw_gates(leaves[:4], leaves[4:8], *leaves[8:11], torch)
    for raw in z_:
        raw.retain_grad()
    _, h_, c_ = step(Gates(*z_), leaves[11], chosen, torch)
    torch.autograd.backward([h_, c_], [torch.tensor(dh), torch.tensor(dc)])
    expected = [leaf.grad.numpy() for leaf in leaves] + [raw.grad.numpy() for raw in z_]
    for n, (got, reference) in enumerate(zip([*dx, *d_h, *d_weights, d_c, *dz], expected, strict=True)):
        assert_close(got, reference, 10 * ROUNDING, n)


def test_a_callable_with_its_derivative():
    def cube(x):
        return x**3

    cube.derivative = lambda x: 3 * x**2
    found = activations.get(cube)
    assert (found.name, found.is_built_in) == ("cube", False)
    np.testing.assert_array_equal(found(np.array([2.0])), [8.0])
    np.testing.assert_array_equal(found.derivative(np.array([2.0]), np), [12.0])
    assert activations.get(lambda x: x).derivative is None


def test_names():
    assert all(activation.is_built_in for activation in BUILT_IN.values())
    assert activations.get(None) is BUILT_IN["linear"]
    assert activations.get("swish") is BUILT_IN["silu"]
    assert activations.get("hard_swish") is BUILT_IN["hard_silu"]
    assert activations.get(BUILT_IN["relu"]) is BUILT_IN["relu"]


KERAS = {name: f for name, f in vars(keras.activations).items() if inspect.isfunction(f)}
KERAS = {name: f for name, f in KERAS.items() if name not in ("get", "serialize", "deserialize")}


def test_every_activation_of_keras_is_built_in_or_refused():
    """A later Keras with an activation that stands nowhere here fails this test by its name."""
    assert len(KERAS) > 25
    found = dict.fromkeys(BUILT_IN, "built in") | dict.fromkeys(activations.ALIASES, "another name")
    assert {name: found.get(name, "refused") for name in KERAS} == found | dict.fromkeys(activations.REFUSED, "refused")
    for name, of in activations.ALIASES.items():
        assert KERAS[name] is KERAS[of]


def test_functions_of_keras_are_their_names():
    for name, function in KERAS.items():
        if name not in activations.REFUSED:
            assert activations.get(function) is activations.get(name)
    for function in (keras.ops.gelu, functools.partial(keras.activations.leaky_relu, negative_slope=0.3)):
        assert not activations.get(function).is_built_in  # of other defaults, or arguments


@pytest.mark.parametrize("name", activations.REFUSED)
def test_what_is_refused_is_what_the_reason_says(name):
    reason = activations.REFUSED[name]
    for given in (name, KERAS[name]):
        with pytest.raises(ValueError, match=f"^gate: {name} {reason}$"):
            activations.get(given, "gate")
    one, other = np.float32([[1, 0, 0, 0]]), np.float32([[1, 0, 0, 0.9]])
    if "needs" in reason:
        with pytest.raises(TypeError, match=r"threshold.*default_value"):
            KERAS[name](one)
    elif "one unit of two" in reason:
        assert KERAS[name](one).shape == (1, 2)
    else:
        assert "all units together" in reason
        assert not np.array_equal(KERAS[name](one)[0, :3], KERAS[name](other)[0, :3])
