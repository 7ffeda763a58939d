"""Gathers the data of a page from a trace, and writes it as JSON that is safe inside HTML.

Arrays are written as base64 of little-endian float32, C-contiguous, with their shape; NaN and infinity are kept.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from glasscell import insight
from glasscell._cells.arguments import described
from glasscell._cells.checks import read_array
from glasscell._report.size import Part
from glasscell._trace import RECORDED, Trace

Array = npt.NDArray[Any]

LONGEST_NAME = 120  # letters of a name that a page shows


@dataclass(frozen=True)
class Answer:
    """Holds the Dense layer that reads the h of every step.

    kernel: (H, K), bias: (K,). classes: K names. activation: its Keras name; "softmax" is drawn as probabilities.
    truth: the right class of each row, or None where it is not known.
    """

    kernel: Array
    bias: Array
    classes: Sequence[str]
    activation: str = "linear"
    truth: Sequence[int] | None = None


def answer_of(dense: Any, classes: Sequence[str] | None, H: int) -> Answer:
    """Makes an `Answer` from a user's arguments. Raises: ValueError naming the argument."""
    expected = f"dense: expected (kernel, bias) of a Dense layer, of shapes (H, K) = ({H}, K) and (K,)"
    if not isinstance(dense, (list, tuple)) or len(dense) != 2:
        raise ValueError(f"{expected}, got {described(dense)}")
    kernel, bias = (read_array(f"dense[{n}]", _numbers(part), "an array") for n, part in enumerate(dense))
    if kernel.ndim != 2 or len(kernel) != H or bias.shape != kernel.shape[1:] or not bias.size:
        raise ValueError(f"{expected}, got {kernel.shape} and {bias.shape}")
    names = [f"class {k}" for k in range(len(bias))] if classes is None else [str(name) for name in classes]
    if len(names) != len(bias):
        raise ValueError(f"classes: expected {len(bias)} names, got {len(names)}")
    return Answer(kernel, bias, names)


def trace_data(trace: Trace, part: Part, name: str, row_names: Sequence[str], answer: Answer | None) -> dict[str, Any]:
    """Gathers the data of one trace, ready for JSON, under the keys that `page/data/arrays.js` reads."""
    shown = trace.at(rows=slice(0, part.rows), times=slice(0, part.steps))
    rows, units = slice(0, part.rows), part.units
    arrays = {key: getattr(shown, key)[..., units] for key in RECORDED}
    arrays |= {"all_h": shown.h} if units.size < trace.h.shape[2] else {}
    for key in ("h0", "c0"):
        state = getattr(trace, key)
        arrays |= {} if state is None else {key: state[rows] if key == "h0" else state[rows][:, units]}
    marks = {key: getattr(shown, key) for key in ("mask", "reset")}
    if part.weights:
        arrays |= _weights(shown, units)
    arrays |= _of_units(trace, part)
    return {
        "name": name[:LONGEST_NAME],
        "rows": _texts(row_names[: part.rows]),
        "units": units.tolist(),
        "goBackwards": trace.go_backwards,
        "activation": trace.activation.name if trace.activation else None,
        "recurrentActivation": trace.recurrent_activation.name if trace.recurrent_activation else None,
        "stepNames": [_texts(names) for names in shown.step_names] if shown.step_names is not None else None,
        "unitNames": None if trace.unit_names is None else _texts(trace.unit_names),
        "featureNames": None if trace.feature_names is None else _texts(trace.feature_names),
        "arrays": {key: _packed(array) for key, array in arrays.items() if array is not None},
        **{key: None if array is None else array.astype(int).tolist() for key, array in marks.items()},
        "answer": None if answer is None else _answer(answer, part, units, trace.h.shape[2]),
    }


def _weights(shown: Trace, units: Array) -> dict[str, Array | None]:
    """Gathers x and the known weights: the columns of the units in each kernel, (I, 4, U) and (H, 4, U)."""
    found: dict[str, Array | None] = {"x": shown.x}
    H = shown.h.shape[2]
    for key in ("kernel", "recurrent_kernel", "bias"):
        array = getattr(shown, key)
        found[key] = None if array is None else array.reshape(*array.shape[:-1], 4, H)[..., units]
    return found | {key: getattr(shown, key) for key in ("dropout_mask", "recurrent_dropout_mask")}


def _of_units(trace: Trace, part: Part) -> dict[str, Array]:
    """Computes the half-life of each unit and the saturation of its gates, (rows, U); nothing for gates outside 0..1.

    They are over all steps that ran, also those that the page leaves out.
    """
    found: dict[str, list[Array]] = {"half_life": [], "saturated": []}
    with suppress(ValueError):
        for row in range(part.rows):
            found["half_life"].append(insight.half_life(trace, row, units=part.units))
            shares = insight.saturation(trace, row, units=part.units)
            found["saturated"].append((shares.open + shares.closed).mean(0))
    return {key: np.stack(rows) for key, rows in found.items() if rows}


def _answer(answer: Answer, part: Part, units: Array, H: int) -> dict[str, Any] | None:
    """Gathers the Dense layer, if all its units are on the page."""
    if units.size < H:
        return None
    return {
        "kernel": _packed(answer.kernel),
        "bias": _packed(answer.bias),
        "classes": _texts(answer.classes),
        "activation": answer.activation,
        "truth": None if answer.truth is None else [int(k) for k in answer.truth[: part.rows]],
    }


def _numbers(value: Any) -> Any:
    """Detaches a PyTorch tensor from autograd and its device; returns anything else as it is."""
    return value.detach().cpu() if hasattr(value, "detach") else value


def _packed(array: Array) -> dict[str, Any]:
    with np.errstate(over="ignore"):  # float64 values beyond float32 become infinite
        little = np.ascontiguousarray(array, "<f4")
    return {"shape": list(little.shape), "base64": base64.b64encode(little.tobytes()).decode()}


def _texts(names: Any) -> list[str]:
    texts = (str(name) for name in names)
    return [
        text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}" for text in texts
    ]


def as_json(data: Any) -> str:
    """Writes JSON for a script element: it cannot end the element or begin a comment."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")
