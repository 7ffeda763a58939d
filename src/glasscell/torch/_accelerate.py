"""`accelerate` and `restore`: the LSTMs of a finished module become ours, and torch's again, in place.

`LSTM` keeps its parameters and attributes where `torch.nn.LSTM` does, so a module changes its class and stays the same
object: its parameters, hooks, parametrizations, place in the model and what an optimizer knows of it are untouched.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from glasscell.torch._lstm import LSTM, TORCHS
from glasscell.torch._prepare import PROJECTED


def accelerate(module: Any) -> Any:
    """Give the module back with every `torch.nn.LSTM` in it, or itself, made `glasscell.torch.LSTM`, in place.

    What is left as it was is listed in one UserWarning, each with its reason. `restore` goes back.
    Raises: TypeError for anything but a torch.nn.Module.
    """
    parts, left = _parts(module), dict[str, str]()
    for name, part in parts:
        if isinstance(part, torch.jit.ScriptModule):
            if part is module or getattr(part, "original_name", "") == "LSTM":
                left[name] = "it is TorchScript; accelerate the module that it was made of, and use torch.jit.trace"
        elif isinstance(part, TORCHS):
            if type_before_parametrizations(part) is not TORCHS:
                left[name] = f"{type(part).__name__} is a subclass, and may differ"
            elif part.proj_size:
                left[name] = PROJECTED.format(part.proj_size)
            else:
                _become(part, LSTM)
    _warn("accelerate", "torch's own", left)
    if not left and not any(isinstance(part, (LSTM, TORCHS)) for _, part in parts):
        warnings.warn(f"accelerate: {type(module).__name__} has no LSTM in it, so nothing changed", stacklevel=2)
    return module


def restore(module: Any) -> Any:
    """Give the module back with every `glasscell.torch.LSTM` in it made `torch.nn.LSTM` again, in place.

    Subclasses are left, and listed in one UserWarning.
    Raises: TypeError for anything but a torch.nn.Module; ValueError for an LSTM that has what torch's has not.
    """
    ours = [(name, part) for name, part in _parts(module) if isinstance(part, LSTM)]
    left = {name: f"{type(part).__name__} is a subclass" for name, part in ours if not _plain(part)}
    for name, part in ours:
        more = (part.activation, part.recurrent_activation, part.recurrent_dropout)
        if more != ("tanh", "sigmoid", 0.0) and name not in left:
            raise ValueError(
                f"module: expected LSTMs that torch.nn.LSTM can be, got {name!r} with activation={more[0]!r}, "
                f"recurrent_activation={more[1]!r}, recurrent_dropout={more[2]}"
            )
    for name, part in ours:
        if name not in left:
            _become(part, TORCHS)
    _warn("restore", "glasscell's", left)
    return module


def _plain(part: Any) -> bool:
    return type_before_parametrizations(part) is LSTM


def _become(part: Any, kind: type) -> None:
    """The class that parametrizations made for a module, and share with its copies, is made anew over the other."""
    if is_parametrized(part):
        own = {name: value for name, value in vars(type(part)).items() if name not in ("__dict__", "__weakref__")}
        kind = type(type(part).__name__, (kind,), own)
    part.__class__ = kind


def _warn(what: str, whose: str, left: dict[str, str]) -> None:
    if left:
        reasons = "; ".join(f"{name!r} ({reason})" for name, reason in left.items())
        warnings.warn(f"{what}: left as {whose}: {reasons}", stacklevel=3)


def _parts(module: Any) -> list[tuple[str, Any]]:
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
    return list(module.named_modules())
