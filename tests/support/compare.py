"""How the tests compare arrays: elementwise, NaN and infinity in their places, at the scale of the array or by bits."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

import numpy as np


def scale(expected: Any) -> float:
    """The largest finite magnitude of an array.

    Errors are measured at this scale: each element is a sum whose terms may cancel, so its own size says nothing
    about the rounding it went through, while the array's largest element bounds it up to a small factor.
    """
    finite = np.abs(np.asarray(expected, np.float64))
    finite = finite[np.isfinite(finite)]
    return float(finite.max(initial=0.0))


def error(got: Any, expected: Any) -> np.ndarray:
    """|got - expected| of each element, in float64; NaN and infinities must stand in the same places."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    odd = ~np.isfinite(expected)
    np.testing.assert_array_equal(got[odd], expected[odd])
    assert np.isfinite(got[~odd]).all(), "NaN or infinity where a number was expected"
    return np.abs(np.where(odd, 0, got) - np.where(odd, 0, expected))


def assert_close(got: Any, expected: Any, relative: float, what: object = "") -> None:
    """Each element within `relative` times the array's scale."""
    worst, bound = error(got, expected).max(initial=0.0), relative * scale(expected)
    assert worst <= bound, f"{what}: off by {worst:.3g}, allowed {bound:.3g} = {relative:g} of the scale"


def assert_same_bits(got: Any, expected: Any, what: object = "") -> None:
    """Same shape, dtype and bits: -0 is not 0 here, but any NaN is NaN. Its sign and payload are the processor's, which
    takes them from one operand or the other (native/interface/call.h)."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype), f"{what}: {got.dtype}{got.shape}"
    word = f"u{got.dtype.itemsize}"
    different = np.ascontiguousarray(got).view(word) != np.ascontiguousarray(expected).view(word)
    if got.dtype.kind == "f":
        different &= ~(np.isnan(got) & np.isnan(expected)).reshape(different.shape)
    assert not different.any(), f"{what}: {different.sum()} of {different.size} differ"


def arrays_of(result: Any, name: str = "") -> dict[str, np.ndarray]:
    """Names every array in dictionaries, sequences, traces and gradients; None and functions are left out."""
    if result is None or callable(result):
        return {}
    parts = vars(result) if is_dataclass(result) else result
    if isinstance(parts, (tuple, list)):
        parts = dict(enumerate(parts))
    if isinstance(parts, dict):
        return {k: v for key, part in parts.items() for k, v in arrays_of(part, f"{name} {key}".strip()).items()}
    return {name: np.asarray(parts.detach() if hasattr(parts, "detach") else parts)}


def assert_same_results(got: Any, expected: Any, what: object = "") -> None:
    """Holds every array of a result against that of its name by bits."""
    named, wanted = arrays_of(got), arrays_of(expected)
    assert named.keys() == wanted.keys()
    for name, value in wanted.items():
        assert_same_bits(named[name], value, f"{name} of {what}")
