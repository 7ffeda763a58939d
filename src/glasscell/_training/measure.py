"""Measures a trained model: its accuracy on recordings it never heard, beside baselines, and a trace of two of them."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import glasscell
from glasscell.data import JapaneseVowels, Utterances

if TYPE_CHECKING:
    from glasscell._report import Answer

Array = npt.NDArray[Any]


def predict(model: Any, x: Array) -> Array:
    """Computes the probabilities (N, K) float32 for recordings x: (N, T, 12), in one batch."""
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
    """Computes `metrics.json` but for time and history. probabilities: those for the held-out recordings."""
    from sklearn.metrics import confusion_matrix

    test, answers = data.test, np.argmax(probabilities, axis=1)
    return {
        "accuracy": float(np.mean(answers == test.labels)),
        "correct": int(np.sum(answers == test.labels)),
        "validation_accuracy": float(np.mean(np.argmax(predict(model, validation.x), axis=1) == validation.labels)),
        # The held-out set's most frequent speaker: the training set has all speakers equally often.
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
    """Predicts (N,) by logistic regression on the mean and standard deviation over each recording's frames."""
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


def trace_examples(
    model: Any, test: Utterances, probabilities: Array, speakers: Sequence[str]
) -> tuple[glasscell.Trace, list[str], Answer]:
    """Traces two held-out recordings in NumPy: the longest one answered rightly, and the longest one answered wrongly.

    A kind without recordings is left out. Returns: their trace, each at its own length, with the names of the
    coefficients; a name for each recording; the Dense layer that answers.
    """
    from keras import ops

    from glasscell._report import Answer

    answers = np.argmax(probabilities, axis=1)
    right = answers == test.labels
    rows = [int(np.argmax(test.lengths * kind)) for kind in (right, ~right) if kind.any()]
    names = [_name_of(test, row, speakers[answers[row]], speakers[test.labels[row]], bool(right[row])) for row in rows]
    scale, lstm, speaker = (model.get_layer(name) for name in ("scale", "lstm", "speaker"))
    lengths = test.lengths[rows]
    x = ops.convert_to_numpy(scale(test.x[rows, : lengths.max()]))

    cell = glasscell.LSTMCell.from_config(lstm.cell.get_config())
    cell.build(x.shape[2])
    cell.set_weights(lstm.cell.get_weights())
    trace = glasscell.RNN(cell, return_sequences=True).trace(x, lengths=lengths)
    kernel, bias = speaker.get_weights()
    answer = Answer(kernel, bias, speakers, "softmax", [int(label) for label in test.labels[rows]])
    return trace.with_names(features=[f"coefficient {k}" for k in range(1, x.shape[2] + 1)]), names, answer


def _name_of(test: Utterances, row: int, answer: str, truth: str, right: bool) -> str:
    """Names a recording by its number, its speaker and the model's answer."""
    said = "named rightly" if right else f"taken for {answer.removeprefix('speaker ')}"
    return f"recording {row}, {test.lengths[row]} frames of {truth}, {said}"
