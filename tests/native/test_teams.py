"""Threads that share the units of the same rows: teams that form, end in the middle, or never form."""

import numpy as np
import pytest

from cases import run, sized_case
from compare import assert_same_results
from glasscell import _native

SIZES = (1, 40, 64, 160)  # few rows and many units: a team of two, forward and backward


@pytest.fixture
def at_random():
    yield lambda: _native.set_teams("at_random")
    _native.set_teams("measured")


def options(name, B, T, I, H):
    rng = np.random.default_rng(0)
    return {
        "plain": {},
        "mask": {"mask": rng.uniform(size=(B, T)) < 0.7},
        "reset": {"reset": rng.uniform(size=(B, T)) < 0.2, "lengths": np.full(B, T - 3)},
        "dropout": {"dropout_mask": rng.uniform(size=(4, B, I)).astype("f4"),
                    "recurrent_dropout_mask": rng.uniform(size=(4, B, H)).astype("f4")},
    }[name]  # fmt: skip


@pytest.mark.parametrize("name", ["plain", "mask", "reset", "dropout"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 3])
def test_teams_that_end_at_random_give_the_same_bits(threads, at_random, name, dtype, rows):
    """At any barrier, forward and backward: with inputs summed ahead, masks, resets, a tape, and none."""
    sizes = (rows, *SIZES[1:])
    case = sized_case(sizes, options(name, *sizes))
    threads(1)
    expected = run(case, "native", dtype)
    threads(2)
    at_random()
    for _ in range(12):
        assert_same_results(run(case, "native", dtype), expected, name)


def test_a_name_that_is_none():
    with pytest.raises(ValueError, match="how: expected 'measured', 'always' or 'at_random'"):
        _native.set_teams("never")
