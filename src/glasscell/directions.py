"""Directions over the same input, arrays in and arrays out: what the operators of the frameworks call.

Frameworks pass flat lists of tensors, and no None: what is absent stands as a tensor of shape (0,). `OWN` names the
tensors of one direction; with several directions those of the first come first. So too with what comes out: `KEPT`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from glasscell import engine
from glasscell.cell import Options
from glasscell.sequence import Call, Forward, Tape
from glasscell.weights import LSTMWeights, State

Array = npt.NDArray[Any]

WEIGHTS = ("kernel", "recurrent_kernel", "bias", "h0", "c0")  # these have gradients
OWN = (*WEIGHTS, "input_mask", "recurrent_mask")
KEPT = ("hT", "cT", "h", "c", "gates", "z")


def forward(
    x: Array, steps: Array, own: Sequence[Array], codes: Sequence[int], sequences: bool, tape: bool
) -> list[Array]:
    """For each direction hT and cT, each (B, H); `h: (B, T, H)` if `sequences` or `tape`; with `tape` also
    `c: (B, T, H)`, `gates: (B, T, 4, H)` and, where the derivatives need them, the raw gates z, in processing order.

    x: (B, T, I); steps: as `Call.steps`; codes: three for each direction, as `Options.codes`. All C-contiguous.
    """
    results: list[Array | None] = []
    for call in _calls(x, steps, own, codes):
        done: Forward = engine.forward(call, "tape" if tape else "sequence" if sequences else "state", "native")
        kept = done.tape
        results += [*done.final, done.h, *((kept.c, kept.gates, kept.z) if kept else (None, None, None))]
    return [np.empty(0, x.dtype) if array is None else array for array in results]


def backward(
    x: Array,
    steps: Array,
    own: Sequence[Array],
    codes: Sequence[int],
    kept: Sequence[Array],
    cotangents: Sequence[Array],
) -> list[Array]:
    """The gradient of x, summed over the directions, then for each direction those of `WEIGHTS`.

    kept: what `forward` gave with `tape`. cotangents: for each direction those of hT, cT and h; absent for zero.
    """
    dx, results = np.zeros((), x.dtype), list[Array | None]()
    for k, call in enumerate(_calls(x, steps, own, codes)):
        _, _, h, c, gates, z = kept[k * len(KEPT) :][: len(KEPT)]
        dhT, dcT, dh = map(given, cotangents[3 * k :][:3])
        dhT, dcT = (np.zeros_like(call.initial.h) if d is None else d for d in (dhT, dcT))
        found = engine.backward(Tape(call, h, c, gates, given(z)), dh, dhT, dcT, "native")
        dx = found.x if k == 0 else dx + found.x
        results += [getattr(found, name) for name in WEIGHTS]
    return [dx, *(np.empty(0, x.dtype) if array is None else array for array in results)]


def given(tensor: Any) -> Any:
    """The array or tensor, or None where it is the one that stands for None."""
    return None if tuple(tensor.shape) == (0,) else tensor


def _calls(x: Array, steps: Array, own: Sequence[Array], codes: Sequence[int]) -> Iterator[Call]:
    for k in range(len(own) // len(OWN)):
        kernel, recurrent_kernel, bias, h0, c0, *masks = own[k * len(OWN) :][: len(OWN)]
        weights, options = LSTMWeights(kernel, recurrent_kernel, given(bias)), Options.from_codes(*codes[3 * k :][:3])
        yield Call(weights, options, x, State(h0, c0), given(steps), *map(given, masks))
