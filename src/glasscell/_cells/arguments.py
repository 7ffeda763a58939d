"""Checks arguments that are not arrays: each error names the argument, the expected value and the given one."""

from __future__ import annotations

import difflib
import functools
import inspect
import numbers
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

import numpy as np

P = ParamSpec("P")

# Advice for arguments of other libraries' LSTMs, or of older versions of Keras.
INSTEAD = {
    "num_layers": "RNN(StackedRNNCells([...])) runs several layers",
    "hidden_size": "units is the name for it",
    "bias": "use_bias is the name for it",
    "bidirectional": "Bidirectional(layer) runs both directions",
    "batch_first": "x is always (B, T, I)",
    "time_major": "x is always (B, T, I)",
    "training": "a call takes it",
    **dict.fromkeys(("input_size", "input_dim", "input_shape", "batch_input_shape"), "build(I) takes the width of x"),
}


def described(value: Any) -> str:
    """Describes a value in one short line: an array by its kind and shape, anything else by its repr."""
    if getattr(value, "ndim", 0) and hasattr(value, "shape"):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    if " at 0x" in text:  # an address in memory tells nobody anything
        return f"an object of {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def kind_of(value: Any) -> str:
    """Names the kind of a value that should have been a layer or cell, with advice where there is some."""
    if isinstance(value, type):
        return f"the class {value.__name__} itself, not one made of it"
    kind, module = type(value).__name__, type(value).__module__
    room = ".".join(module.split(".")[: 2 if module.startswith(("glasscell.keras", "glasscell.torch")) else 1])
    foreign = room not in ("builtins", "glasscell", "__main__")
    if hasattr(value, "state_dict"):
        return f"{kind} of {room}; LSTM.from_torch(module) makes a layer of it"
    if foreign and hasattr(value, "get_weights"):
        return f"{kind} of {room}; glasscell's from_config takes its get_config(), and set_weights its get_weights()"
    return f"{kind} of {room}" if foreign else kind


def check_size(name: str, value: Any, least: int = 1) -> int:
    """Returns `value` as a Python integer. Raises: ValueError for a non-integer, a bool, or less than `least`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < least:
        kind = "positive" if least else "non-negative"
        raise ValueError(f"{name}: expected a {kind} integer, got {described(value)}")
    return int(value)


def check_flag(name: str, value: Any) -> bool:
    """Returns `value` as a bool; None is False, as in Keras. Raises: TypeError for others than a bool, None, 0, 1."""
    if value is None or isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)) and value in (0, 1):
        return bool(value)
    raise TypeError(f"{name}: expected True or False, got {described(value)}")


def check_rate(name: str, value: Any) -> float:
    """Returns `value` as a float. Raises: ValueError unless it is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) <= 1:
        raise ValueError(f"{name}: expected a fraction in 0..1, got {described(value)}")
    return float(value)


def check_seed(name: str, value: Any) -> int | None:
    """Returns a seed unchanged. Raises: ValueError unless it is None or a non-negative integer."""
    return None if value is None else check_size(name, value, least=0)


def check_name(value: Any, default: str) -> str:
    """Returns the name of a layer; None gives the default, as in Keras. Raises: TypeError unless it is a string."""
    if value is None:
        return default
    if not isinstance(value, str):
        raise TypeError(f"name: expected a string, got {described(value)}")
    return value


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    """Returns `value` if it is one of `choices`, which are strings or None. Raises: ValueError otherwise."""
    if (value is None or isinstance(value, str)) and value in choices:
        return value
    raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {described(value)}")


def check_config(config: Any, *required: str) -> dict[str, Any]:
    """Copies a configuration. Raises: TypeError unless it is a dictionary with the required keys."""
    if not isinstance(config, Mapping):
        instead = "; give its get_config()" if hasattr(config, "get_config") else ""
        raise TypeError(f"config: expected a dictionary, as get_config() gives it, got {described(config)}{instead}")
    for key in required:
        if key not in config:
            raise TypeError(f"config: expected one with {key!r}, got {', '.join(map(repr, config)) or 'an empty one'}")
    return dict(config)


def named_arguments(init: Callable[P, None]) -> Callable[P, None]:
    """Makes a constructor refuse missing and unknown arguments in one sentence that says what to do."""

    @functools.wraps(init)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            init(*args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise  # the error comes from inside the constructor
            raise TypeError(_misfit(init, args, kwargs)) from None

    return checked


def _misfit(init: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Words the error for arguments that do not fit a constructor; the first of `args` is the object."""
    owner, takes = type(args[0]).__name__, list(inspect.signature(init).parameters.values())[1:]
    names = [parameter.name for parameter in takes]
    for name in kwargs:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1, 0.5)
            instead = INSTEAD.get(name) or (f"did you mean {close[0]}?" if close else f"help({owner}) lists them")
            return f"{name}: expected an argument of {owner}, got one that it has not; {instead}"
    in_place = [parameter.name for parameter in takes if parameter.kind is not parameter.KEYWORD_ONLY]
    if len(args) - 1 > len(in_place):
        return f"{owner}: expected at most {len(in_place)} arguments without a name, got {len(args) - 1}"
    for name in in_place[: len(args) - 1]:
        if name in kwargs:
            return f"{name}: expected one value, got two, one by its place and one by its name"
    missing = [p.name for p in takes[len(args) - 1 :] if p.default is p.empty and p.name not in kwargs]
    return f"{missing[0]}: expected as an argument of {owner}, got nothing for it"
