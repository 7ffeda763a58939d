"""Runs a plan: every result is checked before it is timed, and all contestants are timed in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import glasscell as gc
from benchmarks import keras_peers
from benchmarks.peers import BASE, CONTESTANTS, Contestant
from benchmarks.problem import Array, Problem, check, expected, first_results, make_problem
from benchmarks.shapes import MODELS, SHAPES, TORCH, Limits
from benchmarks.worker import PeerError, ProcessEnded, Worker, started
from glasscell._cli import bench
from glasscell._cli.bench import Turn, timed
from glasscell._cli.contestants import missing, reason

Record = dict[str, Any]  # of one contestant in one shape and mode

SLOWEST = 10.0  # seconds of a call; whoever takes longer is left out
# Modes, and the mode of ours beside whose time each is set, on the same shape; with lengths by the share of steps kept.
BASES = {"lengths": "infer", "lengths-train": "train", "recurrent-dropout": "train", "trace": "tape"}
HOPELESS = {("basin", "torch"): "Keras takes the better part of a minute to train a batch"}  # a model, on two cores


def run(plan: Iterable[tuple[str, str]], say: Callable[[str], None] = lambda text: None) -> Iterator[list[Record]]:
    """Benchmark each (shape, mode) with all threads, a row at a time. `say` hears what is going on.

    A record: shape, its sizes, mode, the roofline's `floor_seconds`, the machine's limits so far, contestant, its
    `seconds` or why it is `left_out`, and in a Keras model the `engine` of ours.

    Raises: RuntimeError where a result is wrong; what one of ours raises.
    """
    plan, limits = list(plan), Limits(gc.num_threads())
    rivals = [one for one in CONTESTANTS if any(mode in one.modes for _, mode in plan) and not missing(*one.needs)]
    say("starting")
    with started(dict.fromkeys(one.backend for one in rivals if one.backend), limits.threads) as workers:
        for _ in range(bench.ROUNDS):
            limits.measure()
        for shape, mode in plan:
            yield _row(shape, mode, limits, workers, say)


class Ready(NamedTuple):
    """A contestant after its first call. mask: of recurrent dropout in that call, where it drew it."""

    turn: Turn
    results: tuple[Array, ...]
    mask: Array | None = None
    engine: str | None = None


def _row(name: str, mode: str, limits: Limits, workers: dict[str, Worker], say: Callable[[str], None]) -> list[Record]:
    contestants = [one for one in CONTESTANTS if mode in one.modes]
    left_out = {one.name: why for one in contestants if (why := _obstacle(one, name, mode))}
    rivals = [one for one in contestants if one.name not in left_out]
    problem = make_problem(SHAPES[name], mode if rivals else "train", limits.threads)
    ready, rights = dict[str, Ready](), dict[bytes, tuple[Array, ...]]()
    for one in rivals:
        say(f"{name}, {mode}: {one.name}")
        try:
            ready[one.name] = _checked(one, problem, workers, rights)
        except PeerError as error:
            left_out[one.name] = str(error)
    if mode in BASES:
        ready[BASE.name] = _checked(BASE, make_problem(problem.shape, BASES[mode], limits.threads), workers, {})
        contestants.append(BASE)
    say(f"{name}, {mode}: timing")
    in_processes = [one.name for one in rivals if one.backend and one.name in ready]
    seconds = _timed(ready, in_processes, mode, limits, left_out)
    if BASE.name in seconds:
        seconds[BASE.name] *= problem.kept_share
    floor = limits.floor(problem.shape, problem.train, problem.kept_share)
    row = {"shape": name, **problem.shape._asdict(), "mode": mode, "floor_seconds": floor, **vars(limits)}
    engines = {name: one.engine for name, one in ready.items()}
    return [
        {**row, "contestant": n, "seconds": seconds.get(n), "engine": engines.get(n), "left_out": left_out.get(n)}
        for n in (one.name for one in contestants)
    ]


def _obstacle(one: Contestant, name: str, mode: str) -> str:
    """Why a contestant cannot even be tried; empty where it can."""
    if gone := missing(*one.needs):
        return f"{' and '.join(gone)} not installed"
    return HOPELESS.get((name, one.backend), "") if mode in MODELS else ""


def _timed(
    ready: dict[str, Ready], in_processes: list[str], mode: str, limits: Limits, left_out: dict[str, str]
) -> dict[str, float]:
    """The seconds of a call by name. Where a process ends, its works are gone: all others are timed again."""
    patience = (1.0, 2) if mode in MODELS else (3.0, 2) if mode in TORCH else (4.0, 3)  # some are many, with slow peers
    turns = {name: one.turn for name, one in ready.items()}
    try:
        return timed(turns, *patience, limits.measure)
    except ProcessEnded as error:
        left_out |= dict.fromkeys(in_processes, str(error))
        return timed({n: turn for n, turn in turns.items() if n not in in_processes}, *patience, limits.measure)


def _checked(
    one: Contestant, problem: Problem, workers: dict[str, Worker], rights: dict[bytes, tuple[Array, ...]]
) -> Ready:
    """rights: the right results by the masks that were drawn, as far as they are known.

    Raises: PeerError where a peer cannot run or is too slow; RuntimeError for a wrong result.
    """
    start = time.perf_counter()
    ready = _there(one, problem, workers[one.backend]) if one.backend else _here(one, problem)
    took, drawn = time.perf_counter() - start, b"" if ready.mask is None else ready.mask.tobytes()
    if drawn not in rights:
        rights[drawn] = expected(problem if ready.mask is None else problem._replace(recurrent_dropout_mask=ready.mask))
    check(one.name, ready.results, rights[drawn], problem)
    may_be_slow = one.ours and not one.backend  # else the first call may have compiled: the second tells
    if took > SLOWEST and not may_be_slow and (seconds := ready.turn(0.0)) > SLOWEST:
        raise PeerError(f"a call takes {seconds:.0f} s")
    return ready._replace(results=())  # their memory


def _here(one: Contestant, problem: Problem) -> Ready:
    try:
        work = one.make(problem)
        results = first_results(work, problem)
    except Exception as error:
        if one.ours:
            raise
        raise PeerError(reason(error)) from error
    return Ready(lambda seconds: bench.turn(work, seconds), results)


def _there(one: Contestant, problem: Problem, worker: Worker) -> Ready:
    arguments = problem.shape, problem.mode, problem.threads, one.name, one.ours
    try:
        results, mask, engine = worker.ask(keras_peers.make, *arguments)
    except ProcessEnded:
        raise
    except PeerError as error:
        if one.ours:
            raise RuntimeError(f"{one.name}: {error}") from error
        raise
    return Ready(lambda seconds: float(worker.ask(keras_peers.turn, one.name, seconds)), results, mask, engine)
