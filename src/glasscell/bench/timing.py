"""One turn of one contestant, here and in the worker processes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

SAMPLE_SECONDS = 0.001  # calls shorter than this are timed several together
COLD_SECONDS = 5.0  # a first call that takes longer counts: a second one would take too long


def turn(work: Callable[[], object], seconds: float) -> float:
    """Seconds a call: the shortest sample of a turn of at least `seconds`.

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
