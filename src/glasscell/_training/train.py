"""What `glasscell train` does: teach an LSTM to tell nine speakers apart, measure it, keep it.

The model takes raw recordings, zero-padded to any length:

    Masking        finds each recording's own length: its frames are never all zero, the padding always is
    Normalization  each coefficient to mean 0 and variance 1 over the training frames; passes the mask on
    RNN(LSTMCell)  runs every recording at its own length and hands on its last h
    Dense          softmax over the speakers

How it was chosen, without a look at the held-out recordings: units, epochs and learning rate by five-fold
cross-validation on the 270 training recordings. A run trains for a fixed number of epochs; three recordings of each
speaker are set aside to draw the validation curve and decide nothing. The held-out recordings are used once, at the
end.
"""

from __future__ import annotations

import json
import math
import operator
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import glasscell
from glasscell._files import staged
from glasscell.data import JapaneseVowels, Utterances, load_japanese_vowels

if TYPE_CHECKING:
    from rich.console import Console

    from glasscell._report import Example

Array = npt.NDArray[Any]

ENGINES = ("auto", "native", "framework")
FILES = ("model.keras", "metrics.json", "report.html")
VALIDATION_PER_SPEAKER = 3


def train(
    output: str | os.PathLike[str] = "runs/japanese-vowels",
    units: int = 100,
    epochs: int = 60,
    batch_size: int = 32,
    learning_rate: float = 0.005,
    dropout: float = 0.2,
    recurrent_dropout: float = 0.2,
    seed: int = 0,
    engine: str = "auto",
    console: Console | None = None,
) -> dict[str, Any]:
    """Train on the recordings that ship with the package, print the result, write it to the folder `output`.

    Writes `model.keras`, `metrics.json` and `report.html`, at the end and together: files of two runs never stand side
    by side, and a run that is killed while they are put in place is completed by the next. Of a folder that exists
    these three files are replaced and every other file is left alone; a run that stops early changes nothing.

    output: the folder, made where it is missing. learning_rate: the peak; it rises over the first tenth of the
    steps and falls along a cosine, to a fortieth at the last. dropout, recurrent_dropout: shares in [0, 1). seed: the
    same seed, machine and versions give the same model; it sets the global seeds of Python, NumPy and Keras. engine:
    "auto", "native" or "framework", as `glasscell.keras.RNN` takes it. console: where to print; default: standard
    output.

    Keras runs on the backend it is configured for, and on JAX where KERAS_BACKEND is not set.

    Returns: what `metrics.json` holds; `seconds` counts the training, compilation included, and losses that are not
    finite are None.
    Raises: ValueError for a bad argument, naming it, what was expected and what came; ImportError where a package of
    `glasscell[train]` is missing; OSError where `output` cannot be written.
    """
    settings = check_arguments(
        output=output,
        units=units,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        dropout=dropout,
        recurrent_dropout=recurrent_dropout,
        seed=seed,
        engine=engine,
    )
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras
    from rich.console import Console

    from glasscell._report import training_report

    console = console or Console()
    data = load_japanese_vowels()
    learn, watch = split(data.train, VALIDATION_PER_SPEAKER, settings["seed"])
    keras.utils.set_random_seed(settings["seed"])
    with staged(Path(output)) as stage:
        model = build_model(learn, len(data.speakers), settings)
        console.print(
            f"Japanese Vowels: {len(learn)} recordings to learn from, {len(watch)} to watch, {len(data.test)} held "
            f"out; LSTM of {settings['units']} units, {model.count_params():,} parameters."
        )
        start = time.perf_counter()
        history = _fit(model, learn, watch, settings, console)
        seconds = time.perf_counter() - start
        probabilities = _predict(model, data.test.x)
        metrics = _measure(model, data, learn, watch, probabilities, settings)
        metrics.update(seconds=round(seconds, 3), history=history)
        model.save(stage / "model.keras")
        (stage / "metrics.json").write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        training_report(stage / "report.html", metrics, trace_example(model, data.test, probabilities))
        _print_result(metrics, console)
    console.print(f"Written to {output}: {', '.join(FILES)}", highlight=False, soft_wrap=True)
    return metrics


