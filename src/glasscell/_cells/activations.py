"""Defines the activations by their Keras names, each with its derivative, over any array namespace.

Every function takes `(x, xp)`: an array of any shape and float dtype, and its namespace (`numpy`, `jax.numpy`, `torch`,
`keras.ops`). The definitions, defaults and one-sided derivatives at kinks are those of `keras.activations` (Keras
3.15). A framework that differentiates one of these functions gets the derivative that is defined here, even at zero and
at kinks.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any
Function = Callable[[Array, Any], Array]

SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772
ELU_ALPHA = 1.0
LEAKY_SLOPE = 0.2
SHRINK = 0.5  # the threshold of hard_shrink and soft_shrink


@dataclass(frozen=True)
class Activation:
    """Holds a function of single elements, and its derivative.

    `name` is Keras's name; `derivative` is None where only the function was given. Call the activation on a NumPy
    array to apply it.
    """

    name: str
    function: Function
    derivative: Function | None

    @property
    def is_built_in(self) -> bool:
        """Whether this is the built-in activation of its name, and not a callable of the same name."""
        return BUILT_IN.get(self.name) == self

    def __call__(self, x: Array) -> Array:
        return self.function(x, np)


@dataclass(frozen=True)
class _OnNumPy:
    """Wraps a user's function of NumPy arrays to be called with `(x, xp)`; can be pickled if the function can.

    Raises: TypeError where the function returns anything but a NumPy array of the shape of x, such as a tensor.
    """

    function: Callable[[Array], Array]

    def __call__(self, x: Array, xp: Any) -> Array:
        y = self.function(x)
        if not isinstance(y, (np.ndarray, np.generic)) or y.shape != np.shape(x):
            shape = getattr(y, "shape", None)
            got = type(y).__name__ if shape is None else f"{type(y).__name__} of shape {tuple(shape)}"
            raise TypeError(
                f"the activation {_name_of(self.function)!r}: expected a NumPy array of the shape that it was given, "
                f"{np.shape(x)}, got {got}"
            )
        return y


def tanh(x: Array, xp: Any) -> Array:
    return xp.tanh(x)


def tanh_derivative(x: Array, xp: Any) -> Array:
    y = xp.tanh(x)
    return (1 - y) * (1 + y)


def sigmoid(x: Array, xp: Any) -> Array:
    e = xp.exp(_minus_abs(x, xp))  # never overflows
    return xp.where(x < 0, e, 1.0) / (1 + e)


def sigmoid_derivative(x: Array, xp: Any) -> Array:
    e = xp.exp(_minus_abs(x, xp))
    return e / ((1 + e) * (1 + e))


def linear(x: Array, xp: Any) -> Array:
    return x


def linear_derivative(x: Array, xp: Any) -> Array:
    return xp.ones_like(x)


def relu(x: Array, xp: Any) -> Array:
    return xp.where(x > 0, x, 0 * xp.where(x < 0, 0.0, x))  # NaN passes, and the slope at 0 is 0


def relu_derivative(x: Array, xp: Any) -> Array:
    return xp.where(x > 0, xp.ones_like(x), 0.0)


def leaky_relu(x: Array, xp: Any) -> Array:
    return xp.where(x < 0, LEAKY_SLOPE * x, x)


def leaky_relu_derivative(x: Array, xp: Any) -> Array:
    return xp.where(x < 0, LEAKY_SLOPE, xp.ones_like(x))


def hard_sigmoid(x: Array, xp: Any) -> Array:
    return xp.where(x <= -3, 0.0, xp.where(x >= 3, 1.0, x / 6 + 0.5))


def hard_sigmoid_derivative(x: Array, xp: Any) -> Array:
    return xp.where((x > -3) & (x < 3), xp.ones_like(x) / 6, 0.0)


def elu(x: Array, xp: Any) -> Array:
    return xp.where(x > 0, x, ELU_ALPHA * xp.expm1(xp.where(x > 0, 0.0, x)))


def elu_derivative(x: Array, xp: Any) -> Array:
    return xp.where(x > 0, 1.0, ELU_ALPHA * xp.exp(xp.where(x > 0, 0.0, x)))


def selu(x: Array, xp: Any) -> Array:
    return SELU_SCALE * xp.where(x > 0, x, SELU_ALPHA * xp.expm1(xp.where(x > 0, 0.0, x)))


def selu_derivative(x: Array, xp: Any) -> Array:
    return SELU_SCALE * xp.where(x > 0, 1.0, SELU_ALPHA * xp.exp(xp.where(x > 0, 0.0, x)))


def exponential(x: Array, xp: Any) -> Array:
    return xp.exp(x)


def softplus(x: Array, xp: Any) -> Array:
    return xp.where(x < 0, 0.0, x) + xp.log1p(xp.exp(_minus_abs(x, xp)))


def softsign(x: Array, xp: Any) -> Array:
    return x / (1 + xp.abs(x))


def softsign_derivative(x: Array, xp: Any) -> Array:
    d = 1 + xp.abs(x)
    return 1 / (d * d) + 0 * x  # NaN at infinity, as the value is


def silu(x: Array, xp: Any) -> Array:
    return x * sigmoid(x, xp)


def silu_derivative(x: Array, xp: Any) -> Array:
    s = sigmoid(x, xp)
    return s + x * sigmoid_derivative(x, xp)


def gelu(x: Array, xp: Any) -> Array:
    return x * _normal_cdf(x, xp)


def gelu_derivative(x: Array, xp: Any) -> Array:
    return _normal_cdf(x, xp) + x * xp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def relu6(x: Array, xp: Any) -> Array:
    return xp.where(x >= 6, 6.0, relu(x, xp))


def relu6_derivative(x: Array, xp: Any) -> Array:
    return xp.where((x > 0) & (x < 6), xp.ones_like(x), 0.0)


def hard_silu(x: Array, xp: Any) -> Array:
    return x * xp.where(x <= -3, 0.0, xp.where(x >= 3, 1.0, (x + 3) / 6))  # x + 3 is exact near -3


def hard_silu_derivative(x: Array, xp: Any) -> Array:
    return xp.where(x <= -3, 0.0, xp.where(x >= 3, 1.0, x / 3 + 0.5))


def hard_tanh(x: Array, xp: Any) -> Array:
    return xp.where(x < -1, -1.0, xp.where(x > 1, 1.0, x))


def hard_tanh_derivative(x: Array, xp: Any) -> Array:
    return xp.where((x < -1) | (x > 1), 0.0, xp.ones_like(x))


def hard_shrink(x: Array, xp: Any) -> Array:
    return xp.where((x >= -SHRINK) & (x <= SHRINK), 0.0, x)  # NaN passes, as in PyTorch


def hard_shrink_derivative(x: Array, xp: Any) -> Array:
    return xp.where((x >= -SHRINK) & (x <= SHRINK), 0.0, xp.ones_like(x))


def soft_shrink(x: Array, xp: Any) -> Array:
    y = hard_shrink(x, xp)
    return xp.where(y > 0, y - SHRINK, xp.where(y < 0, y + SHRINK, y))


def log_sigmoid(x: Array, xp: Any) -> Array:
    return -softplus(-x, xp)


def log_sigmoid_derivative(x: Array, xp: Any) -> Array:
    return sigmoid(-x, xp)


def mish(x: Array, xp: Any) -> Array:
    n, d = _tanh_of_softplus(x, xp)
    return x * (n / d)


def mish_derivative(x: Array, xp: Any) -> Array:
    n, d = _tanh_of_softplus(x, xp)
    e = xp.exp(_minus_abs(x, xp))
    return n / d + x * (4 * e * (1 + e) * xp.where(x < 0, 1.0, e) / (d * d))


def sparse_plus(x: Array, xp: Any) -> Array:
    inside = xp.where((x <= -1) | (x >= 1), 0.0, x + 1)
    return xp.where(x >= 1, x, inside * inside / 4)


def sparse_plus_derivative(x: Array, xp: Any) -> Array:
    return xp.where(x <= -1, 0.0, xp.where(x >= 1, 1.0, (x + 1) / 2))


def sparse_sigmoid(x: Array, xp: Any) -> Array:
    y = (x + 1) / 2
    closed = xp.where(x <= -1, 0.0, xp.where(x >= 1, 1.0, y))
    return (closed + xp.where(x < -1, 0.0, xp.where(x > 1, 1.0, y))) / 2  # half the slope at the ends


def sparse_sigmoid_derivative(x: Array, xp: Any) -> Array:
    inside, ends = (x > -1) & (x < 1), (x == -1) | (x == 1)
    return xp.where(inside, 0.5, xp.where(ends, 0.25, xp.zeros_like(x)))


def squareplus(x: Array, xp: Any) -> Array:
    a = -_minus_abs(x, xp)
    larger, smaller = xp.where(a < 2, 2.0, a), xp.where(a < 2, a, 2.0)
    r = smaller / larger
    y = a / 2 + larger / 2 * xp.sqrt(1 + r * r)  # (|x| + sqrt(x^2 + 4)) / 2, without overflow
    return xp.where(x < 0, 1 / y, y)  # the roots of y (y - x) = 1 are y and -1/y


def squareplus_derivative(x: Array, xp: Any) -> Array:
    y = squareplus(-_minus_abs(x, xp), xp)
    r = 1 / y
    return xp.where(x < 0, r * r, 1.0) / (1 + r * r)


def tanh_shrink(x: Array, xp: Any) -> Array:
    near, w = xp.where((x > -1) & (x < 1), x, 0.0), 0.0
    for k in range(19, 1, -2):  # the continued fraction of x / tanh(x) - 1: x - tanh(x) would lose its digits
        w = near * near / (k + w)
    return xp.where((x > -1) & (x < 1), near * (w / (1 + w)), x - xp.tanh(x))


def tanh_shrink_derivative(x: Array, xp: Any) -> Array:
    y = xp.tanh(x)
    return y * y


def _minus_abs(x: Array, xp: Any) -> Array:
    return xp.where(x < 0, x, -x)  # not -abs(x): frameworks give |x| the slope 0 at 0, which neither side has


def _tanh_of_softplus(x: Array, xp: Any) -> tuple[Array, Array]:
    """Numerator and denominator of tanh(log(1 + e^x)) = ((1 + e^x)^2 - 1) / ((1 + e^x)^2 + 1), without overflow."""
    e = xp.exp(_minus_abs(x, xp))
    n = xp.where(x < 0, e * (2 + e), 1 + 2 * e)
    return n, n + xp.where(x < 0, 2.0, 2 * e * e)


def _normal_cdf(x: Array, xp: Any) -> Array:
    if xp is np:  # NumPy has no erf; erfc also keeps the digits of the far left tail
        return np.vectorize(math.erfc, otypes=[x.dtype])(-x / math.sqrt(2)) / 2
    if hasattr(xp, "erf"):
        return (1 + xp.erf(x / math.sqrt(2))) / 2
    from jax.scipy.special import erf  # jax.numpy has no erf either

    return (1 + erf(x / math.sqrt(2))) / 2


BUILT_IN: dict[str, Activation] = {
    name: Activation(name, function, derivative)
    for name, function, derivative in [
        ("tanh", tanh, tanh_derivative),
        ("sigmoid", sigmoid, sigmoid_derivative),
        ("linear", linear, linear_derivative),
        ("relu", relu, relu_derivative),
        ("hard_sigmoid", hard_sigmoid, hard_sigmoid_derivative),
        ("leaky_relu", leaky_relu, leaky_relu_derivative),
        ("elu", elu, elu_derivative),
        ("selu", selu, selu_derivative),
        ("exponential", exponential, exponential),
        ("softplus", softplus, sigmoid),
        ("softsign", softsign, softsign_derivative),
        ("silu", silu, silu_derivative),
        ("gelu", gelu, gelu_derivative),
        ("celu", elu, elu_derivative),  # with its default, alpha = 1
        ("relu6", relu6, relu6_derivative),
        ("hard_silu", hard_silu, hard_silu_derivative),
        ("hard_tanh", hard_tanh, hard_tanh_derivative),
        ("hard_shrink", hard_shrink, hard_shrink_derivative),
        ("soft_shrink", soft_shrink, hard_shrink_derivative),
        ("log_sigmoid", log_sigmoid, log_sigmoid_derivative),
        ("mish", mish, mish_derivative),
        ("sparse_plus", sparse_plus, sparse_plus_derivative),
        ("sparse_sigmoid", sparse_sigmoid, sparse_sigmoid_derivative),
        ("squareplus", squareplus, squareplus_derivative),
        ("tanh_shrink", tanh_shrink, tanh_shrink_derivative),
    ]
}
ALIASES = {"swish": "silu", "hard_swish": "hard_silu"}
# The other functions of `keras.activations`, and why the cell does not take them.
_TOGETHER = "acts on all units together; the cell's activations act on single elements"
REFUSED = {
    **dict.fromkeys(("softmax", "log_softmax", "sparsemax"), _TOGETHER),
    "glu": "makes one unit of two; the cell's activations act on single elements",
    "threshold": "needs a threshold and a default_value, which its name alone does not give",
}


def get(
    identifier: str | Callable[[Array], Array] | None, argument: str = "activation", callables: bool = True
) -> Activation:
    """Finds the activation for a Keras name, a function of `keras.activations`, None (linear), or a callable.

    A callable takes NumPy arrays. It may have its derivative as an attribute `derivative`; without one it has no
    gradient. callables: whether callables are accepted.

    Raises: ValueError for an unknown name, TypeError for anything else that is no activation; both name `argument`.
    """
    if identifier is None:
        return BUILT_IN["linear"]
    if isinstance(identifier, Activation) and (callables or identifier.is_built_in):
        return identifier
    name = identifier if isinstance(identifier, str) else _keras_name(identifier)
    if name is not None:
        name = ALIASES.get(name, name)
        if name in REFUSED:
            raise ValueError(f"{argument}: {name} {REFUSED[name]}")
        if name not in BUILT_IN:
            known = ", ".join([*BUILT_IN, *ALIASES])
            raise ValueError(f"{argument}: expected one of {known}{', or a callable' * callables}; got {identifier!r}")
        return BUILT_IN[name]
    if callable(identifier) and callables:
        function: Callable[[Array], Array] = identifier
        derivative: Callable[[Array], Array] | None = getattr(function, "derivative", None)
        return Activation(
            name=_name_of(function),
            function=_OnNumPy(function),
            derivative=None if derivative is None else _OnNumPy(derivative),
        )
    expected = "a name, a callable or None" if callables else "the name of one of Keras's activations, or None"
    raise TypeError(f"{argument}: expected {expected}; got {_describe(identifier)}")


def _keras_name(function: Any) -> str | None:
    """Returns the name of a function of `keras.activations`, None for any other; does not import Keras."""
    name, module = getattr(function, "__name__", None), getattr(function, "__module__", None)
    keras = sys.modules.get("keras.activations")
    of_keras = keras is not None and isinstance(module, str) and module.startswith("keras.")
    return name if of_keras and isinstance(name, str) and vars(keras).get(name) is function else None


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _describe(identifier: Any) -> str:
    """Describes a value that is no activation, for an error: a Keras configuration, a callable or anything else."""
    if isinstance(identifier, dict) and "class_name" in identifier:
        kind = identifier["class_name"]
        name = identifier.get("config") if kind == "function" else kind
        return f"the configuration of {name!r}, in whose place a function of NumPy arrays can stand"
    return f"the callable {_name_of(identifier)!r}" if callable(identifier) else repr(identifier)
