"""Set-up shared by all tests."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # before anything imports keras
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # the tests compile much, and run it once or twice

import numpy as np
import pytest

import glasscell


@pytest.fixture(params=["reference", "native"])
def engine_name(request):
    """Each engine in turn."""
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def threads():
    """Sets the number of threads, and sets it back in the end."""
    before = glasscell.num_threads()
    yield glasscell.set_num_threads
    glasscell.set_num_threads(before)
