"""Set-up of the tests on PyTorch."""

import sys

import pytest


@pytest.fixture(autouse=True)
def compiled_anew():
    """PyTorch compiles a function for a few kinds of arguments and then gives up: each test starts from none."""
    yield
    if dynamo := sys.modules.get("torch._dynamo"):
        dynamo.reset()
