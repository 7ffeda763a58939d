"""Defines `show_config()`, which describes this installation."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from glasscell import _native

FRAMEWORKS = ("keras", "jax", "tensorflow", "torch")


def show_config() -> dict[str, Any]:
    """Describe this installation: version, compiler, instruction sets, threads, and the frameworks it finds.

    `threads_of` names the owner of the threads: glasscell, or PyTorch's OpenMP once `glasscell.torch` is imported.
    `targets` are the instruction sets that this build has and this machine can run, best first. `target` is the one in
    use; the variable GLASSCELL_TARGET forces one. `block_cache_mb` is how much memory may be kept from call to call;
    GLASSCELL_BLOCK_CACHE_MB sets it, 0 for none. Frameworks are looked up, not imported.
    """
    import platform

    return {
        "glasscell": _version("glasscell"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "compiler": _native.compiler(),
        "target": _native.target(),
        "targets": _native.targets(),
        "threads": _native.num_threads(),
        "threads_of": "PyTorch (OpenMP)" if _native.uses_openmp_threads() else "glasscell",
        "block_cache_mb": _native.block_cache_limit() >> 20,
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **{name: _version(name) for name in FRAMEWORKS},
    }


def _version(package: str) -> str | None:
    from importlib import metadata  # imported late: it takes 50 ms, which `import glasscell` need not pay

    names = {"tensorflow": ("tensorflow", "tensorflow-cpu")}.get(package, (package,))
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
