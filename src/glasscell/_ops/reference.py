"""Runs `_cells/lstm.py` over time in NumPy, forward and backward, in any float dtype; the tests' reference."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from glasscell._cells.checks import Array, State
from glasscell._cells.lstm import Gates, raw_gates, raw_gates_gradient, step, step_gradient
from glasscell._ops.call import KEEP, RESET, Call, Differentiable, Gradients, Keep, Outputs, Record, Recorded, Result


def run(call: Call, keep: Keep) -> Result:
    """Run the cell over time. Arguments and results as those of `numpy.run`."""
    final, record = _forward(call)
    if keep == "state":
        return Result("reference", final)
    if keep == "sequence":
        return Outputs("reference", final, record.h)
    if keep == "trace":
        return Recorded("reference", final, record.h, record)
    return Differentiable("reference", final, record.h, record, partial(_backward, call, record))


def _forward(call: Call) -> tuple[State, Record]:
    B, T, _, H = call.sizes
    dtype = call.x.dtype
    h, c = (s.copy() for s in call.initial)  # copied, for they are returned where there are no steps
    hs, cs = np.empty((B, T, H), dtype), np.empty((B, T, H), dtype)
    zs, gates = np.empty((B, T, 4, H), dtype), np.empty((B, T, 4, H), dtype)
    with np.errstate(all="ignore"):  # NaN and infinity pass as IEEE says, without warnings
        for s, (_, x_t, used, reset) in enumerate(_steps(call)):
            h, c = np.where(reset, 0, h), np.where(reset, 0, c)
            z = raw_gates(_masked(x_t, call.dropout_mask), _masked(h, call.recurrent_dropout_mask), *_weights(call), np)
            activated, h_next, c_next = step(z, c, call.options, np)
            h, c = np.where(used, h_next, h), np.where(used, c_next, c)
            hs[:, s], cs[:, s] = h, c
            zs[:, s], gates[:, s] = np.stack(z, 1), np.stack(activated, 1)
    return State(h, c), Record(hs, cs, gates, zs)


def _backward(call: Call, tape: Record, dh_all: Array | None, dh: Array, dc: Array) -> Gradients:
    """Computes the gradients of a call. Arguments as `call.Pullback` takes them."""
    kernel, recurrent_kernel, bias = _weights(call)
    dh, dc = dh.copy(), dc.copy()  # copied, for they are returned where there are no steps
    dx = np.zeros_like(call.x)
    d_kernel, d_recurrent, d_bias = np.zeros_like(kernel), np.zeros_like(recurrent_kernel), np.zeros_like(bias)
    with np.errstate(all="ignore"):
        for s, (t, x_t, used, reset) in reversed(list(enumerate(_steps(call)))):
            if dh_all is not None:
                dh = dh + dh_all[:, s]
            h_prev, c_prev = (tape.h[:, s - 1], tape.c[:, s - 1]) if s else call.initial
            h_prev, c_prev = np.where(reset, 0, h_prev), np.where(reset, 0, c_prev)
            z, gates = Gates(*np.moveaxis(tape.z[:, s], 1, 0)), Gates(*np.moveaxis(tape.gates[:, s], 1, 0))
            dz, dc_prev = step_gradient(z, gates, c_prev, tape.c[:, s], dh, dc, call.options, np)
            dz = Gates(*(np.where(used, d, 0) for d in dz))
            x_in, h_in = (
                _masked(x_t, call.dropout_mask),
                _masked(np.where(used, h_prev, 0), call.recurrent_dropout_mask),
            )
            dx_in, dh_in, dk, dr, db = raw_gates_gradient(dz, x_in, h_in, kernel, recurrent_kernel, np)
            d_kernel, d_recurrent, d_bias = d_kernel + dk, d_recurrent + dr, d_bias + db
            dx[:, t] = np.where(used, sum(_masked(dx_in, call.dropout_mask)), 0)
            dh_prev = sum(_masked(dh_in, call.recurrent_dropout_mask))
            dh, dc = np.where(used, dh_prev, dh), np.where(used, dc_prev, dc)
            dh, dc = np.where(reset, 0, dh), np.where(reset, 0, dc)
    return Gradients(dx, d_kernel, d_recurrent, None if call.weights.bias is None else d_bias, dh, dc)


def _steps(call: Call) -> list[tuple[int, Array, Array, Array]]:
    """Lists for each step, in processing order: its index in x, its input, and (B, 1) columns, used and reset.

    The input of an unused step is replaced by zeros: its values, even NaN, are never read.
    """
    B, T, _, _ = call.sizes
    steps = np.full((B, T), KEEP, np.uint8) if call.step_flags is None else call.step_flags
    used, reset = (steps & KEEP) != 0, (steps & RESET) != 0
    order = range(T - 1, -1, -1) if call.options.go_backwards else range(T)
    return [(t, np.where(used[:, t, None], call.x[:, t], 0), used[:, t, None], reset[:, t, None]) for t in order]


def _masked(value: Any, mask: Array | None) -> list[Array]:
    """Multiplies `value`, one array or one for each gate, with the gates' dropout masks: one array for each gate."""
    values = value if isinstance(value, list) else [value] * 4
    if mask is None:
        return values
    return [v * m for v, m in zip(values, np.broadcast_to(mask, (4, *mask.shape[1:])), strict=True)]


def _weights(call: Call) -> tuple[Array, Array, Array]:
    kernel, recurrent_kernel, bias = call.weights
    return kernel, recurrent_kernel, np.zeros(kernel.shape[1], kernel.dtype) if bias is None else bias
