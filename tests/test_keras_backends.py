"""The Keras tests that run on any backend, on those that are not this process's: Keras takes one backend a process."""

import re
from pathlib import Path

import pytest

from fresh import run_python
from test_keras_agrees import CONFIGURATIONS

HERE = Path(__file__).parent
FILES = {  # and at least so many tests that pass
    ("test_keras_agrees.py", "test_keras_options.py"): CONFIGURATIONS + 14,
    ("test_keras_own.py", "test_keras_accelerate.py"): 49,
}


@pytest.mark.parametrize("files", FILES)
@pytest.mark.parametrize("backend", ["tensorflow", "torch"])
def test_on_another_backend(backend, files):
    here = [HERE / file for file in files]
    run = run_python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", *here, KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL="3"
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None, run.stdout[-2000:]
    assert int(passed[1]) >= FILES[files]
