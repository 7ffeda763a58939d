"""Builds and trains the speaker model. It takes raw recordings, zero-padded to any length, through these layers:

Masking        finds each recording's length: its frames are never all zero, the padding always is
Normalization  scales each coefficient to mean 0 and variance 1 over the training frames; passes the mask on
RNN(LSTMCell)  runs every recording at its own length and gives its last h
Dense          softmax over the speakers
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glasscell.data import Utterances

if TYPE_CHECKING:
    from rich.console import Console

Array = npt.NDArray[Any]


def build_model(train: Utterances, speakers: int, settings: dict[str, Any]) -> Any:
    """Builds the compiled Keras model for raw zero-padded recordings (N, T, 12), normalized by those in `train`.

    Raises: ValueError where the engine is "native" and cannot run, with the reason.
    """
    import keras

    from glasscell.keras import RNN, LSTMCell

    frames = train.x[np.any(train.x != 0, axis=2)]
    cell = LSTMCell(**{name: settings[name] for name in ("units", "dropout", "recurrent_dropout")}, name="cell")
    recording = keras.Input((None, frames.shape[1]), name="recording")
    known = keras.layers.Masking(name="lengths")(recording)
    scaled = keras.layers.Normalization(mean=frames.mean(0), variance=frames.var(0), name="scale")(known)
    lstm = RNN(cell, engine=settings["engine"], name="lstm")
    h = lstm(scaled)
    if settings["engine"] == "native":
        _require_native(lstm, frames)
    model = keras.Model(recording, keras.layers.Dense(speakers, activation="softmax", name="speaker")(h))
    adam = keras.optimizers.Adam(_schedule(len(train), settings), clipnorm=1.0)
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _require_native(lstm: Any, frames: Array) -> None:
    """Raises, before the training begins, the error that the layer would raise at its first step."""
    import keras

    from glasscell.keras._eligibility import eligible

    frame = keras.ops.convert_to_tensor(frames[None, :1])
    if isinstance(reason := eligible(lstm, frame, None, asked=True), str):
        raise ValueError(f"engine: 'native' cannot serve here: {reason}")


def _schedule(recordings: int, settings: dict[str, Any]) -> Any:
    """Makes the learning rate schedule: a warm-up over a tenth of the steps, then a cosine."""
    import keras

    steps = math.ceil(recordings / settings["batch_size"]) * settings["epochs"]
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=settings["learning_rate"], warmup_steps=math.ceil(steps / 10)
    )


def fit(
    model: Any, train: Utterances, validation: Utterances, settings: dict[str, Any], console: Console
) -> dict[str, list[float | None]]:
    """Train the model and print its progress. Returns: the curves, by name; None where a value is not finite."""
    import keras

    with _progress(settings["epochs"], console) as report:
        curves = model.fit(
            train.x,
            train.labels,
            batch_size=settings["batch_size"],
            epochs=settings["epochs"],
            validation_data=(validation.x, validation.labels),
            verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=report)],
        ).history
    return {name: [float(v) if math.isfinite(v) else None for v in values] for name, values in curves.items()}


@contextmanager
def _progress(epochs: int, console: Console) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Shows progress: a live bar on a terminal, elsewhere a line for each tenth. Yields a callback for epoch ends."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = BarColumn(bar_width=12), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
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
        yield report
