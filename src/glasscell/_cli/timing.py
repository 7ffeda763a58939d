"""Checks results, then times their makers in turn. `glasscell bench` and `benchmarks/` in the repository use it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Turn = Callable[[float], float]  # works for some seconds and gives the seconds of a call

WRONG = 1e-3  # of the largest value: far above float32's rounding here, far below any wrong term
ROUNDS, ROUND_SECONDS = 25, 0.03
DISTANT = 2.0  # times the fastest peer: whoever is slower is not in the running, and the fewest rounds will do
PAUSE = 0.005  # between turns: the threads of the one before fall asleep
SAMPLE_SECONDS = 0.001  # calls shorter than this are timed several together
COLD_SECONDS = 5.0  # a first call that takes longer counts: a second one would take too long


def check(name: str, results: Sequence[Array], right: Sequence[Array]) -> None:
    """Compare results with the right ones. Raises: RuntimeError where one is wrong."""
    for k, (got, want) in enumerate(zip(results, right, strict=True)):
        if got.shape != want.shape:
            raise RuntimeError(f"{name}: result {k} has shape {got.shape}, not {want.shape}; no time for it")
        scale = float(np.abs(want).max()) or 1.0  # one step has a zero gradient of R
        error = float(np.abs(got - want).max()) / scale
        if not error < WRONG:
            raise RuntimeError(f"{name}: result {k} is off by {error:.1e} of its scale; no time for it")


def turn(work: Callable[[], object], seconds: float) -> float:
    """Time a turn of at least `seconds`. Returns: the seconds of a call, in the shortest sample.

    What else goes on in a machine only ever adds to a time. The first call warms up and does not count, unless it takes
    very long: memory that the system took back since the turn before comes at the price of more than the work.
    """
    start = time.perf_counter()
    work()
    if (first := time.perf_counter() - start) >= max(seconds, COLD_SECONDS):
        return first
    calls, best, start = math.ceil(SAMPLE_SECONDS / first), math.inf, time.perf_counter()
    begun = start
    while True:
        for _ in range(calls):
            work()
        ended = time.perf_counter()
        best, begun = min(best, (ended - begun) / calls), ended
        if begun - start >= seconds:
            return best


def timed(
    turns: Mapping[str, Turn], enough: float, fewest: int, between: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Time all in turn, ROUNDS rounds or `fewest` at least once `enough` seconds are over; `between` begins each round.

    Returns: the seconds of a call by name, the least of the rounds. The least, as of the machine's limits: on a shared
    machine the ratio of two medians differed by 7 to 49 % from run to run, that of two least times by 2 to 10 %.
    """
    best, running, start = dict.fromkeys(turns, math.inf), list(turns), time.perf_counter()
    for done in range(ROUNDS if turns else 0):
        if done >= fewest and time.perf_counter() - start > enough:
            break
        if done == fewest:
            fastest = min((s for name, s in best.items() if not name.startswith("glasscell")), default=0.0)
            running = [n for n in running if n.startswith("glasscell") or best[n] <= DISTANT * fastest]
        time.sleep(PAUSE)
        between()
        for name in running:
            time.sleep(PAUSE)
            best[name] = min(best[name], turns[name](ROUND_SECONDS))
        running = running[1:] + running[:1]  # nobody is always the next
    return best
