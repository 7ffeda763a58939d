"""Loads the recordings that ship with the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_FRAMES = 29
MILLIONTHS = 1e6  # the file holds the six decimals of the source as whole numbers


@dataclass(frozen=True)
class Utterances:
    """Holds N recordings, each of its own length.

    x: (N, 29, 12) float32, twelve cepstrum coefficients for each frame; exactly zero after a recording's last frame.
    No real frame is all zero, so `keras.layers.Masking()` recovers the lengths.
    lengths: (N,) int64, 7 to 29 frames. labels: (N,) int64, the speaker, 0 to 8.
    """

    x: Array
    lengths: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class JapaneseVowels:
    """Holds the recordings of nine men who say two Japanese vowels, /ae/. The task is to name the speaker.

    train: 270 utterances, 30 of each speaker. test: 370 utterances, recorded on other occasions.
    speakers: the nine class names, by label. coefficients: the twelve feature names.
    """

    train: Utterances
    test: Utterances
    speakers: tuple[str, ...]
    coefficients: tuple[str, ...]


def load_japanese_vowels() -> JapaneseVowels:
    """Load the Japanese Vowels recordings: 640 utterances at 10 kHz, with one frame every 6.4 ms.

    Source: M. Kudo, J. Toyama, M. Shimbo, UCI Machine Learning Repository, 2000, doi:10.24432/C5NS47, CC BY 4.0;
    `japanese_vowels.LICENSE.txt` beside this file says what was changed.

    Accuracy: every value is the float32 nearest to the source's decimal number.
    """
    file = resources.files(__name__) / "japanese_vowels.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        train, test = (
            _unpack(arrays[f"{part}_frames"], arrays[f"{part}_lengths"], arrays[f"{part}_labels"])
            for part in ("train", "test")
        )
    return JapaneseVowels(
        train,
        test,
        speakers=tuple(f"speaker {k}" for k in range(1, 10)),
        coefficients=tuple(f"coefficient {k}" for k in range(1, train.x.shape[2] + 1)),
    )


def _unpack(frames: Array, lengths: Array, labels: Array) -> Utterances:
    """Lay the concatenated frames out as one row for each utterance.

    frames: (sum of lengths, 12) int32, millionths. lengths, labels: (N,) uint8.
    """
    x = np.zeros((len(lengths), MAX_FRAMES, frames.shape[1]), np.float32)
    x[np.arange(MAX_FRAMES) < lengths[:, None]] = frames / MILLIONTHS
    return Utterances(x, lengths.astype(np.int64), labels.astype(np.int64))
