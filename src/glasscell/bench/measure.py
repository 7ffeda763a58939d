"""Runs a plan: every result is checked before it is timed, and all contestants are timed in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from glasscell import _native
from glasscell.bench import keras_peers, torch_peers
from glasscell.bench.peers import OURS, PEERS, Contestant
from glasscell.bench.problem import Array, Problem, check, expected, first_results, make_problem
from glasscell.bench.shapes import SHAPES, TORCH_MODES, TRAINING, Limits
from glasscell.bench.timing import turn
from glasscell.bench.worker import PeerError, Worker, missing, reason, started

ROUNDS, FEWEST_ROUNDS = 25, 3
ROUND_SECONDS = 0.03  # a contestant's turn lasts at least this long, or one call
ROW_SECONDS = 4.0  # after this long, and the fewest rounds, a row is done
SLOWEST = 10.0  # seconds of a call; whoever takes longer is left out
DISTANT = 2.0  # times the fastest peer: whoever is slower is not in the running, and the fewest rounds will do
PAUSE = 0.005  # between turns: the threads of the one before fall asleep

BASELINE = "baseline"  # its name among the contestants
# Modes whose time is set beside another of ours, on the same shape. With lengths that time counts by the steps kept.
BASELINES = {"lengths": "infer", "lengths-train": "train", "recurrent-dropout": "train", "trace": "tape"}
KERAS = {  # the backend of each
    "glasscell.keras on JAX": "jax",
    "Keras on TensorFlow": "tensorflow",
    "Keras on JAX": "jax",
    "Keras on torch": "torch",
}


@dataclass(frozen=True)
class Row:
    """One shape in one mode.

    seconds: the least of each contestant by name; ours begin with "glasscell". floor: the roofline, in seconds.
    baseline: the seconds of our own that the mode is set beside, or None. left_out: reasons by name.
    """

    shape: str
    mode: str
    limits: Limits
    floor: float
    seconds: dict[str, float]
    baseline: float | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def best_peer(self) -> tuple[str, float] | None:
        """The fastest that is not ours, and its seconds; None where there is no peer."""
        peers = {name: s for name, s in self.seconds.items() if not name.startswith("glasscell")}
        return min(peers.items(), key=lambda item: item[1]) if peers else None

    @property
    def ratio(self) -> float | None:
        """How many times faster than the best peer; None where there is no peer."""
        return None if self.best_peer is None else self.best_peer[1] / self.seconds["glasscell"]

    @property
    def own_ratio(self) -> float | None:
        """Our time as a multiple of the baseline; None where there is none."""
        return None if self.baseline is None else self.seconds["glasscell"] / self.baseline

    @property
    def share(self) -> float:
        """Of the roofline."""
        return self.floor / self.seconds["glasscell"]


class Entry(NamedTuple):
    """A contestant that has been checked: `turn(seconds)` gives the seconds of a call."""

    name: str
    turn: Callable[[float], float]


def run(plan: Iterable[tuple[str, str]], say: Callable[[str], None] = lambda text: None) -> Iterator[Row]:
    """Benchmark each (shape, mode) with all threads, a row at a time. `say` hears what is going on.

    Raises: RuntimeError where a contestant's result is wrong. A peer that cannot run is in `Row.left_out`.
    """
    plan, threads = list(plan), _native.num_threads()
    with_keras = any(mode in keras_peers.MODES for _, mode in plan)
    if with_keras:
        say("starting Keras")
    with started(KERAS if with_keras else {}, threads) as workers:
        limits = Limits(0.0, 0.0, threads)
        for _ in range(ROUNDS):
            limits = _raised(limits)
        for shape, mode in plan:
            row = _row(shape, mode, limits, workers, say)
            limits = row.limits
            yield row


def _row(name: str, mode: str, limits: Limits, workers: dict[str, Worker], say: Callable[[str], None]) -> Row:
    shape, threads = SHAPES[name], limits.threads
    problem = make_problem(shape, mode, threads)
    ours, peers, patience = [OURS], PEERS, (ROW_SECONDS, FEWEST_ROUNDS)
    if mode in TORCH_MODES:
        problem, ours, peers = torch_peers.with_drawn_masks(problem), torch_peers.OURS, torch_peers.PEERS
        patience = torch_peers.ENOUGH, torch_peers.FEWEST_ROUNDS
    say(f"{name}, {mode}: the right result")
    right = expected(problem)
    left_out: dict[str, str] = {}
    entries: list[Entry] = []

    def enter(contestant: str, make: Callable[..., Entry], *arguments: Any) -> None:
        say(f"{name}, {mode}: {contestant}")
        try:
            start = time.perf_counter()
            entry = make(*arguments, problem, right)
            refuse_slow(entry, time.perf_counter() - start)
            entries.append(entry)
        except PeerError as error:
            left_out[contestant] = str(error)

    say(f"{name}, {mode}: glasscell")
    entries += [_here(contestant, problem, right) for contestant in ours if mode in contestant.modes]
    if mode in BASELINES:
        base = make_problem(shape, BASELINES[mode], threads)
        entries.append(_here(OURS, base, expected(base))._replace(name=BASELINE))
    for peer in peers:
        if mode in peer.modes:
            enter(peer.name, _here, peer)
    if mode in keras_peers.MODES:
        for label in KERAS:
            enter(label, _there, label, workers)
    say(f"{name}, {mode}: timing")

    def measure_limits() -> None:
        nonlocal limits
        limits = _raised(limits)

    seconds = timed(entries, measure_limits, *patience)
    baseline = seconds.pop(BASELINE, None)
    floor = shape.floor(mode in TRAINING, problem.kept_share, limits)
    if baseline is not None:
        baseline *= problem.kept_share
    return Row(name, mode, limits, floor, seconds, baseline, left_out)


def _raised(limits: Limits) -> Limits:
    """The limits, measured once more: the best of all times counts, for a busy moment shows less than the machine."""
    peak, bandwidth = _native.peak_flops(limits.threads), _native.l2_bandwidth(limits.threads)
    return Limits(max(peak, limits.peak_flops), max(bandwidth, limits.l2_bandwidth), limits.threads)


def refuse_slow(entry: Entry, first: float) -> None:
    """Raises: PeerError where a call takes too long. first: seconds of the first, which may have compiled."""
    if first > SLOWEST and (seconds := entry.turn(0.0)) > SLOWEST:
        raise PeerError(f"a call takes {seconds:.0f} s")


def timed(
    entries: list[Entry],
    between: Callable[[], None] = lambda: None,
    enough: float = ROW_SECONDS,
    fewest: int = FEWEST_ROUNDS,
) -> dict[str, float]:
    """Seconds of a call by name: the least of ROUNDS rounds, or of `fewest` at least once `enough` seconds are over.

    The least, as of the machine's limits: on a shared machine the ratio of two medians differed by 7 to 49 % from run
    to run, that of two least times by 2 to 10 %. `between` is called before each round.
    """
    times: dict[str, list[float]] = {entry.name: [] for entry in entries}
    start = time.perf_counter()
    for done in range(ROUNDS):
        if done >= fewest and time.perf_counter() - start > enough:
            break
        if done == fewest:
            peers = [entry for entry in entries if not entry.name.startswith((OURS.name, BASELINE))]
            fastest = min((min(times[peer.name]) for peer in peers), default=0.0)
            entries = [e for e in entries if e not in peers or min(times[e.name]) <= DISTANT * fastest]
        time.sleep(PAUSE)
        between()
        for entry in entries[done % len(entries) :] + entries[: done % len(entries)]:  # nobody is always the next
            time.sleep(PAUSE)
            times[entry.name].append(entry.turn(ROUND_SECONDS))
    return {name: min(t) for name, t in times.items()}


def _here(contestant: Contestant, problem: Problem, right: tuple[Array, ...]) -> Entry:
    """A contestant in this process. Raises: PeerError where a peer cannot run; RuntimeError for a wrong result."""
    if contestant.name.startswith(OURS.name):
        work = contestant.make(problem)
        results = first_results(work, problem)
    else:
        if gone := missing(*contestant.needs):
            raise PeerError(gone)
        try:
            work = contestant.make(problem)
            results = first_results(work, problem)
        except Exception as error:
            raise PeerError(reason(error)) from error
    check(contestant.name, results, right, problem)
    return Entry(contestant.name, lambda seconds: turn(work, seconds))


def _there(name: str, workers: dict[str, Worker], problem: Problem, right: tuple[Array, ...]) -> Entry:
    """A Keras layer in its backend's process, or ours in its place. Raises: as `_here`."""
    if name not in workers:
        raise PeerError(missing("keras", KERAS[name]))
    worker = workers[name]
    results, mask = worker.ask("make", problem.shape, problem.mode, problem.threads, name.startswith(OURS.name))
    if mask is not None:
        right = expected(problem._replace(recurrent_mask=mask))
    check(name, results, right, problem)
    return Entry(name, lambda seconds: worker.ask("turn", seconds))
