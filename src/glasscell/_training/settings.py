"""The arguments of a run, checked."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path
from typing import Any, Literal, get_args

Engine = Literal["auto", "native", "framework"]

FILES = ("model.keras", "metrics.json", "report.html")
LARGEST_SEED = 2**32 - 1  # NumPy's


def check_arguments(output: str | os.PathLike[str], **settings: Any) -> dict[str, Any]:
    """The settings of a run, as plain Python numbers, without `output`. Raises: ValueError as `train` does."""
    _check_output(Path(output))
    for name in ("units", "epochs", "batch_size"):
        settings[name] = _whole(name, settings[name], 1, math.inf, "a positive integer")
    settings["seed"] = _whole("seed", settings["seed"], 0, LARGEST_SEED, f"an integer from 0 to {LARGEST_SEED}")
    settings["learning_rate"] = _real("learning_rate", settings["learning_rate"], "a positive number")
    for name in ("dropout", "recurrent_dropout"):
        settings[name] = _real(name, settings[name], "a number from 0 to below 1", zero=True, below=1.0)
    if settings["engine"] not in get_args(Engine):
        raise ValueError(f"engine: expected one of {', '.join(get_args(Engine))}, got {settings['engine']!r}")
    return settings


def _check_output(folder: Path) -> None:
    for path in (folder, *folder.parents):
        if not path.is_dir() and os.path.lexists(path):
            what = "a file" if path.exists() else "a link to nothing"
            raise ValueError(f"output: expected a folder, got {str(folder)!r}, and {str(path)!r} is {what}")
    for path in (folder / name for name in FILES):
        if path.is_dir():
            raise ValueError(f"output: expected a place for the file {path.name}, and {str(path)!r} is a folder")


def _whole(name: str, value: Any, least: int, most: float, expected: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or not least <= number <= most:
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return number


def _real(name: str, value: Any, expected: str, zero: bool = False, below: float = math.inf) -> float:
    try:
        number = float(value) if not isinstance(value, (bool, str)) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not (0 < number < below or (zero and number == 0)):
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return number
