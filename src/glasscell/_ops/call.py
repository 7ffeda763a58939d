"""Defines one call over time: its arguments, checked once, and its results.

Symbols: B batch, T time, I input features, H units. All float arrays of a call share one dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from glasscell._cells.checks import Array, State, check_array, check_state, read_array, shapes
from glasscell._cells.layouts import LSTMWeights
from glasscell._cells.lstm import Options
from glasscell._ops import aligned

Keep = Literal["state", "sequence", "checkpoints", "tape", "trace"]
Engine = Literal["auto", "native", "reference"]
Used = Literal["native", "reference"]

KEEP, RESET = 1, 2  # the bits of `Call.step_flags`, as in native/interface/call.h


class SequenceOptions(NamedTuple):
    """Holds the arguments that select the steps and elements of a call.

    mask: (B, T) bool; lengths: (B,) integers; reset: (B, T) bool, as `step_flags_of` reads them.
    dropout_mask: factors (B, I), or (4, B, I) for each gate. recurrent_dropout_mask: factors (B, H) or (4, B, H).
    """

    mask: Any = None
    lengths: Any = None
    reset: Any = None
    dropout_mask: Any = None
    recurrent_dropout_mask: Any = None


@dataclass(slots=True, eq=False)  # here and below: comparing arrays gives arrays, not one bool
class Call:
    """Holds one pass over a batch of sequences, checked and ready to run.

    x: (B, T, I), C-contiguous.
    initial: State of (B, H) arrays.
    step_flags: (B, T) uint8 in the order of x, or None where every step runs. Bit KEEP runs the step; without it the
        state stays and the input is never read. Bit RESET sets the state to zero before the step.
    dropout_mask: (1 or 4, B, I) or None, multiplies x. recurrent_dropout_mask: (1 or 4, B, H) or None, multiplies h on
        its way into the gates. There is one mask for all gates, or one for each of i, f, g, o; all steps share it.
    packed: the weights again, packed for the native engine; None lets the engine pack them.
    """

    weights: LSTMWeights
    options: Options
    x: Array
    initial: State
    step_flags: Array | None = None
    dropout_mask: Array | None = None
    recurrent_dropout_mask: Array | None = None
    packed: Any = None

    @classmethod
    def checked(
        cls,
        weights: LSTMWeights,
        options: Options,
        x: Any,
        initial_state: Any = None,
        sequence: SequenceOptions | None = None,
        packed: Any = None,
    ) -> Call:
        """Checks the user's arguments and makes a call from them.

        packed: the result of `_ops.numpy.pack(weights)`, or None.

        Raises: ValueError or TypeError naming the argument, the expected and the got.
        """
        (inputs, _), units, dtype = weights.kernel.shape, weights.recurrent_kernel.shape[0], weights.kernel.dtype
        x = read_array("x", x, "an array of shape (B, T, I)")
        if x.ndim != 3:
            raise ValueError(f"x: expected shape (B, T, I) = (B, T, {inputs}), got {x.shape}")
        batch, time, _ = x.shape
        x = check_array("x", x, (batch, time, inputs), dtype, "(B, T, I)")
        initial = check_state("initial_state", initial_state, batch, units, dtype)
        if sequence is None:
            return cls(weights, options, x, initial, packed=packed)
        mask, lengths, reset, dropout, recurrent_dropout = sequence
        return cls(
            weights,
            options,
            x,
            initial,
            step_flags_of(batch, time, mask, lengths, reset),
            _dropout_mask("dropout_mask", dropout, batch, inputs, dtype, "I"),
            _dropout_mask("recurrent_dropout_mask", recurrent_dropout, batch, units, dtype, "H"),
            packed,
        )

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """The sizes B, T, I and H."""
        return *self.x.shape, self.weights.recurrent_kernel.shape[0]

    def kept_steps(self) -> Array | None:
        """Marks the steps that run: (B, T) bool, in processing order; None where all do."""
        if self.step_flags is None:
            return None
        kept: Array = (self.step_flags & KEEP) != 0
        return kept[:, ::-1] if self.options.go_backwards else kept

    def reset_steps(self) -> Array | None:
        """Marks the steps before which the state is zero: (B, T) bool, in processing order; None without any."""
        if self.step_flags is None:
            return None
        reset: Array = (self.step_flags & RESET) != 0
        return (reset[:, ::-1] if self.options.go_backwards else reset) if reset.any() else None

    def detached(self) -> Call:
        """Returns a call on copies of the arrays that may belong to the caller, who may write into them."""
        dropout, recurrent_dropout = (
            None if m is None else m.copy() for m in (self.dropout_mask, self.recurrent_dropout_mask)
        )
        return replace(
            self,
            x=aligned.copy(self.x),
            initial=State(*(s.copy() for s in self.initial)),
            dropout_mask=dropout,
            recurrent_dropout_mask=recurrent_dropout,
        )


@dataclass(slots=True, eq=False)
class Checkpoints:
    """Holds the states from which a gradient computes the gates again. Time runs in processing order.

    h: (B, T, H) after each step. cell_checkpoints: (time blocks, B, H), the cell state before each block of steps.
    """

    h: Array
    cell_checkpoints: Array


@dataclass(slots=True, eq=False)
class Tape:
    """Holds the states and gates that a gradient reads. Time runs in processing order.

    h, c: (B, T, H) after each step. gates: (B, T, 4, H) activated i, f, g, o, undefined at steps that were not kept.
    """

    h: Array
    c: Array
    gates: Array


@dataclass(slots=True, eq=False)
class Record(Tape):
    """Adds the raw gates to a tape. z: (B, T, 4, H), undefined at steps that were not kept."""

    z: Array


@dataclass(frozen=True, eq=False, repr=False)
class Gradients:
    """Holds a gradient for each array, under its name and in its shape; `bias` is None where the cell has no bias."""

    x: Array
    kernel: Array
    recurrent_kernel: Array
    bias: Array | None
    h0: Array
    c0: Array

    def __repr__(self) -> str:
        return shapes("Gradients", {field.name: getattr(self, field.name) for field in fields(self)})


# Computes gradients from dh_all: (B, T, H), the gradient of every h in processing order, or None for zero; and from dh
# and dc: (B, H), those of the final state.
Pullback = Callable[[Array | None, Array, Array], Gradients]


@dataclass(slots=True, eq=False)
class Result:
    """Holds the engine that ran, and the final state."""

    engine: Used
    final: State


@dataclass(slots=True, eq=False)
class Outputs(Result):
    """Adds every output to a result. h: (B, T, H) after each step, in processing order."""

    h: Array


@dataclass(slots=True, eq=False)
class Differentiable(Outputs):
    """Adds to the outputs the tape, or checkpoints, and the pullback that reads them."""

    residuals: Tape | Checkpoints
    pullback: Pullback


@dataclass(slots=True, eq=False)
class Recorded(Outputs):
    """Adds to the outputs the record of a trace."""

    record: Record


def step_flags_of(batch: int, time: int, mask: Any = None, lengths: Any = None, reset: Any = None) -> Array | None:
    """Encodes a mask, lengths and resets as `Call.step_flags`; None where all steps run without resets.

    mask: (B, T) bool, True = use the step. lengths: (B,) integers in 0..T; later steps are not used, and their resets
    are ignored. reset: (B, T) bool, True = set the state to zero before the step, even where the mask skips the step
    (an episode may start in a skipped step). Mask and lengths together use the steps that both use.
    """
    if mask is None and lengths is None and reset is None:
        return None
    inside: Array = np.ones((batch, time), bool)
    if lengths is not None:
        ends = read_array("lengths", lengths, "integers of shape (B,), one for each row")
        ends = ends if ends.size else ends.astype(int)  # [] would be floats
        if ends.shape != (batch,):
            raise ValueError(f"lengths: expected shape (B,) = ({batch},), got {ends.shape}")
        if ends.dtype.kind not in "iu":
            raise TypeError(f"lengths: expected integers, got {ends.dtype}")
        if batch and not (ends.min() >= 0 and ends.max() <= time):
            raise ValueError(f"lengths: expected 0..T = 0..{time}, got {ends.min()}..{ends.max()}")
        inside = np.arange(time) < ends[:, None]
    mask, reset = (
        None if value is None else _bools(name, value, batch, time)
        for name, value in (("mask", mask), ("reset", reset))
    )
    flags: Array = flag_bits(inside, mask, reset, np.uint8)
    return flags


def flag_bits(inside: Any, mask: Any, reset: Any, uint8: Any) -> Any:
    """Encodes (B, T) bools, arrays or tensors, as `Call.step_flags`. inside: the steps within the lengths."""
    used = inside if mask is None else inside & mask
    bits = used * uint8(KEEP)
    return bits if reset is None else bits | (reset & inside) * uint8(RESET)


def _bools(name: str, value: Any, batch: int, time: int) -> Array:
    array = read_array(name, value, "bools of shape (B, T)")
    if array.shape != (batch, time):
        raise ValueError(f"{name}: expected shape (B, T) = ({batch}, {time}), got {array.shape}")
    if array.dtype != np.bool_:
        raise TypeError(f"{name}: expected bool, got {array.dtype}; convert it with .astype(bool)")
    return array


def _dropout_mask(name: str, value: Any, batch: int, width: int, dtype: Any, symbol: str) -> Array | None:
    if value is None:
        return None
    value = read_array(name, value)
    if value.ndim == 2:
        return check_array(name, value, (batch, width), dtype, f"(B, {symbol})")[None]
    return check_array(name, value, (4, batch, width), dtype, f"(B, {symbol}) or (4, B, {symbol})")
