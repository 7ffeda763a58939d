"""C++ files of these tests as libraries that a fresh process loads in front of all others (LD_PRELOAD)."""

import functools
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from fresh import HERE, run_python


@functools.cache
def library(source):
    """tests/`source`, compiled. Skips the test where that cannot be."""
    compiler = os.environ.get("CXX") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("not glibc")
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "preload.so"
    options = ["-std=c++17", "-O2", "-fPIC", "-shared", "-D_GNU_SOURCE"]
    subprocess.run([*compiler.split(), *options, HERE / source, "-o", path], check=True)
    return folder, path  # the folder lives as long as this process


def run_with(source, script, *arguments, **environment):
    """What `script` prints, in a fresh process with the library of tests/`source`."""
    _, path = library(source)
    done = run_python("-c", script, *arguments, LD_PRELOAD=str(path), **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout
