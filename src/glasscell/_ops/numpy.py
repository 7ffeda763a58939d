"""Runs a call on NumPy arrays: with the native engine where it can, else with the reference."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args, overload

import numpy as np

from glasscell import _native
from glasscell._cells.checks import Array, State
from glasscell._cells.layouts import LSTMWeights
from glasscell._ops import aligned, operands, reference
from glasscell._ops.call import (
    Call,
    Checkpoints,
    Differentiable,
    Engine,
    Gradients,
    Keep,
    Outputs,
    Record,
    Recorded,
    Result,
    Tape,
)

ENGINES = get_args(Engine)
NATIVE = (np.dtype(np.float32), np.dtype(np.float64))


@overload
def run(call: Call, keep: Literal["state"], engine: Engine = ...) -> Result: ...
@overload
def run(call: Call, keep: Literal["sequence"], engine: Engine = ...) -> Outputs: ...
@overload
def run(call: Call, keep: Literal["checkpoints", "tape"], engine: Engine = ...) -> Differentiable: ...
@overload
def run(call: Call, keep: Literal["trace"], engine: Engine = ...) -> Recorded: ...
@overload
def run(call: Call, keep: Literal["state", "sequence"], engine: Engine = ...) -> Result: ...
def run(call: Call, keep: Keep, engine: Engine = "auto") -> Result:
    """Run a call.

    keep: "state" keeps only the final state. "sequence" also keeps the h of every step. "tape" also keeps the gates and
    cell states for the gradient; "checkpoints" keeps states from which the gradient computes them again; "trace" also
    keeps the raw gates.
    engine: "auto" takes the native engine wherever it can run the call.

    Raises: ValueError for an unknown engine, and for "native" where it cannot run the call, with the reason.
    """
    codes = native_codes(call, engine)
    if codes is None:
        return reference.run(call, keep)
    B, T, _, H = call.sizes
    dtype = call.x.dtype
    final = State(np.empty((B, H), dtype), np.empty((B, H), dtype))
    if keep == "state":
        _forward(call, codes, final)
        return Result("native", final)
    h = aligned.empty((B, T, H), dtype)
    if keep == "sequence":
        _forward(call, codes, final, h=h)
        return Outputs("native", final, h)
    if keep == "checkpoints":
        checkpoints = np.empty((_native.time_block_count(B, T), B, H), dtype)
        _forward(call, codes, final, h=h, cell_checkpoints=checkpoints)
        return _differentiable(call, codes, final, Checkpoints(h, checkpoints))
    c, gates = aligned.empty((B, T, H), dtype), aligned.empty((B, T, 4, H), dtype)
    if keep == "tape" and not _native.needs_raw_gates(*codes[:2]):
        _forward(call, codes, final, h=h, c=c, gates=gates)
        return _differentiable(call, codes, final, Tape(h, c, gates))
    record = Record(h, c, gates, aligned.empty((B, T, 4, H), dtype))
    _forward(call, codes, final, h=h, c=c, gates=gates, z=record.z)
    return Recorded("native", final, h, record) if keep == "trace" else _differentiable(call, codes, final, record)


def pack(weights: LSTMWeights) -> Any:
    """Packs the weights for the native engine, once for many calls; None where the engine does not take their dtype.

    Packed weights are a copy: they stay valid only as long as nobody writes into the arrays.
    """
    return _native.pack(*weights) if weights.kernel.dtype in NATIVE else None


def native_codes(call: Call, engine: Engine) -> list[int] | None:
    """Encodes the call's options for the native engine; None where the reference is to run.

    Raises: ValueError as `run` does.
    """
    if engine == "reference":
        return None
    if engine not in ENGINES:
        raise ValueError(f'engine: expected "auto", "native" or "reference", got {engine!r}')
    codes = operands.option_codes(call.options)
    if isinstance(codes, str):
        reason = f'{codes}; use a Keras name, or engine="reference"'
    elif call.x.dtype in NATIVE:
        return codes
    else:
        reason = f"x: the native engine runs float32 and float64, got {call.x.dtype}"
    if engine == "native":
        raise ValueError(reason)
    return None


def _inputs(call: Call) -> list[Any]:
    return operands.inputs_of(*call.weights, *call.initial, call.dropout_mask, call.recurrent_dropout_mask)


def _forward(call: Call, codes: list[int], final: State, **kept: Array) -> None:
    residuals = operands.residuals_of(*final, **kept)
    _native.forward(call.x, call.step_flags, _inputs(call), codes, residuals, call.packed)


def _differentiable(call: Call, codes: list[int], final: State, residuals: Tape | Checkpoints) -> Differentiable:
    return Differentiable("native", final, residuals.h, residuals, partial(_backward, call, codes, residuals))


def _backward(
    call: Call, codes: list[int], residuals: Tape | Checkpoints, dh_all: Array | None, dh: Array, dc: Array
) -> Gradients:
    """Computes the gradients of a call. Arguments as `Pullback` takes them."""
    (kernel, recurrent_kernel, bias), dtype = call.weights, call.x.dtype
    new = (call.x, kernel, recurrent_kernel, bias, dh, dc)
    gradients = [None if like is None else aligned.empty(like.shape, dtype) for like in new]
    if isinstance(residuals, Checkpoints):
        kept = operands.residuals_of(h=residuals.h, cell_checkpoints=residuals.cell_checkpoints)
    else:
        z = residuals.z if isinstance(residuals, Record) else None
        kept = operands.residuals_of(h=residuals.h, c=residuals.c, gates=residuals.gates, z=z)
    _native.backward(call.x, call.step_flags, _inputs(call), codes, kept, [dh, dc, dh_all], gradients)
    return Gradients(*gradients)  # type: ignore[arg-type]
