"""Set-up shared by all tests."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # before anything imports keras
# The tests compile much, and run it once or twice. XLA ends the process over a flag that a later version dropped, and
# names it: then it can go from here.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")

import numpy as np
import pytest

import glasscell
from browsers import chromium


def pytest_collection_modifyitems(items):
    """The longest first: last, one process would wait for them while the other has nothing left to do."""
    items.sort(key=lambda item: item.path.name not in ("test_keras_backends.py", "test_examples.py"))


@pytest.fixture(params=["reference", "native"])
def engine_name(request):
    """Each engine in turn."""
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def browser():
    """One browser for all pages."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def threads():
    """Sets the number of threads, and sets it back in the end."""
    before = glasscell.num_threads()
    yield glasscell.set_num_threads
    glasscell.set_num_threads(before)
