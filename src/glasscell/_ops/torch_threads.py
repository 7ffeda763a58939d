"""Native calls on the threads of PyTorch's OpenMP runtime."""

from __future__ import annotations

import ctypes

from glasscell import _native
from glasscell._ops.torch_compat import openmp_library

# Of libgomp; Intel's and LLVM's runtimes have them too.
FUNCTIONS = ("GOMP_parallel", "omp_get_num_threads", "omp_get_max_threads")


def use_openmp_threads() -> None:
    """From now on native calls of this process run on torch's threads, as long as torch may use as many as we want.

    Those threads spin for milliseconds after each operation of torch's. Threads of our own would have to share the
    processors with them: measured on two, a pass right after an operation of torch's took up to twice as long.
    Where torch has another runtime, or one without these functions, native calls keep threads of their own.
    """
    try:
        library = ctypes.CDLL(openmp_library())  # loaded already
        addresses = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in FUNCTIONS]
    except (OSError, AttributeError):
        return
    if all(addresses):
        _native.use_openmp_threads(*addresses)  # type: ignore[arg-type]
