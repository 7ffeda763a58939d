"""Set-up shared by all tests."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")  # before anything imports keras

import numpy as np
import pytest


@pytest.fixture(params=["reference", "native"])
def engine_name(request):
    """Each engine in turn."""
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(0)
