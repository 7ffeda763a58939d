"""One turn of one contestant, here and in the worker processes."""

from __future__ import annotations

import time
from collections.abc import Callable


def turn(work: Callable[[], object], seconds: float) -> float:
    """Seconds a call, over a turn of at least `seconds`.

    The first call warms up and does not count, unless it alone outlasts the turn.
    """
    start = time.perf_counter()
    work()
    if (first := time.perf_counter() - start) >= seconds:
        return first
    calls, start = 0, time.perf_counter()
    while True:
        work()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return elapsed / calls
