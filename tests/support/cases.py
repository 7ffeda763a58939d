"""Random calls of the cell over time: `make_case(seed)`, and `run(case, engine, dtype)`, all that comes out of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from compare import assert_same_results
from glasscell import RNN, LSTMCell, _native, num_threads, set_num_threads
from glasscell._cells.activations import BUILT_IN
from glasscell._cells.layouts import LSTMWeights

NAMES = list(BUILT_IN)
BOUNDED = {"tanh", "sigmoid", "hard_sigmoid", "softsign", "hard_tanh", "sparse_sigmoid"}
GATES = ("i", "f", "g", "o", "zi", "zf", "zg", "zo")
GRADIENTS = ("x", "kernel", "recurrent_kernel", "bias", "h0", "c0")


@dataclass(frozen=True)
class Case:
    """One call. All floats are float32 values, so that a run in float64 computes the same thing."""

    seed: int
    activation: str
    recurrent_activation: str
    flags: dict[str, bool]  # of RNN
    weights: LSTMWeights
    x: np.ndarray
    options: dict[str, Any]  # initial_state and masks
    dy: np.ndarray
    dstate: tuple[np.ndarray, np.ndarray] | None

    def __str__(self) -> str:
        B, T, I = self.x.shape
        given = {name: np.shape(value) for name, value in self.options.items() if value is not None}
        on = [name for name, value in self.flags.items() if value]
        return (
            f"seed {self.seed}: B={B} T={T} I={I} H={self.weights.recurrent_kernel.shape[0]} {self.activation}/"
            f"{self.recurrent_activation} {on} {given} bias={self.weights.bias is not None}"
        )

    def layer(self, engine: str, dtype: Any) -> RNN:
        cell = LSTMCell(
            self.weights.recurrent_kernel.shape[0],
            self.activation,
            self.recurrent_activation,
            use_bias=self.weights.bias is not None,
        )
        cell.set_weights([w.astype(dtype) for w in self.weights if w is not None])
        return RNN(cell, return_state=True, engine=engine, **self.flags)

    def arguments(self, dtype: Any) -> dict[str, Any]:
        return {"x": self.x.astype(dtype), **{name: cast(value, dtype) for name, value in self.options.items()}}

    def cotangents(self, dtype: Any) -> tuple[Any, Any]:
        return self.dy.astype(dtype), cast(self.dstate, dtype)


def cast(value: Any, dtype: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(v.astype(dtype) for v in value)
    return value.astype(dtype) if value is not None and value.dtype.kind == "f" else value


def run(case: Case, engine: str, dtype: Any = np.float64) -> dict[str, np.ndarray]:
    """Outputs, final state, trace and gradients, by name; gradients as `d_` and the name of what they belong to."""
    layer, arguments = case.layer(engine, dtype), case.arguments(dtype)
    results: dict[str, np.ndarray] = {}
    results["output"], results["h"], results["c"] = layer(**arguments)
    trace = layer.trace(**arguments)
    results |= {f"trace.{name}": array for name, array in trace.asdict().items() if name != "mask"}
    output, pullback = layer.vjp(**arguments)
    np.testing.assert_array_equal(output, results["output"])  # kept for the gradient or not: the same bits
    gradients = pullback(*case.cotangents(dtype))
    results |= {f"d_{name}": getattr(gradients, name) for name in GRADIENTS}
    return {name: value for name, value in results.items() if value is not None}


def make_case(seed: int, largest: tuple[int, int, int, int] = (40, 40, 80, 80), steps: int | None = None) -> Case:
    """The configuration of this number; sizes B, T, I, H up to `largest`, or T = `steps`. Every activation comes by
    in either role among 38 in turn, every pair among 938."""
    rng = np.random.default_rng(seed)
    pair, count = seed - seed // 3 - 1, len(NAMES)
    a, s = ("tanh", "sigmoid") if seed % 3 == 0 else (NAMES[pair % count], NAMES[(pair + pair // count) % count])
    B, T, I, H = (int((limit + 1) ** rng.uniform() ** 0.6) for limit in largest)  # as many small as large
    T = steps or T
    scale, offset = 1.0, 0.0
    if not {a, s} <= BOUNDED:  # nothing holds these back: small weights and few steps keep them finite
        T, scale, offset = min(T, 8), 0.3, -0.5 if s in ("softplus", "squareplus") else 0.0
    if "exponential" in (a, s):
        T, scale, offset = min(T, 4), 0.2, -1.0

    def normal(*shape: int, scale: float = 1.0, offset: float = 0.0) -> np.ndarray:
        return (offset + scale * rng.standard_normal(shape)).astype(np.float32)

    def maybe(probability: float, value: Any) -> Any:
        return value if rng.uniform() < probability else None

    def dropout(width: int) -> np.ndarray:
        shape = (B, width) if rng.uniform() < 0.5 else (4, B, width)
        return ((rng.uniform(size=shape) < 0.7) / 0.7).astype(np.float32)

    sequences = bool(rng.integers(2))
    weights = LSTMWeights(
        normal(I, 4 * H, scale=scale * I**-0.5),
        normal(H, 4 * H, scale=scale * H**-0.5),
        maybe(0.75, normal(4 * H, scale=0.3 * scale, offset=offset)),
    )
    options = {
        "initial_state": maybe(0.6, (normal(B, H, scale=0.4), normal(B, H, scale=0.5))),
        "mask": maybe(0.4, rng.uniform(size=(B, T)) < rng.choice([0.1, 0.5, 0.9])),
        "lengths": maybe(0.4, rng.integers(0, T + 1, B)),
        "reset": maybe(0.3, rng.uniform(size=(B, T)) < 0.2),
        "dropout_mask": maybe(0.3, dropout(I)),
        "recurrent_dropout_mask": maybe(0.3, dropout(H)),
    }
    flags = {
        "return_sequences": sequences,
        "go_backwards": bool(rng.integers(2)),
        "zero_output_for_mask": bool(rng.integers(2)),
    }
    dy = normal(B, T, H) if sequences else normal(B, H)
    dstate = maybe(0.7, (normal(B, H), normal(B, H)))
    return Case(seed, a, s, flags, weights, normal(B, T, I), options, dy, dstate)


def sized_case(sizes: tuple[int, int, int, int], options: dict[str, Any], seed: int = 0, **changes: Any) -> Case:
    """A case of exactly these sizes B, T, I, H, of Keras's activations and with an initial state."""
    (B, T, I, H), rng = sizes, np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    weights = LSTMWeights(normal(I, 4 * H, scale=I**-0.5), normal(H, 4 * H, scale=H**-0.5), normal(4 * H, scale=0.3))
    options = {"initial_state": (normal(B, H), normal(B, H)), **options}
    dy, dstate = normal(B, T, H), (normal(B, H), normal(B, H))
    case = Case(seed, "tanh", "sigmoid", {"return_sequences": True}, weights, normal(B, T, I), options, dy, dstate)
    return replace(case, **changes)


def assert_same_on_threads(run: Callable[[], Any], counts: tuple[int, ...] = (2, 3, 7), what: object = "") -> Any:
    """Holds the results of `run` on each number of threads against its results on one, and returns those.

    Teams form whatever else runs on the machine; and once more they form and end at random.
    """
    before = num_threads()
    try:
        set_num_threads(1)
        expected = run()
        for n, how in [*((n, "always") for n in counts), (counts[0], "at_random")]:
            set_num_threads(n)
            _native.set_teams(how)
            assert_same_results(run(), expected, f"{n} threads, teams {how}, {what}")
    finally:
        set_num_threads(before)
        _native.set_teams("measured")
    return expected
