"""The recordings that ship with the package: what they hold, and that repacking lost nothing."""

import runpy
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from glasscell.data import load_japanese_vowels

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def vowels():
    return load_japanese_vowels()


def test_sizes(vowels):
    """The counts its authors state: 30 utterances of each speaker to train on, and these to test on."""
    assert vowels.train.x.shape == (270, 29, 12)
    assert vowels.test.x.shape == (370, 29, 12)
    np.testing.assert_array_equal(np.bincount(vowels.train.labels), [30] * 9)
    np.testing.assert_array_equal(np.bincount(vowels.test.labels), [31, 35, 88, 44, 29, 24, 40, 50, 29])
    assert (len(vowels.train), len(vowels.test)) == (270, 370)
    assert (len(vowels.speakers), len(vowels.coefficients)) == (9, 12)


@pytest.mark.parametrize("part", ["train", "test"])
def test_padding_is_zero_and_frames_are_not(vowels, part):
    """What lets a masking layer find the lengths."""
    utterances = getattr(vowels, part)
    assert (utterances.x.dtype, utterances.lengths.dtype, utterances.labels.dtype) == ("float32", "int64", "int64")
    assert utterances.lengths.min() == 7
    assert utterances.lengths.max() == {"train": 26, "test": 29}[part]
    spoken = np.any(utterances.x != 0, axis=2)
    np.testing.assert_array_equal(spoken, np.arange(29) < utterances.lengths[:, None])
    assert np.isfinite(utterances.x).all()


def test_values(vowels):
    """The first and the last frame of the source, and a sum over everything, exact in millionths.

    float32 holds the source's six decimals: rounded to six places every value is the same number.
    """
    first = [
        [1.860936, -0.207383, 0.261557, -0.214562, -0.171253, -0.118167],
        [-0.277557, 0.025668, 0.126701, -0.306756, -0.213076, 0.088728],
    ]
    np.testing.assert_array_equal(vowels.train.x[0, 0], np.float32(first).ravel())
    last = [
        [1.177449, -0.404080, 0.052026, -0.284812, 0.429840, -0.203484],
        [-0.072393, -0.080955, -0.244424, -0.001849, -0.016634, 0.224688],
    ]
    np.testing.assert_array_equal(vowels.test.x[-1, vowels.test.lengths[-1] - 1], np.float32(last).ravel())
    for part, total in ((vowels.train, -1057452303), (vowels.test, -2146513430)):
        millionths = np.rint(part.x.astype(np.float64) * 1e6)
        assert millionths.sum() == total
        np.testing.assert_array_equal((millionths / 1e6).astype(np.float32), part.x)


def test_licence_is_shipped():
    text = (resources.files("glasscell.data") / "japanese_vowels.LICENSE.txt").read_text(encoding="utf-8")
    for fact in ("10.24432/C5NS47", "Kudo", "Toyama", "Shimbo", "CC BY 4.0", "What was changed"):
        assert fact in text


def test_repacking_reads_the_text_form(tmp_path):
    read = runpy.run_path(str(ROOT / "tools" / "repack_japanese_vowels.py"))["read"]
    source = tmp_path / "two.ts"
    channels = [[f"{k + step / 10:.6f}" for step in range(2)] for k in range(12)]
    line = ":".join(",".join(channel) for channel in channels)
    source.write_text(f"#comment\n@data\n{line}:3\n{line}:9\n")
    frames, lengths, labels = read(str(source))
    np.testing.assert_array_equal(frames[:2], 100_000 * np.array([10 * np.arange(12), 10 * np.arange(12) + 1]))
    np.testing.assert_array_equal(frames[2:], frames[:2])
    np.testing.assert_array_equal(lengths, [2, 2])
    np.testing.assert_array_equal(labels, [2, 8])
    for broken in (f"{line}:0", f"0:{line}:1", line.replace("0.000000", "0.0000001", 1) + ":1"):
        source.write_text(broken)
        with pytest.raises(ValueError, match="line 1"):
            read(str(source))
