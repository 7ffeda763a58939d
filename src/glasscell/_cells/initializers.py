"""Defines Keras's initialisers, by name or configuration, with NumPy's random numbers."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from glasscell._cells.arguments import check_seed, described
from glasscell._cells.checks import Array, Shape


class Initializer(NamedTuple):
    """Holds the class name and the configuration of a Keras initialiser, and draws arrays by it."""

    class_name: str
    config: dict[str, Any]

    def __call__(self, shape: Shape, dtype: npt.DTypeLike, rng: np.random.Generator) -> Array:
        """Draw an array. A seed in the configuration takes precedence over `rng`, as in Keras.

        Raises: ValueError for a vector from an initialiser of matrices, orthogonal or identity.
        """
        if self.class_name in ("Orthogonal", "Identity") and len(shape) != 2:
            raise ValueError(f"initializer: {self.class_name} makes matrices, and cannot make a bias of shape {shape}")
        seed = self.config.get("seed")
        if isinstance(seed, dict):  # a serialised SeedGenerator
            seed = (seed.get("config") or {}).get("seed")
        draws = rng if seed is None else np.random.default_rng(seed)
        return np.ascontiguousarray(_DRAW[self.class_name](shape, self.config, draws), dtype)

    def serialize(self) -> dict[str, Any]:
        """Return the dictionary that Keras writes for the initialiser."""
        return {
            "module": "keras.initializers",
            "class_name": self.class_name,
            "config": dict(self.config),
            "registered_name": None,
        }


def get_initializer(identifier: Any, argument: str) -> Initializer:
    """Finds the initialiser for a Keras name (`"glorot_uniform"`, `"GlorotUniform"`) or configuration.

    No class that a configuration names is imported.
    Raises: ValueError naming `argument` for an unknown initialiser, and for unknown keys or values of a known one.
    """
    if isinstance(identifier, Initializer):
        return identifier
    name, config = identifier, dict[str, Any]()
    if isinstance(identifier, dict):
        name, config = identifier.get("class_name"), identifier.get("config") or {}
    if not isinstance(name, str) or not isinstance(config, dict):
        instead = "; keras.initializers.serialize makes that of it" if hasattr(identifier, "get_config") else ""
        got = described(identifier)
        raise TypeError(f"{argument}: expected a Keras initialiser's name or configuration, got {got}{instead}")
    class_name = {"Normal": "RandomNormal", "Uniform": "RandomUniform"}.get(_camel(name), _camel(name))
    if class_name not in _DRAW:
        known = ", ".join(_snake(known) for known in _DRAW)
        raise ValueError(f"{argument}: expected one of {known}; got {name!r}")
    expected = _DEFAULTS.get(class_name, {})
    for key, value in config.items():
        if key not in expected:
            raise ValueError(f"{argument}: {class_name} has no {key!r}, expected {', '.join(expected) or 'nothing'}")
        if isinstance(expected[key], float) and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
            raise ValueError(f"{argument}: {class_name}: {key}: expected a number, got {value!r}")
    if not isinstance(config.get("seed"), dict):
        check_seed(f"{argument}: {class_name}: seed", config.get("seed"))
    config = {**expected, **config}
    if class_name == "VarianceScaling":
        distribution = str(config["distribution"]).lower()
        config["distribution"] = "truncated_normal" if distribution == "normal" else distribution
        for key, choices in (("mode", _MODES), ("distribution", _DISTRIBUTIONS)):
            if config[key] not in choices:
                raise ValueError(f"{argument}: {class_name}: {key}: expected one of {choices}, got {config[key]!r}")
        if not config["scale"] > 0:
            raise ValueError(f"{argument}: {class_name}: scale: expected a positive number, got {config['scale']!r}")
    return Initializer(class_name, config)


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


Draw = Callable[[Shape, dict[str, Any], "np.random.Generator"], Array]  # quoted: numpy.random loads at first use


def _truncated_normal(mean: float, stddev: float, shape: Shape, rng: np.random.Generator) -> Array:
    draws = rng.standard_normal(shape)
    while (far := np.abs(draws) > 2).any():  # Keras redraws beyond two standard deviations
        draws[far] = rng.standard_normal(int(far.sum()))
    return mean + stddev * draws


def _variance_scaling(scale: float, mode: str, distribution: str) -> Draw:
    def draw(shape: Shape, config: dict[str, Any], rng: np.random.Generator) -> Array:
        s, m, d = (config.get(k, v) for k, v in (("scale", scale), ("mode", mode), ("distribution", distribution)))
        inputs, outputs = config.get("input_axes"), config.get("output_axes")
        if inputs is None or outputs is None:
            inputs, outputs = [0], [-1]
        fan_in, fan_out = (math.prod(shape[axis] for axis in axes) for axes in (inputs, outputs))
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[m]
        variance = s / max(1.0, fan)
        if d == "uniform":
            limit = math.sqrt(3 * variance)
            return rng.uniform(-limit, limit, shape)
        if d == "untruncated_normal":
            return rng.normal(0, math.sqrt(variance), shape)
        # dividing by the standard deviation of a normal cut at two sigma restores the variance
        return _truncated_normal(0, math.sqrt(variance) / 0.87962566103423978, shape, rng)

    return draw


def _orthogonal(shape: Shape, config: dict[str, Any], rng: np.random.Generator) -> Array:
    rows, columns = shape
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diag(r))  # makes the draw uniform over the orthogonal matrices
    matrix: Array = q if rows >= columns else q.T
    return float(config["gain"]) * matrix


def _identity(shape: Shape, config: dict[str, Any], rng: np.random.Generator) -> Array:
    return float(config["gain"]) * np.eye(shape[0], shape[1])


_MODES = ("fan_in", "fan_out", "fan_avg")
_DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform")
_FANS = {"seed": None, "input_axes": None, "output_axes": None}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "Constant": {"value": 0.0},
    "RandomNormal": {"mean": 0.0, "stddev": 0.05, "seed": None},
    "TruncatedNormal": {"mean": 0.0, "stddev": 0.05, "seed": None},
    "RandomUniform": {"minval": -0.05, "maxval": 0.05, "seed": None},
    "Orthogonal": {"gain": 1.0, "seed": None},
    "Identity": {"gain": 1.0},
    "VarianceScaling": {"scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal", **_FANS},
    **{f"{who}{how}": _FANS for who in ("Glorot", "He", "Lecun") for how in ("Uniform", "Normal")},
}
_DRAW: dict[str, Draw] = {
    "Zeros": lambda shape, config, rng: np.zeros(shape),
    "Ones": lambda shape, config, rng: np.ones(shape),
    "Constant": lambda shape, config, rng: np.full(shape, float(config["value"])),
    "RandomNormal": lambda shape, config, rng: rng.normal(config["mean"], config["stddev"], shape),
    "TruncatedNormal": lambda shape, config, rng: _truncated_normal(config["mean"], config["stddev"], shape, rng),
    "RandomUniform": lambda shape, config, rng: rng.uniform(config["minval"], config["maxval"], shape),
    "VarianceScaling": _variance_scaling(1.0, "fan_in", "truncated_normal"),
    "GlorotUniform": _variance_scaling(1.0, "fan_avg", "uniform"),
    "GlorotNormal": _variance_scaling(1.0, "fan_avg", "truncated_normal"),
    "HeUniform": _variance_scaling(2.0, "fan_in", "uniform"),
    "HeNormal": _variance_scaling(2.0, "fan_in", "truncated_normal"),
    "LecunUniform": _variance_scaling(1.0, "fan_in", "uniform"),
    "LecunNormal": _variance_scaling(1.0, "fan_in", "truncated_normal"),
    "Orthogonal": _orthogonal,
    "Identity": _identity,
}
