"""Builds the flat lists that the native engine takes, in the order of native/bindings/operands.h.

Frameworks pass flat lists of tensors without None: a placeholder of shape (0,) stands for None. `INPUTS` names the
input tensors of one direction, `RESIDUALS` the results of its forward pass. With several directions, the list holds all
tensors of the first direction, then those of the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from glasscell import _native
from glasscell._cells.activations import BUILT_IN
from glasscell._cells.checks import Array
from glasscell._cells.lstm import Options
from glasscell._ops import aligned

Shape = tuple[Any, ...]  # with None where a framework does not know a size

INPUTS = _native.INPUTS
WEIGHTS = INPUTS[: _native.WEIGHTS]  # these have gradients
RESIDUALS = _native.RESIDUALS
OUTPUTS = _native.OUTPUTS  # this many of `RESIDUALS` have cotangents
OPTION_CODES = len(_native.OPTION_CODES)
ACTIVATION, RECURRENT_ACTIVATION, _, TRANSPOSED_WEIGHTS = range(OPTION_CODES)  # positions, held by a test
RECURRENT_KERNEL = INPUTS.index("recurrent_kernel")
ACTIVATION_CODES = {name: code for code, name in enumerate(_native.ACTIVATIONS)}


class Operands(NamedTuple):
    """Holds the options and tensors of one direction; see `call.Call`.

    transposed_weights: the kernels and their gradients are in PyTorch's layout, (4H, I) and (4H, H).
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

    @property
    def tensors(self) -> tuple[Any, ...]:
        """The tensors that `INPUTS` names."""
        return self[1 : 1 + len(INPUTS)]


def inputs_of(
    kernel: Any, recurrent_kernel: Any, bias: Any, h0: Any, c0: Any, dropout_mask: Any, recurrent_dropout_mask: Any
) -> list[Any]:
    """Makes the flat list of one direction's `INPUTS`."""
    return [kernel, recurrent_kernel, bias, h0, c0, dropout_mask, recurrent_dropout_mask]


def residuals_of(
    hT: Any = None, cT: Any = None, h: Any = None, c: Any = None, gates: Any = None, z: Any = None,
    cell_checkpoints: Any = None,
) -> list[Any]:  # fmt: skip
    """Makes the flat list of one direction's `RESIDUALS`."""
    return [hT, cT, h, c, gates, z, cell_checkpoints]


def option_codes(options: Options, transposed_weights: bool = False) -> list[int] | str:
    """Encodes one direction's options as numbers, or returns the reason why the native engine cannot run them."""
    a, s = options.activation, options.recurrent_activation
    for name, activation in (("activation", a), ("recurrent_activation", s)):
        if not activation.is_built_in:
            return f"{name}: the native engine runs the built-in activations only, got the callable {activation.name!r}"
    return [ACTIVATION_CODES[a.name], ACTIVATION_CODES[s.name], options.go_backwards, transposed_weights]


def flatten(directions: Iterable[Operands], placeholder: Any) -> tuple[list[Any], list[int]]:
    """Flattens directions into lists of tensors and option codes, with `placeholder` for None.

    Raises: ValueError for an activation that the native engine does not know.
    """
    inputs: list[Any] = []
    codes: list[int] = []
    for direction in directions:
        inputs += [placeholder if t is None else t for t in direction.tensors]
        found = option_codes(direction.options, direction.transposed_weights)
        if isinstance(found, str):
            raise ValueError(found)
        codes += map(int, found)
    return inputs, codes


def unflatten(inputs: Sequence[Any], codes: Sequence[int]) -> list[Operands]:
    """Rebuilds the directions from the lists of `flatten`."""
    activation = [BUILT_IN[name] for name in ACTIVATION_CODES]
    directions = []
    for tensors, (a, s, go_backwards, transposed_weights) in zip(
        each(inputs, len(INPUTS)), each(codes, OPTION_CODES), strict=True
    ):
        options = Options(activation[a], activation[s], bool(go_backwards))
        given = (*map(none_if_placeholder, tensors), bool(transposed_weights))
        directions.append(Operands(options, *given))
    return directions


