"""Directions over the same input, arrays in and arrays out: what the operators of the frameworks call.

Frameworks pass flat lists of tensors, and no None: a placeholder of shape (0,) stands for it. `INPUTS` names the
tensors of one direction; with several directions those of the first come first. So too with what comes out: `RESIDUALS`.
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
INPUTS = (*WEIGHTS, "dropout_mask", "recurrent_dropout_mask")
OPTION_CODES = 4  # for each direction: those of its options, and `transposed_weights`
RESIDUALS = ("hT", "cT", "h", "c", "gates", "z")
OUTPUTS = 3  # of `RESIDUALS`, these first ones have cotangents


class Operands(NamedTuple):
    """What one direction has of its own, as a framework's tensors; see `glasscell._ops.call.Call`.

    transposed_weights: the kernels stand as PyTorch has them, (4H, I) and (4H, H), and so do their gradients.
    """

    options: Options
    kernel: Any
    recurrent_kernel: Any
    bias: Any
    h0: Any
    c0: Any
    dropout_mask: Any = None
    recurrent_dropout_mask: Any = None
    transposed_weights: bool = False


def flatten(directions: Iterable[Operands], placeholder: Any) -> tuple[list[Any], list[int]]:
    """The lists of tensors and option codes, with `placeholder` for None."""
    directions = list(directions)
    inputs = [placeholder if t is None else t for direction in directions for t in direction[1 : 1 + len(INPUTS)]]
    option_codes: list[int] = []
    for direction in directions:
        c = direction.options.codes()
        option_codes += [
            c["activation"],
            c["recurrent_activation"],
            c["go_backwards"],
            int(direction.transposed_weights),
        ]
    return inputs, option_codes


def unflatten(inputs: Sequence[Any], option_codes: Sequence[int]) -> list[Operands]:
    """The directions that `flatten` made these lists of."""
    activation, directions = list(BUILT_IN.values()), []
    for k in range(len(inputs) // len(INPUTS)):
        a, s, backwards, transposed_weights = option_codes[OPTION_CODES * k :][:OPTION_CODES]
        tensors = [none_if_placeholder(t) for t in inputs[k * len(INPUTS) :][: len(INPUTS)]]
        options = Options(activation[a], activation[s], bool(backwards))
        directions.append(Operands(options, *tensors)._replace(transposed_weights=bool(transposed_weights)))
    return directions


def none_if_placeholder(tensor: Any) -> Any:
    """The array or tensor, or None where it is the one that stands for None."""
    return None if tuple(tensor.shape) == (0,) else tensor


def residual_shapes(
    x: Any, inputs: Sequence[Any], option_codes: Sequence[int], sequences: bool, tape: bool
) -> list[Shape]:
    """The shapes of what `forward` gives."""
    (B, T, _), shapes = x.shape, list[Shape]()
    for k in range(len(inputs) // len(INPUTS)):
        a, s, _, transposed_weights = option_codes[OPTION_CODES * k :][:OPTION_CODES]
        H, raw = inputs[k * len(INPUTS) + 1].shape[transposed_weights], tape and _native.needs_raw_gates(a, s)
        shapes += [(B, H), (B, H), (B, T, H) if sequences or tape else (0,), (B, T, H) if tape else (0,)]
        shapes += [(B, T, 4, H) if wanted else (0,) for wanted in (tape, raw)]
    return shapes


def gradient_shapes(x: Any, inputs: Sequence[Any], dx: bool) -> list[Shape]:
    """The shapes of what `backward` gives."""
    return [
        x.shape if dx else (0,),
        *(t.shape for k in range(0, len(inputs), len(INPUTS)) for t in inputs[k:][: len(WEIGHTS)]),
    ]


def input_gradients(found: Sequence[Any]) -> list[Any]:
    """The gradients of what `INPUTS` names, from those of `WEIGHTS`: for each direction the masks have none."""
    none = [None] * (len(INPUTS) - len(WEIGHTS))
    return [g for k in range(0, len(found), len(WEIGHTS)) for g in (*found[k:][: len(WEIGHTS)], *none)]


def forward(
    x: Array, step_flags: Array, inputs: Sequence[Array], option_codes: Sequence[int], sequences: bool, tape: bool
) -> list[Array]:
    """For each direction hT and cT, each (B, H); `h: (B, T, H)` if `sequences` or `tape`; with `tape` also
    `c: (B, T, H)`, `gates: (B, T, 4, H)` and, where the derivatives need them, the raw gates z, in processing order.

    x: (B, T, I); step_flags: as `Call.step_flags`; option_codes: `OPTION_CODES` for each direction. All C-contiguous, and
    float32 or float64 alike but for the step_flags.
    """
    residuals = [aligned.empty(shape, x.dtype) for shape in residual_shapes(x, inputs, option_codes, sequences, tape)]
    _native.forward_directions(x, step_flags, list(inputs), list(option_codes), residuals)
    return residuals


def backward(
    x: Array,
    step_flags: Array,
    inputs: Sequence[Array],
    option_codes: Sequence[int],
    residuals: Sequence[Array],
    cotangents: Sequence[Array],
    dx: bool = True,
) -> list[Array]:
    """The gradient of x, summed over the directions, or a placeholder without `dx`; then for each those of `WEIGHTS`.

    residuals: what `forward` gave with `tape`. cotangents: for each direction those of hT, cT and h; a placeholder for zero.
    """
    gradients = [aligned.empty(shape, x.dtype) for shape in gradient_shapes(x, inputs, dx)]
    _native.backward_directions(
        x, step_flags, list(inputs), list(option_codes), list(residuals), list(cotangents), gradients
    )
    return gradients
