"""A process of its own for each Keras backend: two cannot share one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from glasscell._cli.contestants import keras_environment, reason


class PeerError(RuntimeError):
    """A peer cannot run here; the message says why."""


class ProcessEnded(PeerError):
    """The process of a worker ended, or could not import Keras."""


class Worker:
    """A process of one backend. A process that ended is started anew by the next call."""

    def __init__(self, backend: str, threads: int) -> None:
        self.environment = {**keras_environment(threads), "KERAS_BACKEND": backend}
        self.reason = ""  # why it cannot work at all
        self.errors = tempfile.NamedTemporaryFile()  # noqa: SIM115  # until close()
        self.start()

    def start(self) -> None:
        started = self.environment, self.errors.name
        self.pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_start, initargs=started)

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the function there. Returns: its result. Raises: PeerError with the reason where there is none."""
        if self.reason:
            raise ProcessEnded(self.reason)
        try:
            return self.pool.submit(_answer, function, *arguments).result()
        except BrokenProcessPool:
            self.close(last=False)
            self.start()
            lines = self.errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise ProcessEnded(f"its process ended: {lines[-1]}") from None

    def close(self, last: bool = True) -> None:
        """End the process. Its memory is the system's again."""
        self.pool.shutdown(cancel_futures=True)
        if last:
            self.errors.close()


def _start(environment: dict[str, str], errors: str) -> None:
    os.environ.update(environment)  # before a framework is imported
    for stream in (1, 2):
        os.dup2(os.open(errors, os.O_WRONLY | os.O_APPEND), stream)


def _answer(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the function, and replace its error by the error's text: not all errors can be sent to another process."""
    try:
        return function(*arguments)
    except Exception as error:
        raise PeerError(reason(error)) from None


@contextlib.contextmanager
def started(backends: Iterable[str], threads: int) -> Iterator[dict[str, Worker]]:
    """A worker of each backend, all past their imports: nothing is timed beside them."""
    workers = {backend: Worker(backend, threads) for backend in backends}
    try:
        for worker in workers.values():
            try:
                worker.ask(exec, "import keras")
            except PeerError as error:
                worker.reason = str(error)
        yield workers
    finally:
        for worker in workers.values():
            worker.close()
