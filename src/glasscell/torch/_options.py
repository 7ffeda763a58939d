"""Checks the arguments of the constructor of `LSTM`, with errors of one sentence, before PyTorch reads them.

Where PyTorch has an error for an argument, its text is kept, so that users can search for it; the given value follows.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch

from glasscell.torch._arguments import ArgumentError, kind_of

ENGINES = ("auto", "native", "framework")


def check_sizes(input_size: Any, hidden_size: Any, num_layers: Any, proj_size: Any) -> None:
    """Checks the sizes of a layer. Raises: TypeError for no integers, ValueError out of their range."""
    sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers, "proj_size": proj_size}
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"{name} should be of type int, got: {kind_of(size)}; write a Python int")
        if size <= 0 and name != "proj_size":
            raise ValueError(f"{name} must be greater than zero, got: {size}")
    if proj_size < 0:
        raise ValueError(f"proj_size should be a positive integer or zero to disable projections, got: {proj_size}")
    if proj_size >= hidden_size:
        raise ValueError(f"proj_size has to be smaller than hidden_size, got: {proj_size} and {hidden_size}")


def check_switches(bias: Any, batch_first: Any, bidirectional: Any) -> None:
    """Checks the arguments that are on or off. Raises: TypeError. Torch reads `bidirectional` as any truth value."""
    for name, value in {"bias": bias, "batch_first": batch_first}.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} should be of type bool, got: {kind_of(value)}; expected True or False")
    if isinstance(bidirectional, str) or bidirectional not in (False, True):
        raise TypeError(f"bidirectional should be of type bool, got: {bidirectional!r}; expected True or False")


def check_dtype(dtype: Any) -> None:
    """Checks the dtype of the parameters. Raises: TypeError unless a torch.dtype, ArgumentError unless of floats."""
    if dtype is None:
        return
    if not isinstance(dtype, torch.dtype):
        got = repr(dtype) if isinstance(dtype, str) else kind_of(dtype)
        raise TypeError(f"dtype: expected a torch.dtype, as torch.float32, got {got}")
    if not (dtype.is_floating_point or dtype.is_complex):
        raise ArgumentError(f"dtype: expected one of floats, as torch.float32, got {dtype}; weights have gradients")


def rate_of(argument: str, rate: Any) -> float:
    """Checks a rate of dropout, the share that is dropped. Raises: TypeError for no number, ValueError out of range."""
    if not isinstance(rate, Real) or isinstance(rate, bool):
        raise TypeError(f"{argument}: expected a number from 0 to below 1, got {kind_of(rate)}")
    if not 0 <= float(rate) < 1:
        raise ValueError(f"{argument}: expected a fraction from 0 to below 1, got {rate!r}")
    return float(rate)


def check_dropout(rate: Any) -> None:
    """Checks the rate of dropout between layers, where PyTorch takes 1 too. Raises: ValueError, as PyTorch does."""
    if not isinstance(rate, Real) or isinstance(rate, bool) or not 0 <= float(rate) <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an element being zeroed, "
            f"got: {rate!r}"
        )


def check_engine(engine: Any) -> None:
    """Checks the choice of an engine. Raises: ValueError."""
    if engine not in ENGINES:
        raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
