"""Runs `glasscell trace`: writes a page about an LSTM of a Keras file on some data. Executes nothing in the files."""

from __future__ import annotations

import csv
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glasscell import _doors

Array = npt.NDArray[Any]

LARGEST = 2**30  # bytes of an unpacked data file: an archive may unpack to a thousand times its size
SUFFIXES = (".npy", ".npz", ".csv")


class Refusal(Exception):
    """An error in a file or an option, in one line that names it."""


def main(model: Path, data: Path, output: Path, layer: str | None) -> None:
    """Trace an LSTM of a saved model on data, write the page to `output`, and print its name.

    Raises: Refusal naming MODEL, DATA, --layer or --output, and what was expected; OSError where a file cannot be
    read or written; ImportError where a package is missing.
    """
    x, names = read_data(data)
    loaded = load_model(model)
    from glasscell.keras import trace

    x, names = _fit(x, names, loaded)
    try:
        traces = trace(loaded, x, layer=layer)
    except (ValueError, TypeError) as error:
        name, colon, reason = str(error).partition(": ")
        if colon and name in ("layer", "model"):
            raise Refusal(f"{'--layer' if name == 'layer' else 'MODEL'}: {reason}") from None
        raise Refusal(_first_line(f"DATA: the model {model} cannot take {x.shape} of {data}: {error}")) from None
    _report(loaded, layer, traces, names, output, f"What {layer or 'the LSTM'} in {model.name} did")
    print(f"Written to {output}")


def read_data(path: Path) -> tuple[Array, list[str] | None]:
    """Reads an array, and the names of its columns where a CSV file has them in its first line.

    Raises: Refusal naming DATA; OSError where the file cannot be read.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise Refusal(f"DATA: expected a file {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, got {str(path)!r}")
    if not path.is_file():
        raise Refusal(f"DATA: expected a file, got {str(path)!r}, which is not there")
    if path.stat().st_size > LARGEST:
        raise Refusal(f"DATA: expected at most 1 GiB, got {path.stat().st_size:,} bytes in {str(path)!r}")
    try:
        x, names = _read_csv(path) if path.suffix.lower() == ".csv" else (_read_numpy(path), None)
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, csv.Error) as error:
        raise Refusal(f"DATA: {str(path)!r} cannot be read: {_first_line(error)}") from None
    if x.dtype.kind not in "biuf" or not x.size:
        raise Refusal(f"DATA: expected numbers, got {x.dtype} of shape {x.shape} in {str(path)!r}")
    return x, names


def _read_numpy(path: Path) -> Array:
    """Reads an array of an .npy file; of an .npz file the one named x, or the only one."""
    if path.suffix.lower() == ".npy":
        with path.open("rb") as file:
            array: Array = np.lib.format.read_array(file, allow_pickle=False)
        return array
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
        name = "x" if "x" in sizes else next(iter(sizes), "")
        if len(sizes) != 1 and name != "x":
            raise Refusal(f"DATA: expected one array, or one named x, got {sorted(sizes)} in {str(path)!r}")
        if sizes[name] > LARGEST:
            raise Refusal(f"DATA: expected at most 1 GiB, got {sizes[name]:,} bytes in {str(path)!r}")
        with archive.open(f"{name}.npy") as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
    return array


def _read_csv(path: Path) -> tuple[Array, list[str] | None]:
    """Reads the lines of a CSV file, (lines, columns); its first line may be names."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    if not lines:
        raise Refusal(f"DATA: expected numbers, got none in {str(path)!r}")
    names = None if all(map(_is_number, lines[0])) else lines.pop(0)
    for k, line in enumerate(lines):
        wrong = [cell for cell in line if not _is_number(cell)]
        if wrong or len(line) != len(lines[0]):
            got = f"{wrong[0][:40]!r}" if wrong else f"{len(line)} of them"
            expected = f"{len(lines[0])} numbers in each line"
            raise Refusal(f"DATA: expected {expected}, got {got} in line {k + 1 + bool(names)} of {str(path)!r}")
    return np.array(lines, np.float32), names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def load_model(path: Path) -> Any:
    """Loads a `.keras` file in Keras's safe mode, where no code that a file brings is run.

    Raises: Refusal naming MODEL.
    """
    if path.suffix != ".keras":
        raise Refusal(f"MODEL: expected a .keras file, as model.save('model.keras') writes it, got {str(path)!r}")
    if not path.is_file():
        raise Refusal(f"MODEL: expected a file, got {str(path)!r}, which is not there")
    _doors.choose_backend()  # before Keras is imported, which takes TensorFlow where nothing is set
    import keras

    import glasscell.keras  # noqa: F401  registers its layers

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged file can make Keras raise any error
        raise Refusal(f"MODEL: Keras cannot load {str(path)!r}: {_first_line(error)}") from None


def _fit(x: Array, names: list[str] | None, model: Any) -> tuple[Array, list[str] | None]:
    """Shapes the data for the model's only input: a single sequence gets a batch axis."""
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1:
        raise Refusal(f"MODEL: expected a model with one input, got {len(inputs)} of them")
    rank = len(inputs[0].shape)
    if x.ndim == rank - 1:
        x = x[None]
    if x.ndim != rank:
        raise Refusal(f"DATA: expected {rank} axes, as the model takes {inputs[0].shape}, got shape {x.shape}")
    return x.astype(inputs[0].dtype), names if rank == 3 else None


def _report(model: Any, layer: str | None, traces: Any, names: list[str] | None, output: Path, title: str) -> None:
    from glasscell import Trace

    try:
        if not isinstance(traces, Trace):
            traces.report(output, title)
            return
        if names is not None and traces.x is not None and traces.x.shape[2] == len(names):
            traces = traces.with_names(features=names)
        traces.report(output, title, dense=_dense_after(model, layer))
    except (OSError, ValueError) as error:
        raise Refusal(str(error).replace("path:", "--output:")) from None


def _dense_after(model: Any, layer: str | None) -> Any:
    """Finds the weights of the Dense layer that reads the LSTM's output; None unless one follows directly."""
    import keras

    recurrent = [one for one in model.layers if isinstance(one, keras.layers.RNN) and layer in (None, one.name)]
    if len(recurrent) != 1:
        return None
    behind = _behind(model, recurrent[0])
    if not isinstance(behind, keras.layers.Dense):
        return None
    kernel, *bias = behind.get_weights()
    return kernel, bias[0] if bias else np.zeros(kernel.shape[1], kernel.dtype)


def _behind(model: Any, layer: Any) -> Any:
    """Finds the layer that reads another layer's output, past any Dropout, which does nothing in inference."""
    import keras

    if isinstance(model, keras.Sequential):  # its layers keep the tensors of every build
        rest = model.layers[model.layers.index(layer) + 1 :]
        return next((one for one in rest if not isinstance(one, keras.layers.Dropout)), None)
    return next(
        (one for one in model.layers if isinstance(one, keras.layers.Dense) and one.input is layer.output), None
    )


def _first_line(error: object) -> str:
    """Returns the first sentence of an error; in Keras's errors the rest is advice for callers of Keras."""
    lines = str(error).strip().splitlines()
    return lines[0].partition(". ")[0] if lines else type(error).__name__
