"""Memory runs out: MemoryError, whichever allocation fails and in whichever thread, and the next call is right."""

import sys

import pytest

from fresh import HERE, output_of
from preload import run_with

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

# NumPy's own masks and random numbers, and all of torch and JAX, take a failure badly: there ours alone fail.
CALLS = ["forward", "vjp", "vjp_from_checkpoints", "team", "both", "both_transposed", "unaligned", "stream"]
OURS = [*CALLS, "forward_without_packed_weights", "pack", "vjp_with_masks", "torch", "jax"]
EVERY = [*((name, "ours") for name in OURS), *((name, "any") for name in CALLS)]


@pytest.mark.parametrize(("name", "whose"), EVERY)
def test_every_allocation_fails_in_turn(name, whose):
    """The n-th one, n counting up until the call succeeds; once it alone, once all from it on."""
    if name in ("torch", "jax"):
        pytest.importorskip(name)
    failures = run_with("failing_allocations.cpp", HERE / "out_of_memory.py", name, whose)
    assert int(failures) > 2  # else the call allocates nothing, and nothing was tested


LIMITED = """
import resource, sys
import numpy as np, torch
import glasscell.torch

def in_use():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

torch.set_num_threads(2)
lstm, x = glasscell.torch.LSTM(512, 512, bidirectional=True), torch.ones(100, 2, 512)
small = glasscell.torch.LSTM(8, 8)
expected, _ = small(torch.ones(3, 1, 8))
y, _ = lstm(x)
hard, errors = resource.getrlimit(resource.RLIMIT_AS)[1], 0
for room in range(4, 60, 4):
    y, _ = lstm(x)
    resource.setrlimit(resource.RLIMIT_AS, (in_use() + (room << 20), hard))
    try:
        y.sum().backward()
    except (MemoryError, RuntimeError) as error:  # torch's own say "not enough memory"
        assert isinstance(error, MemoryError) or "memory" in str(error), error
        errors += isinstance(error, MemoryError)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    assert torch.equal(small(torch.ones(3, 1, 8))[0], expected)
print(errors)
"""


def test_two_directions_under_a_limit_of_address_space():
    pytest.importorskip("torch")
    assert int(output_of("-c", LIMITED)) > 0
