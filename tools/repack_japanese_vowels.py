"""Repack the Japanese Vowels recordings from their .ts text files into the array file the package ships.

    python tools/repack_japanese_vowels.py JapaneseVowels_TRAIN.ts JapaneseVowels_TEST.ts

One line of a .ts file is one utterance: twelve comma-separated channels and the speaker, divided by colons. The
text has at most six decimals, so whole millionths hold it without loss; this is checked number by number.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

OUTPUT = Path(__file__).parents[1] / "src/glasscell/data/japanese_vowels.npz"
CHANNELS = 12


def read(path: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """The utterances of one file, in its order.

    Returns frames: (sum of lengths, 12) int32 millionths; lengths: (N,) uint8; labels: (N,) uint8, 0..8.
    Raises: ValueError for a line that is not twelve equally long channels and a speaker from 1 to 9, or a number
    with more than six decimals.
    """
    frames: list[list[int]] = []
    lengths: list[int] = []
    labels: list[int] = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip() or line[0] in "#@":
            continue
        *channels, label = line.strip().split(":")
        values = [[Decimal(value) * 1_000_000 for value in channel.split(",")] for channel in channels]
        if len(channels) != CHANNELS or len({len(channel) for channel in values}) != 1 or label not in "123456789":
            raise ValueError(f"{path}, line {number}: expected {CHANNELS} equally long channels and a speaker 1..9")
        if any(value != int(value) for channel in values for value in channel):
            raise ValueError(f"{path}, line {number}: a number has more than six decimals")
        frames.extend([int(value) for value in frame] for frame in zip(*values, strict=True))
        lengths.append(len(values[0]))
        labels.append(int(label) - 1)
    return np.array(frames, np.int32), np.array(lengths, np.uint8), np.array(labels, np.uint8)


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: repack_japanese_vowels.py TRAIN.ts TEST.ts")
    arrays = {}
    for part, path in zip(("train", "test"), sys.argv[1:], strict=True):
        for name, array in zip(("frames", "lengths", "labels"), read(path), strict=True):
            arrays[f"{part}_{name}"] = array
    np.savez_compressed(OUTPUT, **arrays)
    sizes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    print(f"{OUTPUT}: {OUTPUT.stat().st_size} bytes, {sizes}")


if __name__ == "__main__":
    main()
