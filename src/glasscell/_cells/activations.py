"""Activations by their Keras names, each with its derivative, over any array namespace.

Every function takes `(x, xp)`: an array of any shape and float dtype, and the namespace it lives in
(`numpy`, `jax.numpy`, `torch`, `keras.ops`). The definitions, defaults and one-sided derivatives at the kinks are
those of `keras.activations` (Keras 3.15). They are written so that a framework that differentiates a function finds
its derivative here, at zero and at the kinks too.
"""

from __future__ import annotations

import math
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


@dataclass(frozen=True)
class Activation:
    """A function applied to each element, and its derivative.

    `name` is Keras's name; `derivative` is None where only the function was given. Calling the activation on a NumPy
    array applies it.
    """

    name: str
    function: Function
    derivative: Function | None

    @property
    def is_built_in(self) -> bool:
        """Whether it is the activation that Keras's name stands for."""
        return BUILT_IN.get(self.name) == self

    def __call__(self, x: Array) -> Array:
        return self.function(x, np)


@dataclass(frozen=True)
class _OnNumPy:
    """A function of NumPy arrays alone, called like the others; pickled where the function is."""

    function: Callable[[Array], Array]

    def __call__(self, x: Array, xp: Any) -> Array:
        return self.function(x)


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


def _minus_abs(x: Array, xp: Any) -> Array:
    return xp.where(x < 0, x, -x)  # frameworks give |x| the slope 0 at 0, which is that of neither side


def _normal_cdf(x: Array, xp: Any) -> Array:
    if xp is np:  # NumPy has no erf; erfc also keeps the digits of the far left tail
        return np.vectorize(math.erfc, otypes=[x.dtype])(-x / math.sqrt(2)) / 2
    if hasattr(xp, "erf"):
        return (1 + xp.erf(x / math.sqrt(2))) / 2
    from jax.scipy.special import erf  # jax.numpy has none either

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
    ]
}
ALIASES = {"swish": "silu"}


def get(identifier: str | Callable[[Array], Array] | None, argument: str = "activation") -> Activation:
    """The activation of a Keras name, of None (linear), or of a callable on NumPy arrays.

    A callable may carry its derivative as an attribute `derivative`; without one it runs forward only.

    Raises: ValueError for an unknown name, TypeError for anything else, both naming `argument`.
    """
    if identifier is None:
        return BUILT_IN["linear"]
    if isinstance(identifier, Activation):
        return identifier
    if isinstance(identifier, str):
        name = ALIASES.get(identifier, identifier)
        if name not in BUILT_IN:
            known = ", ".join([*BUILT_IN, *ALIASES])
            raise ValueError(f"{argument}: expected one of {known}, or a callable; got {identifier!r}")
        return BUILT_IN[name]
    if callable(identifier):
        function: Callable[[Array], Array] = identifier
        derivative: Callable[[Array], Array] | None = getattr(function, "derivative", None)
        return Activation(
            name=getattr(function, "__name__", type(function).__name__),
            function=_OnNumPy(function),
            derivative=None if derivative is None else _OnNumPy(derivative),
        )
    raise TypeError(f"{argument}: expected a name, a callable or None; got {identifier!r}")
