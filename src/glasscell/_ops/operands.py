"""Directions over the same input, arrays in and arrays out: what the operators of the frameworks call.

Frameworks pass flat lists of tensors, and no None: what is absent stands as a tensor of shape (0,). `OWN` names the
tensors of one direction; with several directions those of the first come first. So too with what comes out: `KEPT`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from glasscell import _native
from glasscell._cells.activations import BUILT_IN
from glasscell._cells.lstm import Options
from glasscell._ops import aligned

Array = npt.NDArray[Any]
Shape = tuple[Any, ...]  # a framework may not know all of its numbers

WEIGHTS = ("kernel", "recurrent_kernel", "bias", "h0", "c0")  # these have gradients
OWN = (*WEIGHTS, "input_mask", "recurrent_mask")
CODES = 4  # for each direction: those of its options, and `outputs_first`
KEPT = ("hT", "cT", "h", "c", "gates", "z")
OUTPUTS = 3  # of `KEPT`, these first ones have cotangents


class Direction(NamedTuple):
    """What one direction has of its own, as a framework's tensors; see `glasscell._ops.call.Call`.

    outputs_first: the kernels stand as PyTorch has them, (4H, I) and (4H, H), and so do their gradients.
    """

    options: Options
    kernel: Any
    recurrent_kernel: Any
    bias: Any
    h0: Any
    c0: Any
    input_mask: Any = None
    recurrent_mask: Any = None
    outputs_first: bool = False


def flatten(directions: Iterable[Direction], absent: Any) -> tuple[list[Any], list[int]]:
    """The lists of tensors and codes, with `absent` for None."""
    directions = list(directions)
    own = [absent if t is None else t for direction in directions for t in direction[1 : 1 + len(OWN)]]
    codes: list[int] = []
    for direction in directions:
        c = direction.options.codes()
        codes += [c["activation"], c["recurrent_activation"], c["go_backwards"], int(direction.outputs_first)]
    return own, codes


def unflatten(own: Sequence[Any], codes: Sequence[int]) -> list[Direction]:
    """The directions that `flatten` made these lists of."""
    activation, directions = list(BUILT_IN.values()), []
    for k in range(len(own) // len(OWN)):
        a, s, backwards, outputs_first = codes[CODES * k :][:CODES]
        tensors = [given(t) for t in own[k * len(OWN) :][: len(OWN)]]
        options = Options(activation[a], activation[s], bool(backwards))
        directions.append(Direction(options, *tensors)._replace(outputs_first=bool(outputs_first)))
    return directions


def given(tensor: Any) -> Any:
    """The array or tensor, or None where it is the one that stands for None."""
    return None if tuple(tensor.shape) == (0,) else tensor


def kept_shapes(x: Any, own: Sequence[Any], codes: Sequence[int], sequences: bool, tape: bool) -> list[Shape]:
    """The shapes of what `forward` gives."""
    (B, T, _), shapes = x.shape, list[Shape]()
    for k in range(len(own) // len(OWN)):
        a, s, _, outputs_first = codes[CODES * k :][:CODES]
        H, raw = own[k * len(OWN) + 1].shape[outputs_first], tape and _native.needs_raw_gates(a, s)
        shapes += [(B, H), (B, H), (B, T, H) if sequences or tape else (0,), (B, T, H) if tape else (0,)]
        shapes += [(B, T, 4, H) if wanted else (0,) for wanted in (tape, raw)]
    return shapes


def gradient_shapes(x: Any, own: Sequence[Any], dx: bool) -> list[Shape]:
    """The shapes of what `backward` gives."""
    return [x.shape if dx else (0,), *(t.shape for k in range(0, len(own), len(OWN)) for t in own[k:][: len(WEIGHTS)])]


def own_gradients(found: Sequence[Any]) -> list[Any]:
    """The gradients of what `OWN` names, from those of `WEIGHTS`: for each direction the masks have none."""
    none = [None] * (len(OWN) - len(WEIGHTS))
    return [g for k in range(0, len(found), len(WEIGHTS)) for g in (*found[k:][: len(WEIGHTS)], *none)]


def forward(
    x: Array, steps: Array, own: Sequence[Array], codes: Sequence[int], sequences: bool, tape: bool
) -> list[Array]:
    """For each direction hT and cT, each (B, H); `h: (B, T, H)` if `sequences` or `tape`; with `tape` also
    `c: (B, T, H)`, `gates: (B, T, 4, H)` and, where the derivatives need them, the raw gates z, in processing order.

    x: (B, T, I); steps: as `Call.steps`; codes: `CODES` for each direction. All C-contiguous, and
    float32 or float64 alike but for the steps.
    """
    kept = [aligned.empty(shape, x.dtype) for shape in kept_shapes(x, own, codes, sequences, tape)]
    _native.forward_directions(x, steps, list(own), list(codes), kept)
    return kept


def backward(
    x: Array,
    steps: Array,
    own: Sequence[Array],
    codes: Sequence[int],
    kept: Sequence[Array],
    cotangents: Sequence[Array],
    dx: bool = True,
) -> list[Array]:
    """The gradient of x, summed over the directions, or absent without `dx`; then for each those of `WEIGHTS`.

    kept: what `forward` gave with `tape`. cotangents: for each direction those of hT, cT and h; absent for zero.
    """
    gradients = [aligned.empty(shape, x.dtype) for shape in gradient_shapes(x, own, dx)]
    _native.backward_directions(x, steps, list(own), list(codes), list(kept), list(cotangents), gradients)
    return gradients
