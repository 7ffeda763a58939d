"""Measures a trained model: its accuracy on recordings it never heard, beside baselines, and a trace of one of them."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import glasscell
from glasscell.data import JapaneseVowels, Utterances

if TYPE_CHECKING:
    from glasscell._report import Example

Array = npt.NDArray[Any]


def predict(model: Any, x: Array) -> Array:
    """Probabilities (N, K) float32 of recordings x: (N, T, 12), in one batch."""
    probabilities: Array = np.asarray(model.predict(x, batch_size=len(x), verbose=0))
    return probabilities


def measure(
    model: Any,
    data: JapaneseVowels,
    train: Utterances,
    validation: Utterances,
    probabilities: Array,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Everything of `metrics.json` but the time and the history. probabilities: of the held-out recordings."""
    from sklearn.metrics import confusion_matrix

    test, answers = data.test, np.argmax(probabilities, axis=1)
    return {
        "accuracy": float(np.mean(answers == test.labels)),
        "correct": int(np.sum(answers == test.labels)),
        "validation_accuracy": float(np.mean(np.argmax(predict(model, validation.x), axis=1) == validation.labels)),
        # The training set holds each speaker equally often; the held-out set's most frequent one is the better guess.
        "baselines": {
            "majority": float(np.bincount(test.labels).max() / len(test)),
            "linear": float(np.mean(linear_baseline(train, test) == test.labels)),
        },
        "utterances": {"train": len(train), "validation": len(validation), "held_out": len(test)},
        "parameters": int(model.count_params()),
        "engine": model.get_layer("lstm").engine_used,
        "settings": settings,
        "versions": _versions(),
        "speakers": list(data.speakers),
        "confusion": confusion_matrix(test.labels, answers, labels=range(len(data.speakers))).tolist(),
    }


def linear_baseline(train: Utterances, test: Utterances) -> Array:
    """The answers (N,) of logistic regression on the mean and standard deviation over each recording's frames."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known, unseen = (
        [np.concatenate([x[:n].mean(0), x[:n].std(0)]) for x, n in zip(part.x, part.lengths, strict=True)]
        for part in (train, test)
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    answers: Array = model.fit(known, train.labels).predict(unseen)
    return answers


def _versions() -> dict[str, str]:
    import keras

    return {
        "glasscell": glasscell.show_config()["glasscell"],
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def trace_example(model: Any, test: Utterances, probabilities: Array) -> Example:
    """The longest held-out recording that the model gets right (or the longest of all), traced in NumPy."""
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