def check_arguments(**arguments: Any) -> dict[str, Any]:
    """The settings of a run, as plain Python numbers, without `output`. Raises: ValueError as `train` does."""
    settings = dict(arguments)
    folder = Path(settings.pop("output"))
    for path in (folder, *folder.parents):
        if not path.is_dir() and os.path.lexists(path):
            what = "a file" if path.exists() else "a link to nothing"
            raise ValueError(f"output: expected a folder, got {str(folder)!r}, and {str(path)!r} is {what}")
    for path in (folder / name for name in FILES):
        if path.is_dir():
            raise ValueError(f"output: expected a place for the file {path.name}, and {str(path)!r} is a folder")
    for name in ("units", "epochs", "batch_size"):
        settings[name] = _whole(name, settings[name], 1, "a positive integer")
    settings["seed"] = _whole("seed", settings["seed"], 0, "an integer from 0 to 4294967295", below=2**32)
    settings["learning_rate"] = _real("learning_rate", settings["learning_rate"], "a positive number")
    for name in ("dropout", "recurrent_dropout"):
        settings[name] = _real(name, settings[name], "a number from 0 to below 1", zero=True, below=1.0)
    if settings["engine"] not in ENGINES:
        raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {settings['engine']!r}")
    return settings


def _whole(name: str, value: Any, least: int, expected: str, below: float = math.inf) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: expected {expected}, got {value!r}") from None
    if isinstance(value, bool) or not least <= number < below:
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
    """Set `per_speaker` recordings of each speaker aside, drawn by `seed`. Returns: the others, and those."""
    rng = np.random.default_rng(seed)
    aside = np.zeros(len(utterances), bool)
    for speaker in np.unique(utterances.labels):
        aside[rng.permutation(np.flatnonzero(utterances.labels == speaker))[:per_speaker]] = True
    others, those = (
        Utterances(utterances.x[rows], utterances.lengths[rows], utterances.labels[rows]) for rows in (~aside, aside)
    )
    return others, those


def build_model(learn: Utterances, speakers: int, settings: dict[str, Any]) -> Any:
    """The compiled Keras model for raw zero-padded recordings (N, T, 12), its scale taken from `learn`.

    Raises: ValueError where the engine is "native" and cannot serve, with the reason.
    """
    import keras

    from glasscell.keras import RNN, LSTMCell
    from glasscell.keras._inner_loop import why_not_native

    frames = learn.x[np.any(learn.x != 0, axis=2)]
    cell = LSTMCell(
        settings["units"], dropout=settings["dropout"], recurrent_dropout=settings["recurrent_dropout"], name="cell"
    )
    recording = keras.Input((None, frames.shape[1]), name="recording")
    known = keras.layers.Masking(name="lengths")(recording)
    scaled = keras.layers.Normalization(mean=frames.mean(0), variance=frames.var(0), name="scale")(known)
    lstm = RNN(cell, engine=settings["engine"], name="lstm")
    h = lstm(scaled)
    if settings["engine"] == "native":
        frame = keras.ops.convert_to_tensor(frames[None, :1])
        if (reason := why_not_native(lstm, frame, mask=True)) is not None:
            raise ValueError(f"engine: 'native' cannot serve here: {reason}")
    model = keras.Model(recording, keras.layers.Dense(speakers, activation="softmax", name="speaker")(h))

    steps = math.ceil(len(learn) / settings["batch_size"]) * settings["epochs"]
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=settings["learning_rate"], warmup_steps=math.ceil(steps / 10)
    )
    adam = keras.optimizers.Adam(schedule, clipnorm=1.0)
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _fit(
    model: Any, learn: Utterances, watch: Utterances, settings: dict[str, Any], console: Console
) -> dict[str, list[float | None]]:
    """Train, with a live bar on a terminal and a line for each tenth of the way elsewhere. Returns: the curves."""
    import keras
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    epochs = settings["epochs"]
    progress = Progress(
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
        disable=not console.is_terminal,
    )
    task = progress.add_task("compiling, a few seconds", total=epochs)

    def report(epoch: int, logs: dict[str, float]) -> None:
        now = (
            f"loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.3f}; "
            f"validation {logs['val_loss']:.4f}, {logs['val_accuracy']:.3f}"
        )
        progress.update(task, completed=epoch + 1, description=now)
        if progress.disable and (epoch + 1) * 10 // epochs > epoch * 10 // epochs:
            console.print(f"epoch {epoch + 1:>{len(str(epochs))}}/{epochs}: {now}")

    with progress:
        curves = model.fit(
            learn.x,
            learn.labels,
            batch_size=settings["batch_size"],
            epochs=epochs,
            validation_data=(watch.x, watch.labels),
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=report)],
        ).history
    return {name: [_finite(value) for value in values] for name, values in curves.items()}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _predict(model: Any, x: Array) -> Array:
    """Probabilities (N, K) float32 of recordings x: (N, T, 12), in one batch."""
    probabilities: Array = np.asarray(model.predict(x, batch_size=len(x), verbose=0))
    return probabilities


