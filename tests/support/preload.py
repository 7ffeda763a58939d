"""C++ files of these tests: libraries that a fresh process loads in front of all others (LD_PRELOAD), and programs."""

import functools
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from fresh import HERE, NATIVE, output_of


def _compiled(sources, *options):
    """Into a file of a folder that lives as long as this process. Skips the test where there is no compiler."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "compiled.so"
    subprocess.run([*compiler.split(), "-std=c++17", "-O2", *options, *sources, "-o", path], check=True, timeout=600)
    return folder, path


@functools.cache
def library(source):
    """tests/support/`source`, compiled. Skips the test where that cannot be."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("not glibc")
    return _compiled([HERE / source], "-fPIC", "-shared", "-D_GNU_SOURCE")


@functools.cache
def program(source, *native, options=()):
    """tests/native/`source` with these files of native/, compiled without a warning."""
    root = HERE.parents[1] / "native"
    sources = [NATIVE / source, *(root / name for name in native)]
    return _compiled(sources, f"-I{root}", "-Wall", "-Wextra", "-Werror", "-pthread", *options)


def run_with(source, *arguments, **environment):
    """Runs Python with the library of tests/support/`source`, and returns what it prints."""
    _, path = library(source)
    return output_of(*arguments, LD_PRELOAD=str(path), **environment)
