"""Runs the native engine in place of Keras's loop over time, with the outputs that Keras gives on each backend.

This file has no mathematics: it passes the cells' options, weights, states and masks to the backend's operation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from glasscell._cells.lstm import Options
from glasscell._ops.call import KEEP
from glasscell._ops.operands import Operands
from glasscell.keras._eligibility import Native, is_stack
from glasscell.keras._refusals import check_state, describe

Tensor = Any
LoopResult = tuple[Tensor, Tensor, list[Any]]  # the last output, all outputs and the states, as `RNN.inner_loop` gives


class Pass(NamedTuple):
    """Holds the arguments of Keras's `inner_loop` for one layer, and the native operation to run.

    from_zero: the initial state is known to be zero.
    """

    layer: Any
    native: Native
    initial_state: Any
    training: bool
    from_zero: bool


def step_mask(layer: Any, mask: Any) -> Any:
    """Returns a call's mask as (B, T) where Keras's loop on this backend would read it so; else unchanged."""
    given, mask = mask, keras.tree.flatten(mask)[0] if mask is not None else None
    if mask is not None and not hasattr(mask, "shape"):
        raise TypeError(f"mask: expected a tensor or array of shape (B, T), got {describe(given)}")
    if mask is None or len(mask.shape) != 3:
        return mask
    if mask.shape[2] == 1:
        return mask[:, :, 0]
    return ops.any(ops.cast(mask, "bool"), -1) if _scans(layer) else mask


def why_not_this_width(cell: Any, x: Tensor) -> str | None:
    """Words the error for an x of the wrong width, for a cell with the equations of `LSTMCell`; None if it fits."""
    width = cell.kernel.shape[0]
    fits = x.shape[2] is None or x.shape[2] == width
    return None if fits else f"x: expected shape (B, T, I) = (B, T, {width}), got {tuple(x.shape)}"


def run_native(passes: list[Pass], sequences: Tensor, mask: Any) -> list[LoopResult]:
    """Runs the loops of one layer, or of several over the same sequences: the directions of a Bidirectional.

    The cells of a stack run one after another, each over the whole sequence; a layer with a stack runs alone.
    """
    first = passes[0]
    depth, stacked = len(first.native.cells), is_stack(first.layer.cell)
    mask = None if mask is None else ops.cast(ops.convert_to_tensor(mask), "bool")
    x = ops.convert_to_tensor(sequences, first.native.cells[0].cell.compute_dtype)
    flags = _step_flags(mask)
    if stacked and depth > 1 and len(first.initial_state) != depth:
        raise ValueError(
            f"initial_state: expected {depth} pairs (h, c), one for each cell, got {len(first.initial_state)}"
        )
    states: list[Any] = []
    for level in range(depth):
        last = level == depth - 1
        directions = [_operands(p, level, x, p.initial_state[level] if stacked else p.initial_state) for p in passes]
        every = not last or any(p.layer.return_sequences for p in passes)
        results = first.native.operation.run(x, flags, directions, every, bool(first.training))
        states.append([results[0][1], results[0][2]])
        if not last:
            x = results[0][0]
            if level == 0 and first.layer.go_backwards and mask is not None:
                flags = _step_flags(ops.flip(mask, 1))  # from here on in processing order
    if stacked:
        return [_loop_result(first, mask, results[0][0], states if depth > 1 else states[0])]
    return [_loop_result(p, mask, h, [hT, cT]) for p, (h, hT, cT) in zip(passes, results, strict=True)]


def _scans(layer: Any) -> bool:
    """Tells whether Keras's loop is a JAX scan, which treats masks in its own way."""
    return keras.backend.backend() == "jax" and not layer.unroll


def _step_flags(mask: Tensor | None) -> Tensor | None:
    """Makes the `Call.step_flags` of a mask."""
    return None if mask is None else ops.cast(mask, "uint8") * np.uint8(KEEP)


def _operands(p: Pass, level: int, x: Tensor, state: Any) -> Operands:
    """Gathers the operands of one cell. In a stack, only the first cell can run backwards in time."""
    cell, activation, recurrent_activation = p.native.cells[level]
    if (wrong := why_not_this_width(cell, x)) is not None:
        raise ValueError(wrong)
    check_state(state, x.shape[0], cell.units)
    options = Options(activation, recurrent_activation, p.layer.go_backwards and level == 0)
    if p.layer.stateful and keras.backend.backend() == "torch":
        state = [ops.copy(s) for s in state]  # the layer overwrites them before the gradient reads them
    dropout_mask, recurrent_dropout_mask = _dropout_masks(cell, x, state, p.training)
    (W, R, b), (h0, c0) = p.native.weights[level], state
    return Operands(options, W, R, b, h0, c0, dropout_mask, recurrent_dropout_mask)


def _dropout_masks(cell: Any, x: Tensor, state: Any, training: bool) -> list[Tensor | None]:
    """Reads the masks that Keras drew for this call, each (1 or 4, B, width), or None where there is no dropout."""

    def mask(rate: float, draw: Any, values: Any) -> Tensor | None:
        if not training or not 0 < rate < 1:
            return None
        drawn = draw(values())
        return ops.stack(drawn) if isinstance(drawn, list) else drawn[None]

    return [
        mask(cell.dropout, cell.get_dropout_mask, lambda: x[:, 0]),
        mask(cell.recurrent_dropout, cell.get_recurrent_dropout_mask, lambda: state[0]),
    ]


def _loop_result(p: Pass, mask: Tensor | None, h: Tensor | None, states: list[Any]) -> LoopResult:
    """Makes the layer's outputs from h; at skipped steps they are Keras's on this backend."""
    layer, hT = p.layer, states[-1][0] if isinstance(states[-1], list) else states[0]
    outputs: Any = h if layer.return_sequences else hT[:, None]
    if keras.backend.backend() == "torch" and _needs_copy(p, mask is not None, outputs):
        outputs = ops.copy(outputs)
    if mask is None:
        return outputs[:, -1], outputs, states
    mask = ops.flip(mask, 1) if layer.go_backwards else mask
    scan = _scans(layer)
    if not scan and not p.from_zero:  # Keras's loop, but for a scan, gives zeros before the first kept step
        outputs = _zero_other_steps(ops.cumsum(ops.cast(mask, "int32"), 1) > 0, outputs, layer.return_sequences)
    if layer.zero_output_for_mask and (scan or keras.backend.backend() != "jax"):
        outputs = _zero_other_steps(mask, outputs, layer.return_sequences)
    return outputs[:, -1], outputs, states


def _needs_copy(p: Pass, masked: bool, outputs: Tensor) -> bool:
    """Tells whether the outputs on PyTorch must be copied, because a user may write into them: they share memory with
    the gradient's residuals, or with a final h that Keras gives memory of its own."""
    if p.layer.return_sequences:
        return bool(outputs.requires_grad)
    fused = getattr(p.layer, "use_cudnn", False) and not p.layer.cell.recurrent_dropout and not masked
    return not fused


def _zero_other_steps(steps: Tensor, outputs: Tensor, sequences: bool) -> Tensor:
    """Returns the outputs at these steps, and zeros at all others."""
    return ops.where((steps if sequences else steps[:, -1:])[:, :, None], outputs, 0.0)
