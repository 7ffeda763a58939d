"""Makes native calls use the threads of PyTorch's OpenMP runtime."""

from __future__ import annotations

import ctypes

from glasscell import _native
from glasscell._ops.torch_compat import openmp_library

# Functions of libgomp, which Intel's and LLVM's runtimes have too.
FUNCTIONS = ("GOMP_parallel", "omp_get_num_threads", "omp_get_max_threads")


def use_openmp_threads() -> None:
    """Makes native calls of this process run on torch's threads, as long as torch may use as many as they need.

    Torch's threads spin for milliseconds after each operation. Threads of glasscell's own would compete with them for
    the processors: measured on two, a pass right after an operation of torch's took up to twice as long.
    Where torch has another runtime, or one without these functions, native calls keep glasscell's own threads.
    """
    try:
        library = ctypes.CDLL(openmp_library())  # it is loaded already
        addresses = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in FUNCTIONS]
    except (OSError, AttributeError):
        return
    if all(addresses):
        _native.use_openmp_threads(*addresses)  # type: ignore[arg-type]
