"""`accelerate` and `restore`: the LSTMs of a finished module become ours, and torch's again, in place.

`LSTM` keeps its parameters and attributes where `torch.nn.LSTM` does, so a module changes its class and stays the same
object: its parameters, hooks, place in the model and what an optimizer knows of it are untouched.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

from glasscell.torch.lstm import LSTM


def accelerate(module: Any) -> Any:
    """Give the module back with every `torch.nn.LSTM` in it, or itself, made `glasscell.torch.LSTM`, in place.

    What is left as it was is listed in one UserWarning, each with its reason. `restore` goes back.
    Raises: TypeError for anything but a torch.nn.Module.
    """
    found = {name: part for name, part in _parts(module) if isinstance(part, torch.nn.LSTM)}
    left: dict[str, str] = {}
    for name, part in found.items():
        if type(part) is not torch.nn.LSTM:
            left[name] = f"{type(part).__name__} is a subclass, and may differ"
        elif part.proj_size:
            left[name] = f"proj_size is {part.proj_size}, and the cell has no projection"
        else:
            part.__class__ = LSTM
    if left:
        reasons = "; ".join(f"{name!r} ({reason})" for name, reason in left.items())
        warnings.warn(f"accelerate: left as torch's own: {reasons}", stacklevel=2)
    elif not found and not any(isinstance(part, LSTM) for _, part in _parts(module)):
        warnings.warn(f"accelerate: {type(module).__name__} has no LSTM in it, so nothing changed", stacklevel=2)
    return module


def restore(module: Any) -> Any:
    """Give the module back with every `glasscell.torch.LSTM` in it made `torch.nn.LSTM` again, in place.

    Raises: TypeError for anything but a torch.nn.Module; ValueError for an LSTM that has what torch's has not.
    """
    ours = [(name, part) for name, part in _parts(module) if type(part) is LSTM]
    for name, part in ours:
        more = (part.activation, part.recurrent_activation, part.recurrent_dropout)
        if more != ("tanh", "sigmoid", 0.0):
            raise ValueError(
                f"module: expected LSTMs that torch.nn.LSTM can be, got {name!r} with activation={more[0]!r}, "
                f"recurrent_activation={more[1]!r}, recurrent_dropout={more[2]}"
            )
    for _, part in ours:
        part.__class__ = torch.nn.LSTM
    return module


def _parts(module: Any) -> list[tuple[str, Any]]:
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    return list(module.named_modules())