def linear_baseline(learn: Utterances, test: Utterances, speakers: int) -> Array:
    """The answers (N,) of logistic regression on the mean and standard deviation over each recording's frames."""
    import keras

    features, unseen = (
        np.array([np.concatenate([x[:n].mean(0), x[:n].std(0)]) for x, n in zip(part.x, part.lengths, strict=True)])
        for part in (learn, test)
    )
    mean, deviation = features.mean(0), features.std(0)
    dense = keras.layers.Dense(speakers, activation="softmax", kernel_regularizer=keras.regularizers.L2(1e-3))
    model = keras.Sequential([dense])
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
    model.fit((features - mean) / deviation, learn.labels, batch_size=len(learn), epochs=300, verbose=0)
    answers: Array = np.argmax(_predict(model, (unseen - mean) / deviation), axis=1)
    return answers


def _measure(
    model: Any,
    data: JapaneseVowels,
    learn: Utterances,
    watch: Utterances,
    probabilities: Array,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Everything of `metrics.json` but the time and the history."""
    import keras

    test, speakers = data.test, len(data.speakers)
    answers = np.argmax(probabilities, axis=1)
    confusion = np.zeros((speakers, speakers), int)
    np.add.at(confusion, (test.labels, answers), 1)
    engine = model.get_layer("lstm").engine_used
    return {
        "accuracy": float(np.mean(answers == test.labels)),
        "correct": int(np.sum(answers == test.labels)),
        "validation_accuracy": float(np.mean(np.argmax(_predict(model, watch.x), axis=1) == watch.labels)),
        # The training set holds each speaker equally often; the held-out set's most frequent one is the better guess.
        "baselines": {
            "majority": float(np.bincount(test.labels).max() / len(test)),
            "linear": float(np.mean(linear_baseline(learn, test, speakers) == test.labels)),
        },
        "utterances": {"train": len(learn), "validation": len(watch), "held_out": len(test)},
        "parameters": int(model.count_params()),
        "engine": engine,
        "settings": settings,
        "versions": {
            "glasscell": glasscell.show_config()["glasscell"],
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "speakers": list(data.speakers),
        "confusion": confusion.tolist(),
    }


def trace_example(model: Any, test: Utterances, probabilities: Array) -> Example:
    """The longest held-out recording that the model gets right (or the longest), traced in NumPy."""
    from keras import ops

    from glasscell._report import Example

    right = np.argmax(probabilities, axis=1) == test.labels
    row = int(np.argmax(test.lengths * np.where(right.any(), right, True)))
    length = int(test.lengths[row])
    scale, lstm, speaker = (model.get_layer(name) for name in ("scale", "lstm", "speaker"))
    x = ops.convert_to_numpy(scale(test.x[row : row + 1, :length]))

    cell = glasscell.LSTMCell.from_config(lstm.cell.get_config())
    cell.build(x.shape[2])
    cell.set_weights(lstm.cell.get_weights())
    trace = glasscell.RNN(cell, return_sequences=True).trace(x)
    beliefs = ops.convert_to_numpy(speaker(trace.h[0]))
    return Example(trace.asdict(), x[0], beliefs, int(test.labels[row]), row)


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
