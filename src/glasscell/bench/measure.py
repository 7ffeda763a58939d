"""Runs the grid: every result is checked before it is timed, and all contestants are timed in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from glasscell import _native
from glasscell.bench.peers import CONTESTANTS, Contestant, Problem, Work, glasscell_numpy, present
from glasscell.bench.shapes import SHAPES, Shape
from glasscell.weights import LSTMWeights

ROUNDS = 7
ROUND_SECONDS = 0.05  # a contestant's turn lasts at least this long
WRONG = 1e-3  # of the largest value: far above float32's rounding here, far below any wrong term


@dataclass(frozen=True)
class Row:
    """One shape in one mode. `seconds`: the median of each contestant; `peak`: flop/s this machine reached."""

    shape: str
    mode: str
    flops: int
    peak: float
    seconds: dict[str, float]

    @property
    def best_peer(self) -> tuple[str, float]:
        """The fastest that is not ours, and its seconds."""
        ours = {c.name for c in CONTESTANTS if c.ours}
        peers = {name: s for name, s in self.seconds.items() if name not in ours}
        return min(peers.items(), key=lambda item: item[1]) if peers else ("none", float("nan"))

    @property
    def ratio(self) -> float:
        """How many times faster than the best peer."""
        return self.best_peer[1] / self.seconds["glasscell"]

    @property
    def share(self) -> float:
        """Of the machine's measured peak."""
        return self.flops / self.seconds["glasscell"] / self.peak


def run(
    names: Iterable[str], modes: Iterable[str] = ("infer", "train"), say: Callable[[str], None] = print
) -> list[Row]:
    """Benchmark the named shapes in the given modes with all threads. `say` hears what is going on.

    Raises: ValueError for an unknown shape or mode; RuntimeError where a contestant's result is wrong.
    """
    names, modes = list(names), list(modes)
    for argument, got, known in (("shape", names, list(SHAPES)), ("mode", modes, ["infer", "train"])):
        if unknown := [g for g in got if g not in known]:
            raise ValueError(f"{argument}: expected some of {', '.join(known)}; got {unknown[0]!r}")
    rows = []
    for name in names:
        for mode in modes:
            say(f"{name}, {mode}")
            rows.append(_row(name, SHAPES[name], mode))
    return rows


def _row(name: str, shape: Shape, mode: str) -> Row:
    problem = make_problem(shape, mode == "train")
    expected = glasscell_numpy(problem, "reference")()
    works = {c.name: _checked(c, problem, expected) for c in present(problem.train)}
    times: dict[str, list[float]] = {contestant: [] for contestant in works}
    peaks = []
    for _ in range(ROUNDS):
        peaks.append(_native.peak_flops(problem.threads))
        for contestant, work in works.items():
            times[contestant].append(_turn(work))
    seconds = {contestant: statistics.median(t) for contestant, t in times.items()}
    return Row(name, mode, shape.flops(problem.train), max(peaks), seconds)


def make_problem(shape: Shape, train: bool) -> Problem:
    """Random weights of Keras's size, input and output gradient, float32."""
    B, T, inputs, H = shape
    rng = np.random.default_rng(0)

    def draw(*size: int, scale: float = 1.0) -> Any:
        return (scale * rng.standard_normal(size)).astype(np.float32)

    weights = LSTMWeights(draw(inputs, 4 * H, scale=inputs**-0.5), draw(H, 4 * H, scale=H**-0.5), draw(4 * H))
    return Problem(weights, draw(B, T, inputs), draw(B, T, H), train, _native.num_threads())


def _checked(contestant: Contestant, problem: Problem, expected: tuple[Any, ...]) -> Work:
    work = contestant.make(problem)
    for k, (got, right) in enumerate(zip(work(), expected, strict=True)):
        error = float(np.abs(got - right).max()) / (float(np.abs(right).max()) or 1.0)  # one step has dR = 0
        if not error < WRONG:
            raise RuntimeError(f"{contestant.name}: result {k} is off by {error:.1e} of its scale; no time for it")
    return work


def _turn(work: Work) -> float:
    """Seconds a call, over one turn; the first call of a turn warms up and does not count."""
    work()
    calls, start = 0, time.perf_counter()
    while True:
        work()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= ROUND_SECONDS:
            return elapsed / calls
