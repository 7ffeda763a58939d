"""Runs `glasscell train`: trains an LSTM to tell nine speakers apart, measures it, and writes its files.

Units, epochs and learning rate were chosen by five-fold cross-validation on the 270 training recordings. A run trains
for a fixed number of epochs. Three recordings of each speaker are set aside for the validation curve, which decides
nothing. The held-out recordings are used once, at the end.
"""

from __future__ import annotations

import importlib.util
import json
import math
import operator
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from glasscell._files import staged
from glasscell._training.measure import measure, predict, trace_examples
from glasscell._training.model import build_model, fit
from glasscell.data import Utterances, load_japanese_vowels

if TYPE_CHECKING:
    from rich.console import Console

Engine = Literal["auto", "native", "framework"]

FILES = ("model.keras", "metrics.json", "report.html")
VALIDATION_PER_SPEAKER = 3
LARGEST_SEED = 2**32 - 1  # the largest seed of NumPy


def train(
    output: str | os.PathLike[str] = "runs/japanese-vowels",
    units: int = 100,
    epochs: int = 60,
    batch_size: int = 32,
    learning_rate: float = 0.005,
    dropout: float = 0.2,
    recurrent_dropout: float = 0.2,
    seed: int = 0,
    engine: Engine = "auto",
    console: Console | None = None,
) -> dict[str, Any]:
    """Train on the recordings that ship with the package, print the result, write it to the folder `output`.

    Writes `model.keras`, `metrics.json` and `report.html` together at the end: files of two runs never stand side by
    side, and the next run completes a run that was killed while it put them in place. In an existing folder, only these
    three files are replaced. A run that stops early changes nothing.

    output: the folder, made where it is missing. learning_rate: the peak; it rises over the first tenth of the
    steps and falls along a cosine, to a fortieth at the last. dropout, recurrent_dropout: shares in [0, 1). seed: the
    same seed, machine and versions give the same model; it sets the global seeds of Python, NumPy and Keras. engine:
    "auto", "native" or "framework", as `glasscell.keras.RNN` takes it. console: where to print; default: standard
    output.

    Keras runs on KERAS_BACKEND; where that is not set, on JAX if it is installed, else on another installed backend.

    Returns: the content of `metrics.json`. `seconds` is the time of the training, compilation included; losses that are
    not finite are None.
    Raises: ValueError for a bad argument, naming it, the expected and the given value; ImportError where a package is
    missing; OSError where `output` cannot be written.
    """
    settings = check_arguments(**{name: value for name, value in locals().items() if name != "console"})
    from rich.console import Console

    from glasscell._report import training_report

    console = console or Console()
    with console.status("loading Keras, some seconds"):
        _load_keras()
    import keras

    data = load_japanese_vowels()
    train, validation = split(data.train, VALIDATION_PER_SPEAKER, settings["seed"])
    keras.utils.set_random_seed(settings["seed"])
    with staged(Path(output)) as stage:
        model = build_model(train, len(data.speakers), settings)
        console.print(
            f"Japanese Vowels: {len(train)} recordings to train on, {len(validation)} for validation, {len(data.test)} "
            f"held out; LSTM of {settings['units']} units, {model.count_params():,} parameters."
        )
        start = time.perf_counter()
        history = fit(model, train, validation, settings, console)
        seconds = round(time.perf_counter() - start, 3)
        with console.status("testing it on the recordings held out, and drawing the report"):
            probabilities = predict(model, data.test.x)
            metrics = measure(model, data, train, validation, probabilities, settings)
            metrics.update(seconds=seconds, history=history)
            model.save(stage / "model.keras")
            text = json.dumps(metrics, indent=1, allow_nan=False) + "\n"
            (stage / "metrics.json").write_text(text, encoding="utf-8")
            examples = trace_examples(model, data.test, probabilities, data.speakers)
            training_report(stage / "report.html", metrics, *examples)
        _print_result(metrics, console)
    console.print(f"Written to {output}: {', '.join(FILES)}", highlight=False, soft_wrap=True)
    return metrics


def _load_keras() -> None:
    """Imports Keras on its backend. Raises: ImportError in one line where there is none, or no Keras."""
    if not importlib.util.find_spec("keras"):
        raise ModuleNotFoundError("No module named 'keras'", name="keras")
    if importlib.util.find_spec("jax"):
        os.environ.setdefault("KERAS_BACKEND", "jax")
    import glasscell.keras  # noqa: F401  chooses a backend where none is set


def check_arguments(output: str | os.PathLike[str], **settings: Any) -> dict[str, Any]:
    """Returns the settings of a run but `output`, as plain Python numbers. Raises: ValueError as `train` does."""
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
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"output: expected a folder to write in, got {str(folder)!r}, and {str(there)!r} is read-only")
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


def split(utterances: Utterances, per_speaker: int, seed: int) -> tuple[Utterances, Utterances]:
    """Set `per_speaker` recordings of each speaker aside, drawn by `seed`.

    utterances: equally many of each speaker. Returns: the remaining recordings, and those set aside.
    """
    from sklearn.model_selection import train_test_split

    x, lengths, labels = utterances.x, utterances.lengths, utterances.labels
    size = per_speaker * len(set(labels))
    parts = train_test_split(x, lengths, labels, test_size=size, stratify=labels, random_state=seed)
    return Utterances(*parts[::2]), Utterances(*parts[1::2])


def _print_result(metrics: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    table = Table("Recordings the model never heard", "accuracy")
    table.columns[1].justify = "right"
    table.add_row(f"LSTM, {metrics['settings']['units']} units", f"{metrics['accuracy']:.1%}", style="bold")
    table.add_row("linear model on mean and spread", f"{metrics['baselines']['linear']:.1%}")
    table.add_row("always the most frequent speaker", f"{metrics['baselines']['majority']:.1%}")
    console.print(table)
    console.print(
        f"Trained in {metrics['seconds']:.1f} s; engine {metrics['engine']}, Keras {metrics['versions']['keras']} "
        f"on {metrics['versions']['backend']}.",
        highlight=False,
    )
