"""`glasscell bench`: times the LSTMs that are installed on this machine, each result checked before it is timed."""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Sequence
from importlib import metadata

import glasscell as gc
from glasscell import _native
from glasscell._cli import timing
from glasscell._cli.contestants import CONTESTANTS, Problem, Shape, draw_problem, missing, numpy_lstm, reason
from glasscell._cli.timing import Turn, check, timed, turn

SHAPES = ("1,100,64,64", "32,100,128,128")
MODES = ("infer", "train")


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
        peak = max(peak, *(_native.peak_flops(gc.num_threads()) for _ in range(timing.ROUNDS)))
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
    """The turns of all contestants whose first result is right; `left_out` gets the others, with the reason.

    Raises: RuntimeError where a result is wrong; what "glasscell" itself raises.
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
    """Print to standard error what goes on; on a terminal every step, and the next line takes its place."""
    if sys.stderr.isatty():
        print(f"{title} {step}".ljust(60), end="\r", file=sys.stderr, flush=True)
    elif title and not step:
        print(f"glasscell bench: {title}", file=sys.stderr, flush=True)
