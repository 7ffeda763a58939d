"""Writes traces to `.npz` files, reads them back, and converts them to xarray datasets."""

from __future__ import annotations

import io
import zipfile
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from glasscell._cells.activations import BUILT_IN
from glasscell._files import write_whole
from glasscell._trace import ACTIVATIONS, AXES, RECORDED

Array = npt.NDArray[Any]

DIMENSIONS = {"B": "row", "T": "time", "H": "unit", "I": "feature", "4H": "column"}
COORDINATES = {"feature_names": "feature", "unit_names": "unit", "step_names": "step"}
BOOLS = ("mask", "reset")


def write_trace(path: str | Path, trace: Any) -> Path:
    """Writes the arrays of a trace under their names, and the names of its activations. Returns: the path."""
    arrays = {name: getattr(trace, name) for name in AXES}
    for name in ACTIVATIONS:
        activation = getattr(trace, name)
        arrays[name] = np.array(activation.name) if activation and activation.is_built_in else None
    arrays["go_backwards"] = np.array(trace.go_backwards)
    content = io.BytesIO()
    np.savez(content, **{name: array for name, array in arrays.items() if array is not None})
    write_whole(Path(path), content.getvalue())
    return Path(path)


def read_trace(path: str | Path) -> dict[str, Any]:
    """Reads the arguments of a `Trace` from a file. Raises: ValueError for what `write_trace` did not write."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        _refuse(path, f"a file that NumPy cannot read as .npz: {str(error).partition(chr(10))[0]}")
    known = (*AXES, *ACTIVATIONS, "go_backwards")
    for wrong in [name for name in RECORDED if name not in found] + [name for name in found if name not in known]:
        _refuse(path, f"one with {wrong[:40]!r}" if wrong in found else f"one without {wrong!r}")
    arguments, sizes = dict[str, Any](), dict[str, int]()
    for name in (name for name in AXES if name in found):
        _check(path, name, found[name], sizes)
        arguments[name] = found[name]
    for name in (name for name in ACTIVATIONS if name in found):
        arguments[name] = BUILT_IN.get(str(found[name])) or _refuse(path, f"{name} {str(found[name])[:40]!r}")
    return {**arguments, "go_backwards": bool(np.array_equal(found.get("go_backwards", False), True))}


def _check(path: str | Path, name: str, array: Array, sizes: dict[str, int]) -> None:
    """Checks the kind and shape of an array against the `sizes` of the arrays before it, and adds new sizes."""
    kind = "b" if name in BOOLS else "U" if name in COORDINATES else "f"
    axes = AXES[name]
    wrong = array.dtype.kind != kind or array.ndim != len(axes)
    for axis, size in zip(axes, array.shape, strict=False):
        fixed = {"4H": 4 * sizes.get("H", 0), "G": 4 if size == 4 else 1}
        wrong |= size != (fixed[axis] if axis in fixed else sizes.setdefault(axis, size))
    if wrong:
        _refuse(path, f"{name} of shape {array.shape}, {array.dtype}, beside {sizes}")


def _refuse(path: str | Path, got: str) -> NoReturn:
    raise ValueError(f"path: expected a trace that Trace.save wrote in {str(path)!r}, got {got}")


def to_dataset(trace: Any) -> Any:
    """Makes an `xarray.Dataset` of a trace. Raises: ImportError, in one line, where xarray is not installed."""
    try:
        xarray: Any = import_module("xarray")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"to_xarray needs {error.name}, which is not installed: pip install xarray", name=error.name
        ) from None
    named = {  # the axis G of each mask gets a dimension of its own, for its size may be 1 or 4
        name: (tuple(DIMENSIONS.get(a, f"{name}_gate") for a in axes), getattr(trace, name))
        for name, axes in AXES.items()
    }
    named = {COORDINATES.get(name, name): value for name, value in named.items() if value[1] is not None}
    coordinates = {name: named.pop(name) for name in COORDINATES.values() if name in named}
    activations = {name: getattr(trace, name) for name in ACTIVATIONS}
    attributes = {name: activation.name for name, activation in activations.items() if activation}
    return xarray.Dataset(named, coordinates, {**attributes, "go_backwards": int(trace.go_backwards)})