def each(flat: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Splits a flat list into the parts of each direction, `size` entries long."""
    return [flat[k : k + size] for k in range(0, len(flat), size)]


def none_if_placeholder(tensor: Any) -> Any:
    """Returns None for a placeholder, and any other tensor as it is."""
    return None if tuple(tensor.shape) == (0,) else tensor


def residual_shapes(x: Any, inputs: Sequence[Any], codes: Sequence[int], sequences: bool, tape: bool) -> list[Shape]:
    """Computes the shapes of the results of `forward`."""
    (B, T, _), shapes, none = x.shape, list[Shape](), (0,)
    for own, code in zip(each(inputs, len(INPUTS)), each(codes, OPTION_CODES), strict=True):
        H = own[RECURRENT_KERNEL].shape[code[TRANSPOSED_WEIGHTS]]
        state, states, gates = (B, H), (B, T, H), (B, T, 4, H)
        if not tape:
            shapes += residuals_of(state, state, states if sequences else none, none, none, none, none)
            continue
        raw = _native.needs_raw_gates(code[ACTIVATION], code[RECURRENT_ACTIVATION])
        shapes += residuals_of(state, state, states, states, gates, gates if raw else none, none)
    return shapes


def gradient_shapes(x: Any, inputs: Sequence[Any], dx: bool) -> list[Shape]:
    """Computes the shapes of the results of `backward`."""
    return [x.shape if dx else (0,), *(t.shape for own in each(inputs, len(INPUTS)) for t in own[: len(WEIGHTS)])]


def outputs_of(residuals: Sequence[Any]) -> list[Sequence[Any]]:
    """Selects hT, cT and h of each direction."""
    return [own[:OUTPUTS] for own in each(residuals, len(RESIDUALS))]


def read_by_backward(residuals: Sequence[Any], placeholder: Any) -> list[Any]:
    """Replaces the residuals that no gradient reads, the final states, by a placeholder."""
    unread = [name in ("hT", "cT") for name in RESIDUALS]
    return [
        placeholder if u else t for own in each(residuals, len(RESIDUALS)) for u, t in zip(unread, own, strict=True)
    ]


def operand_counts(codes: Sequence[int]) -> tuple[int, int]:
    """Counts the operands of an operation: x, step_flags and inputs without, and then with the residuals."""
    directions = len(codes) // OPTION_CODES
    inputs = 2 + directions * len(INPUTS)
    return inputs, inputs + directions * len(RESIDUALS)


def gradient_positions(codes: Sequence[int]) -> list[int]:
    """Lists the positions of x and of each direction's `WEIGHTS` among x, step_flags and inputs."""
    inputs, _ = operand_counts(codes)
    return [0, *(k + w for k in range(2, inputs, len(INPUTS)) for w in range(len(WEIGHTS)))]


def batch_axes(codes: Sequence[int]) -> list[int | None]:
    """Lists the index of the batch axis of x, step_flags and each input; None for weights, which have no such axis."""
    axes = {"h0": 0, "c0": 0, "dropout_mask": 1, "recurrent_dropout_mask": 1}
    return [0, 0, *(len(codes) // OPTION_CODES) * [axes.get(name) for name in INPUTS]]


def input_gradients(found: Sequence[Any]) -> list[Any]:
    """Extends the gradients of each direction's `WEIGHTS` to its `INPUTS`, with None for the dropout masks."""
    none = [None] * (len(INPUTS) - len(WEIGHTS))
    return [g for own in each(found, len(WEIGHTS)) for g in (*own, *none)]


def forward(
    x: Array, step_flags: Array, inputs: Sequence[Array], codes: Sequence[int], sequences: bool, tape: bool
) -> list[Array]:
    """Runs the directions forward.

    Returns the residuals of each direction, in processing order: hT and cT, (B, H); h: (B, T, H) if `sequences` or
    `tape`; with `tape` also c: (B, T, H), gates: (B, T, 4, H) and, where the derivatives need them, the raw gates z.

    x: (B, T, I). step_flags: as `Call.step_flags`. codes: `OPTION_CODES` numbers for each direction. All arrays are
    C-contiguous, and all but the flags have one dtype.
    """
    residuals = [aligned.empty(shape, x.dtype) for shape in residual_shapes(x, inputs, codes, sequences, tape)]
    _native.forward(x, step_flags, list(inputs), list(codes), residuals)
    return residuals


def backward(
    x: Array,
    step_flags: Array,
    inputs: Sequence[Array],
    codes: Sequence[int],
    residuals: Sequence[Array],
    cotangents: Sequence[Array],
    dx: bool = True,
) -> list[Array]:
    """Runs the directions backward. Returns the gradient of x, summed over the directions, or a placeholder without
    `dx`; then the gradients of each direction's `WEIGHTS`.

    residuals: the results of `forward` with `tape`. cotangents: those of each direction's hT, cT and h; a placeholder
    stands for zero.
    """
    gradients = [aligned.empty(shape, x.dtype) for shape in gradient_shapes(x, inputs, dx)]
    _native.backward(x, step_flags, list(inputs), list(codes), list(residuals), list(cotangents), gradients)
    return gradients
