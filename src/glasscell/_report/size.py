"""Chooses how much of a trace fits a page: rows first, then steps, then units, and the weights last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from glasscell._trace import Trace

Array = npt.NDArray[Any]

FLOATS = 2**19  # of all traces of a page together: 2 MB, or 2.8 MB as base64
MAX_ROWS = 12  # the most rows of a page
FEWEST_STEPS, FEWEST_UNITS = 100, 32  # below these, the weights are left out first
PER_UNIT = 9  # the number of arrays (B, T, H) of a trace besides h


@dataclass(frozen=True)
class Part:
    """Holds the part of a trace on a page: its first rows and steps, some units, and whether x and weights are."""

    rows: int
    steps: int
    units: Array
    weights: bool


def part_of(trace: Trace, floats: int) -> Part:
    """Finds the largest part of a trace within a number of floats; at least a row, a step and a unit."""
    B, T, H = trace.h.shape
    for weights, rows, steps, units in _from_large_to_small(min(B, MAX_ROWS), T, H, trace.kernel is not None):
        I = trace.x.shape[2] if trace.x is not None and weights else 0
        if rows * steps * (PER_UNIT * units + H + I) + weights * 4 * units * (I + H) <= floats:
            break
    return Part(rows, steps, _largest(trace, rows, steps, units), weights)


def _from_large_to_small(rows: int, steps: int, units: int, known: bool) -> Iterator[tuple[bool, int, int, int]]:
    """Yields choices in the order of preference: with or without weights, and numbers of rows, steps and units."""
    for fewer in range(rows, 0, -1):
        yield known, fewer, steps, units
    shorter = [*_halves(steps, FEWEST_STEPS)]
    for T in shorter:
        yield known, 1, T, units
    for H in _halves(units, FEWEST_UNITS):
        yield known, 1, shorter[-1], H
    for T in _halves(steps, 1):
        yield False, 1, T, min(units, FEWEST_UNITS)
    for H in _halves(min(units, FEWEST_UNITS), 1):
        yield False, 1, 1, H


def _halves(size: int, least: int) -> Iterator[int]:
    """Yields a size, its half and so on, down to `least`."""
    yield size
    while size > least:
        size = max(size // 2, least)
        yield size


def _largest(trace: Trace, rows: int, steps: int, units: int) -> Array:
    """Selects the units with the largest mean absolute cell state, and keeps their order."""
    H = trace.c.shape[2]
    if units == H:
        return np.arange(H)
    sizes = np.nan_to_num(np.abs(trace.c[:rows, :steps]).mean((0, 1)))
    return np.sort(np.argsort(-sizes, kind="stable")[:units])


def left_out(trace: Trace, part: Part) -> str:
    """Words which part of a trace is not on the page, and how to choose another; empty if the page has all."""
    B, T, H = trace.h.shape
    said = [
        f"{what} of {size:,}{noun}"
        for what, shown, size, noun in (
            (_first(part.rows), part.rows, B, " rows"),
            (_first(part.steps), part.steps, T, " steps"),
            (f"the {count(part.units.size, 'unit')} with the largest cell state", part.units.size, H, ""),
        )
        if shown < size
    ]
    if trace.kernel is not None and not part.weights:
        said.append("neither the input nor the weights")
    if not said:
        return ""
    listed = " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)
    return (
        f"Shown are {listed}, for a page holds no more than 3 MB. "
        "trace.at(rows=..., times=..., units=...).report(path) shows those of your choice."
    )


def count(number: int, noun: str) -> str:
    """Words a number with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _first(number: int) -> str:
    return "the first" if number == 1 else f"the first {number:,}"
