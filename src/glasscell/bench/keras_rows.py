"""Runs the rows of Keras models: Keras's layer and ours in one process of each backend, checked, then timed in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from glasscell import _native
from glasscell.bench.keras_models import CALLS, First
from glasscell.bench.measure import Entry, refuse_slow, timed
from glasscell.bench.problem import check_close
from glasscell.bench.shapes import SHAPES, Shape
from glasscell.bench.worker import PeerError, Worker, missing, started

BACKENDS = {"JAX": "jax", "TensorFlow": "tensorflow", "torch": "torch"}
HOPELESS = {("basin", "torch"): "Keras takes the better part of a minute to train a batch"}  # on two cores
ENOUGH, FEWEST_ROUNDS = 1.0, 2  # after so many seconds and rounds a call of a model is timed


@dataclass(frozen=True)
class KerasRow:
    """One shape, one variant of the model, one call of it, on every backend.

    seconds: by backend, then "glasscell" and "Keras". engines: what ran our layer, "native" or "framework", and
    left_out: reasons, both by backend.
    """

    shape: str
    variant: str
    call: str
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    engines: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def ratios(self) -> dict[str, float]:
        """Keras's time as a multiple of ours, by backend."""
        return {backend: seconds["Keras"] / seconds["glasscell"] for backend, seconds in self.seconds.items()}


def run(plan: Iterable[tuple[str, str]], say: Callable[[str], None] = lambda text: None) -> Iterator[KerasRow]:
    """Benchmark each (shape, "keras " + variant) with all threads: a row for each of CALLS. `say` hears what goes on.

    Raises: RuntimeError where a model of our layer gives another result than Keras's.
    """
    plan, threads = list(plan), _native.num_threads()
    say("starting Keras")
    with started(BACKENDS, threads) as workers:
        for shape, mode in plan:
            variant = mode.partition(" ")[2]
            rows = [KerasRow(shape, variant, call) for call in CALLS]
            for backend in BACKENDS:
                say(f"{shape}, {variant}: Keras and glasscell on {backend}")
                try:
                    if (shape, backend) in HOPELESS:
                        raise PeerError(HOPELESS[shape, backend])
                    if backend not in workers:
                        raise PeerError(missing("keras", BACKENDS[backend]))
                    _fill(rows, backend, workers[backend], SHAPES[shape], threads)
                except PeerError as error:
                    for row in rows:
                        row.left_out[backend] = str(error)
            yield from rows


def _fill(rows: list[KerasRow], backend: str, worker: Worker, shape: Shape, threads: int) -> None:
    """Check the models of one backend and time the calls. Raises: PeerError where they cannot run; as `run`."""
    first: dict[str, First] = worker.ask("models", shape, rows[0].variant, threads)
    ours, theirs = first["glasscell"], first["Keras"]
    for k, (got, want) in enumerate(zip(ours.results, theirs.results, strict=True)):
        check_close(f"glasscell on {backend}, {rows[0].variant}", k, got, want)
    for row in rows:
        entries = [_entry(worker, name, row.call) for name in first]
        for entry in entries:
            try:
                refuse_slow(entry, first[entry.name].seconds[row.call])
            except PeerError as error:
                row.left_out[backend] = f"{entry.name}: {error}"
        if backend not in row.left_out:
            row.seconds[backend] = timed(entries, enough=ENOUGH, fewest=FEWEST_ROUNDS)
            row.engines[backend] = ours.engines[row.call]


def _entry(worker: Worker, name: str, call: str) -> Entry:
    return Entry(name, lambda seconds: worker.ask("turn", seconds, name, call))
