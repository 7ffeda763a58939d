"""A process of its own for each Keras contestant: two backends cannot share one. It times its turns, else it sleeps.

Requests are pickled tuples on its standard input, answers pickled pairs (ok, value) on its standard output:
    ("ready",)                             answers None, once the framework is imported
    ("make", shape, mode, threads, ours)   makes the problem and the work; answers its first results and drawn masks
    ("models", shape, variant, threads)    makes models of Keras's layer and ours; answers the first results of each
    ("turn", seconds)                      answers the seconds of a call
    ("turn", seconds, contestant, call)    the same of a model
An answer that is not ok has the reason as its value.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib import util
from typing import TYPE_CHECKING, Any, BinaryIO

from glasscell.bench.problem import Array, Work, first_results, make_problem
from glasscell.bench.shapes import Shape
from glasscell.bench.timing import turn

if TYPE_CHECKING:
    from glasscell.bench.keras_models import First


class PeerError(RuntimeError):
    """A peer cannot run here; the message says why."""


def reason(error: Exception) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def missing(*packages: str) -> str:
    """What to say of the packages that are not installed; empty if all are."""
    gone = [package for package in packages if util.find_spec(package) is None]
    return f"{' and '.join(gone)} not installed" if gone else ""


class Worker:
    """The end of the process that asks. `command`: what to start instead of the worker proper."""

    def __init__(self, backend: str, threads: int, command: list[str] | None = None) -> None:
        count = str(threads)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC", "GLASSCELL_NUM_THREADS")
        environment = {
            **os.environ,
            **dict.fromkeys(names, count),
            "TF_NUM_INTEROP_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "JAX_PLATFORMS": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
            "KERAS_BACKEND": backend,
        }
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115  # until close()
        self.process = subprocess.Popen(
            command or [sys.executable, "-P", "-m", "glasscell.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
        )

    def ask(self, *request: Any) -> Any:
        """The answer to a request. Raises: PeerError with the reason where there is none."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            pickle.dump(request, self.process.stdin)
            self.process.stdin.flush()
            ok, value = pickle.load(self.process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            code = self.process.wait()
            self.errors.seek(0)
            last = self.errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise PeerError(f"its process ended with code {code}: {''.join(last) or 'no message'}") from None
        if not ok:
            raise PeerError(value)
        return value

    def close(self) -> None:
        """End the process. Its memory is the system's again."""
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
        self.process.kill()
        self.process.wait()
        self.errors.close()


@contextlib.contextmanager
def started(backends: Mapping[str, str], threads: int) -> Iterator[dict[str, Worker]]:
    """A worker of its backend for each name whose packages are installed, all past their imports."""
    with contextlib.ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name, backend in backends.items():
            if not missing("keras", backend):
                workers[name] = Worker(backend, threads)
                stack.callback(workers[name].close)
        for worker in workers.values():  # nothing is timed beside their imports
            with contextlib.suppress(PeerError):  # "make" will tell
                worker.ask("ready")
        yield workers


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the requests end."""
    works: dict[tuple[str, ...], Work] = {}
    while True:
        try:
            command, *arguments = pickle.load(requests)
        except EOFError:
            return
        answer: tuple[bool, Any]
        try:
            if command == "make":
                works = {}  # its memory first
                works[()], results, mask = _make(*arguments)
                answer = (True, (results, mask))
            elif command == "models":
                works = {}
                works, first = _models(*arguments)
                answer = (True, first)
            elif command == "turn":
                seconds, *which = arguments
                assert tuple(which) in works
                answer = (True, turn(works[tuple(which)], seconds))
            else:
                answer = (True, None)
        except Exception as error:
            answer = (False, reason(error))
        pickle.dump(answer, answers)
        answers.flush()


def _make(shape: Shape, mode: str, threads: int, ours: bool) -> tuple[Work, tuple[Array, ...], Array | None]:
    from glasscell.bench import keras_peers

    _set_threads(threads)
    problem = make_problem(shape, mode, threads)
    work, mask = keras_peers.make(problem, ours)
    return work, first_results(work, problem), mask


def _models(shape: Shape, variant: str, threads: int) -> tuple[dict[tuple[str, ...], Work], dict[str, First]]:
    from glasscell.bench import keras_models

    _set_threads(threads)
    return keras_models.make(shape, variant, threads)


def _set_threads(threads: int) -> None:
    """Of the backend that does not take them from the environment."""
    if os.environ["KERAS_BACKEND"] == "torch":
        import torch

        torch.set_num_threads(threads)


if __name__ == "__main__":
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a framework prints must not mix with the answers
    with contextlib.suppress(Exception):  # "make" will tell
        importlib.import_module("keras")
    serve(sys.stdin.buffer, out)
