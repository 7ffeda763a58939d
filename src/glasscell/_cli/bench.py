"""`glasscell bench`: times the LSTMs that are installed on this machine, in turn, each result checked first.

`benchmarks/` in the repository checks and times with the functions of this file.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata

import numpy as np

import glasscell as gc
from glasscell import _native
from glasscell._cli.contestants import CONTESTANTS, Array, Problem, Shape, draw_problem, missing, numpy_lstm, reason

Turn = Callable[[float], float]  # runs for some seconds and returns the seconds of a call

SHAPES = ("1,100,64,64", "32,100,128,128")
MODES = ("infer", "train")
WRONG = 1e-3  # a share of the largest value: far above float32 rounding here, far below any wrong term
ROUNDS, ROUND_SECONDS = 25, 0.03
DISTANT = 2.0  # times the fastest peer: a slower contestant gets only the fewest rounds
PAUSE = 0.005  # between turns, so that the threads of the last contestant fall asleep
SAMPLE_SECONDS = 0.001  # shorter calls are timed several together
COLD_SECONDS = 5.0  # a longer first call is counted, for a second would take too long


def main(shapes: Sequence[str] = SHAPES, modes: Sequence[str] = MODES) -> None:
    """Time each shape, "B,T,I,H", in each mode; print a line of each contestant as soon as it is timed.

    Raises: ValueError naming a wrong shape; RuntimeError where a result is wrong.
    """
    sizes = {shape: Shape.parse(shape) for shape in shapes}
    width, peak, load = (
        max(map(len, ("B,T,I,H", *sizes))),
        0.0,
        os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
    )
    shares, left_out = list[float](), dict[str, str]()
    print(f"{'B,T,I,H':{width}}  mode   {'':20}        ms   times  of peak", flush=True)
    for shape, mode in itertools.product(sizes, modes):
        problem = draw_problem(sizes[shape], mode == "train")
        turns = _ready(problem, f"{shape} {mode}", left_out)
        peak = max(peak, *(_native.peak_flops(gc.num_threads()) for _ in range(ROUNDS)))
        best = timed(turns, enough=1.0, fewest=3)
        _note("", "")
        for name, seconds in best.items():
            times, share = seconds / best["glasscell"], problem.shape.flops(problem.train) / seconds / peak
            shares += [share] if name == "glasscell" else []
            cells = f"{mode:5}  {name:20}  {seconds * 1e3:8.4g}  {times:6.2f}  {share:7.0%}"
            print(f"{shape:{width}}  {cells}", flush=True)
    _print_conditions(shares, peak, "keras.layers.LSTM" in best, load)
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")


def _print_conditions(shares: Sequence[float], peak: float, keras: bool, load: float) -> None:
    print("times: as long as glasscell takes; the least of several rounds, all in turn")
    reached = " to ".join(dict.fromkeys(f"{share:.0%}" for share in (min(shares), max(shares))))
    machine = f"threads {gc.num_threads()}, {_native.target()}"
    print(f"{machine}; glasscell at {reached} of the measured {peak / 1e9:.0f} GFLOP/s")
    if keras:
        backend = sys.modules["keras"].backend.backend()
        print(f"Keras {metadata.version('keras')} on {backend}: predict_on_batch and train_on_batch of a model")
    if load > 1:
        print(f"others were at work here (load average {load:.1f}): close them, and time again")


def _ready(problem: Problem, title: str, left_out: dict[str, str]) -> dict[str, Turn]:
    """Makes the turns of all contestants that can run; `left_out` gets the others, with the reason.

    Raises: RuntimeError where a result is wrong; any error of "glasscell" itself.
    """
    right, turns = numpy_lstm(problem, "reference")(), dict[str, Turn]()
    _note(title, "")
    for name, (make, needs) in CONTESTANTS.items():
        if gone := missing(*needs):
            left_out[name] = f"{' and '.join(gone)} not installed"
        elif name != "ONNX Runtime" or not problem.train:
            _note(title, name)
            try:
                work = make(problem)
                results = work()
            except Exception as error:
                if name == "glasscell":
                    raise
                left_out[name] = reason(error)
                continue
            check(name, results, right)
            turns[name] = functools.partial(turn, work)
    return turns


def _note(title: str, step: str) -> None:
    """Print progress to standard error; on a terminal every step, each over the line before."""
    if sys.stderr.isatty():
        print(f"{title} {step}".ljust(60), end="\r", file=sys.stderr, flush=True)
    elif title and not step:
        print(f"glasscell bench: {title}", file=sys.stderr, flush=True)


def check(name: str, results: Sequence[Array], right: Sequence[Array]) -> None:
    """Compare results with the right ones. Raises: RuntimeError where one is wrong."""
    for k, (got, want) in enumerate(zip(results, right, strict=True)):
        if got.shape != want.shape:
            raise RuntimeError(f"{name}: result {k} has shape {got.shape}, not {want.shape}; no time for it")
        scale = float(np.abs(want).max()) or 1.0  # with one step the gradient of R is zero
        error = float(np.abs(got - want).max()) / scale
        if not error < WRONG:
            raise RuntimeError(f"{name}: result {k} is off by {error:.1e} of its scale; no time for it")


def turn(work: Callable[[], object], seconds: float) -> float:
    """Time a turn of at least `seconds`. Returns: the seconds of a call, in the shortest sample.

    The shortest is taken because other work on the machine only ever adds to a time. The first call is a warm-up and is
    not counted, unless it takes very long: the system may have taken back memory since the last turn, and getting it
    again can take longer than the work.
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

    Returns: the seconds of a call by name, the least of the rounds. Least times repeat better than medians: on a shared
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
        running = running[1:] + running[:1]  # so that none always comes after the same one
    return best
