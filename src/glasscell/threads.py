"""Sets how many threads a native call may use, and tells threadpoolctl."""

from __future__ import annotations

import functools
import operator
import sys

from glasscell import _native


def num_threads() -> int:
    """The largest number of threads that a native call may use; small calls use fewer.

    The default is the environment variable GLASSCELL_NUM_THREADS. Without it, the default is the number of processors
    in the CPU affinity of the process when glasscell first needs it, and at most the CPU limit of its container (Docker
    or Kubernetes), rounded up.

    Raises: ValueError if GLASSCELL_NUM_THREADS is not a positive integer.
    """
    return _native.num_threads()


def set_num_threads(threads: int) -> None:
    """Set the largest number of threads of native calls, 1 to 4096, for the whole process.

    Any number gives the same results, bit for bit.

    Raises: TypeError unless `threads` is an integer; ValueError outside 1 to 4096.
    """
    try:
        number = operator.index(threads)
    except TypeError:
        got = " ".join(repr(threads).split())  # in one line
        raise TypeError(f"threads: expected an integer, got {got:.80}") from None
    if not 1 <= number <= 4096:
        raise ValueError(f"threads: expected 1 to 4096, got {number}")
    _native.set_num_threads(number)


@functools.cache  # registers once, however often it is called
def register_threadpoolctl() -> None:
    """Register glasscell with `threadpoolctl.threadpool_limits` and `threadpool_info`, as user_api "glasscell".

    `import glasscell` does this by itself if threadpoolctl is already imported.
    Raises: ImportError if threadpoolctl is not installed.
    """
    try:
        import threadpoolctl
    except ModuleNotFoundError:
        raise ImportError(
            "register_threadpoolctl needs threadpoolctl, which is not installed: pip install threadpoolctl",
            name="threadpoolctl",
        ) from None

    class Controller(threadpoolctl.LibController):  # type: ignore[misc]
        user_api = internal_api = "glasscell"
        filename_prefixes = ("_native",)
        check_symbols = ("glasscell_get_num_threads", "glasscell_set_num_threads")

        def get_num_threads(self) -> int:
            return int(self.dynlib.glasscell_get_num_threads())

        def set_num_threads(self, num_threads: int) -> None:
            self.dynlib.glasscell_set_num_threads(num_threads)

        def get_version(self) -> str:
            from importlib import metadata

            return metadata.version("glasscell")

    threadpoolctl.register(Controller)


if "threadpoolctl" in sys.modules:
    register_threadpoolctl()
