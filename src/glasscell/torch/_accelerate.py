"""Defines `accelerate` and `restore`, which turn the LSTMs of a finished module into glasscell's and back, in place.

`LSTM` has the same parameters and attributes as `torch.nn.LSTM`. So a module only changes its class and stays the same
object, with its parameters, hooks, parametrizations, place in the model and optimizer state.
"""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

import torch
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from glasscell._ops.torch_compat import flat_weights
from glasscell.torch._arguments import kind_of
from glasscell.torch._lstm import LSTM, TORCHS
from glasscell.torch._prepare import PROJECTED, why_not_native

Module = TypeVar("Module", bound=torch.nn.Module)
# Advice for an argument that is no module, by the name of its class or package.
ADVICE = {
    "keras": "glasscell.keras has one for Keras's models",
    "glasscell": "NumPy's layers are native as they are",
    "str": "load the model first",
    "type": "make a module of the class first",
    "dict": "load the state into a module first, by load_state_dict",
    "list": "torch.nn.ModuleList makes one of several",
}


def accelerate(module: Module) -> Module:
    """Turn every `torch.nn.LSTM` in a module, or the module itself, into a `glasscell.torch.LSTM`, in place.

    module: any torch.nn.Module, also a compiled or wrapped one. Parameters, hooks, parametrizations and optimizer
        state are untouched. `restore` is the inverse.

    One UserWarning lists the LSTMs that are left as they were, each with the reason. Another one lists those that will
    run PyTorch's own LSTM in their present state, in half precision or on another device, with advice.

    Returns: the module.
    Raises: TypeError for anything but a torch.nn.Module.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.LSTM(3, 4))
    >>> accelerate(model)[0].trace(torch.randn(5, 2, 3))
    layer 0: Trace(B=2, T=5, H=4, float32; arrays i f g o c h zi zf zg zo)
    """
    parts, left, waiting = _parts("accelerate", module), dict[str, str](), dict[str, str]()
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
                weights = flat_weights(part, refresh=False)
                if reason := why_not_native(part, "auto", weights[0], weights):
                    waiting[name] = reason
    _warn("accelerate: left as torch's own", left)
    _warn("accelerate: made glasscell's, but torch's own will run", waiting)
    if not left and not any(isinstance(part, (LSTM, TORCHS)) for _, part in parts):
        warnings.warn(f"accelerate: {type(module).__name__} has no LSTM in it, so nothing changed", stacklevel=2)
    return module


def restore(module: Module) -> Module:
    """Turn every `glasscell.torch.LSTM` in a module, or the module itself, back into a `torch.nn.LSTM`, in place.

    module: any torch.nn.Module. Subclasses are left, and listed in one UserWarning.

    Returns: the module.
    Raises: TypeError for anything but a torch.nn.Module; ValueError for an LSTM with an option that torch's lacks.

    >>> restore(LSTM(3, 4))
    LSTM(3, 4)
    """
    ours = [(name, part) for name, part in _parts("restore", module) if isinstance(part, LSTM)]
    left = {name: f"{type(part).__name__} is a subclass" for name, part in ours if not _plain(part)}
    for name, part in ours:
        more = (part.activation, part.recurrent_activation, part.recurrent_dropout)
        if more != ("tanh", "sigmoid", 0.0) and name not in left:
            raise ValueError(
                f"module: expected LSTMs that torch.nn.LSTM can be, got {name!r} with activation={more[0]!r}, "
                f"recurrent_activation={more[1]!r}, recurrent_dropout={more[2]}; torch's has 'tanh', 'sigmoid' and 0"
            )
    for name, part in ours:
        if name not in left:
            _become(part, TORCHS)
    _warn("restore: left as glasscell's", left)
    return module


def _plain(part: Any) -> bool:
    return type_before_parametrizations(part) is LSTM


def _become(part: Any, kind: type) -> None:
    """Changes the class of a module. A parametrized module has a class of its own, which its copies share: it gets a
    new one, derived from `kind`."""
    if is_parametrized(part):
        own = {name: value for name, value in vars(type(part)).items() if name not in ("__dict__", "__weakref__")}
        kind = type(type(part).__name__, (kind,), own)
    part.__class__ = kind


def _warn(what: str, reasons: dict[str, str]) -> None:
    if reasons:
        listed = "; ".join(f"{name!r} ({reason})" for name, reason in reasons.items())
        warnings.warn(f"{what}: {listed}", stacklevel=3)


def _parts(caller: str, module: Any) -> list[tuple[str, Any]]:
    if isinstance(module, torch.nn.Module):
        return list(module.named_modules())
    kinds = [name for kind in type(module).__mro__ for name in (kind.__name__, kind.__module__.partition(".")[0])]
    advice = next((ADVICE[kind] for kind in kinds if kind in ADVICE), f"{caller} takes the module that holds the LSTMs")
    raise TypeError(f"module: expected a torch.nn.Module, got {kind_of(module)}; {advice}")
