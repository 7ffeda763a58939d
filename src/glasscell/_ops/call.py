"""What one call over time takes and gives, and what masks, lengths and resets mean.

Symbols: B batch, T time, I input features, H units. All float arrays of a call share one dtype.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from glasscell._cells.lstm import Options
from glasscell._cells.weights import LSTMWeights, State, read_array

Array = npt.NDArray[Any]
Keep = Literal["state", "sequence", "checkpoints", "tape", "trace"]

KEEP, RESET = 1, 2  # the bits of `Call.step_flags`; native/interface/call.h has the same


@dataclass(frozen=True, eq=False)  # here and below: equality of arrays has no single truth
class Call:
    """One pass over a batch of sequences, checked and ready to run.

    x: (B, T, I), C-contiguous.
    initial: State of (B, H) arrays.
    step_flags: (B, T) uint8 in the order of x, or None where every step is kept: bit KEEP runs the step (else the state
        carries over and its input is never read), bit RESET sets the state to zero before it.
    dropout_mask: (1 or 4, B, I) or None, multiplies x; recurrent_dropout_mask: (1 or 4, B, H) or None,
        multiplies h on its way into the gates. One mask for all gates or one for each of i, f, g, o; the same at all steps (dropout).
    packed: the weights once more, as the native engine reads them; None: it packs them itself.
    """

    weights: LSTMWeights
    options: Options
    x: Array
    initial: State
    step_flags: Array | None = None
    dropout_mask: Array | None = None
    recurrent_dropout_mask: Array | None = None
    packed: Any = None

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """B, T, I, H."""
        return *self.x.shape, self.weights.recurrent_kernel.shape[0]

    def detached(self) -> Call:
        """The same call on copies of what may be the caller's own arrays, who may write into them."""
        dropout_mask, recurrent_dropout_mask = (
            None if m is None else m.copy() for m in (self.dropout_mask, self.recurrent_dropout_mask)
        )
        return replace(
            self,
            x=self.x.copy(),
            initial=State(*(s.copy() for s in self.initial)),
            dropout_mask=dropout_mask,
            recurrent_dropout_mask=recurrent_dropout_mask,
        )


@dataclass(frozen=True, eq=False)
class Tape:
    """What a pass leaves for its gradient or its trace. Time runs in processing order.

    h, c: (B, T, H) after each step; gates: (B, T, 4, H) activated i, f, g, o; z: the same, raw, or None where neither
    the gradient nor a trace needs it. `gates` and `z` are undefined at steps that were not kept.
    cell_checkpoints: (time blocks, B, H) in place of c, gates and z, which are None then: the cell state before each
    block of steps, from which the gradient computes them anew.
    """

    call: Call
    h: Array
    c: Array | None
    gates: Array | None
    z: Array | None
    cell_checkpoints: Array | None = None


@dataclass(frozen=True, eq=False)
class Forward:
    """`h: (B, T, H)` in processing order, or None if only the final state was asked for; the state; the tape."""

    h: Array | None
    final: State
    tape: Tape | None


@dataclass(frozen=True, eq=False)
class Gradients:
    """Gradients by the names of what they belong to, in those shapes; `bias` is None where the cell has none."""

    x: Array
    kernel: Array
    recurrent_kernel: Array
    bias: Array | None
    h0: Array
    c0: Array


def step_flags_of(batch: int, time: int, mask: Any = None, lengths: Any = None, reset: Any = None) -> Array | None:
    """The `Call.step_flags` of a mask, lengths and resets; None where all steps simply run.

    mask: (B, T) bool, True = use the step. lengths: (B,) integers in 0..T; steps from there on are not used, and
    their resets do not happen. reset: (B, T) bool, True = the state is zero before the step, used or not (an episode
    that starts in a skipped step has started all the same). Mask and lengths together keep what both keep.
    """
    if mask is None and lengths is None and reset is None:
        return None
    inside: Array = np.ones((batch, time), bool)
    if lengths is not None:
        ends = read_array("lengths", lengths)
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
    """`Call.step_flags` of (B, T) bools, arrays or tensors: the steps inside the lengths, and the mask and resets if any."""
    used = inside if mask is None else inside & mask
    bits = used * uint8(KEEP)
    return bits if reset is None else bits | (reset & inside) * uint8(RESET)


def _bools(name: str, value: Any, batch: int, time: int) -> Array:
    array = read_array(name, value)
    if array.shape != (batch, time):
        raise ValueError(f"{name}: expected shape (B, T) = ({batch}, {time}), got {array.shape}")
    if array.dtype != np.bool_:
        raise TypeError(f"{name}: expected bool, got {array.dtype}; convert it with .astype(bool)")
    return array
