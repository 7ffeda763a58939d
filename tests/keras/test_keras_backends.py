"""The Keras tests that run on any backend, on those that are not this process's: Keras takes one backend a process."""

import re
from pathlib import Path

import pytest
from test_keras_agrees import CONFIGURATIONS
from test_keras_situations import SITUATIONS

from fresh import run_python

HERE = Path(__file__).parent
FILES = {  # in two processes, and how many tests pass at least
    ("agrees", "activations", "options", "own", "accelerate", "watched", "export", "compat"): CONFIGURATIONS + 110,
    ("between", "cells", "graphs", "inputs", "situations", "torch_module", "model_trace", "table"): SITUATIONS + 100,
}


@pytest.mark.parametrize("names", FILES, ids="-".join)
@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_on_another_backend(backend, names):
    files = [HERE / f"test_keras_{name}.py" for name in names]
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    run = run_python(*arguments, KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3")
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None, run.stdout[-2000:]
    assert int(passed[1]) >= FILES[names]
