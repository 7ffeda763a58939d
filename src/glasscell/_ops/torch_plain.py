"""Runs an LSTM on plain tensors: in inference all layers, in training one layer as a function of autograd.

Both compute the same as the rules of `torch_rules`, with less overhead, which dominates short calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glasscell import _native
from glasscell._cells.checks import Array
from glasscell._ops import aligned
from glasscell._ops.operands import INPUTS, OPTION_CODES, RESIDUALS, WEIGHTS, inputs_of, residuals_of
from glasscell._ops.torch_compat import PLAIN, array_at, is_batched_cotangent, memory_of
from glasscell._ops.torch_eligibility import NATIVE, nothing_between
from glasscell._ops.torch_rules import gradients, placeholders

H_ALL = RESIDUALS.index("h")
KEPT = 7  # a `_ForwardAtHand` saves x and its six inputs, and then the tape
Outputs = tuple[Tensor, Tensor, Tensor]


def memory_of_plain(tensors: Sequence[Any], optional: bool = False) -> list[Any] | None:
    """Views tensors of one dtype as arrays, valid as long as the caller holds the tensors.

    optional: let tensors be None; their entries are None. Returns None instead of the list where a tensor is not plain:
    of PyTorch's own class, on the CPU, float32 or float64, contiguous, with memory.
    """
    arrays: list[Any] = []
    dtype = tensors[0].dtype
    if dtype not in NATIVE:
        return None
    for t in tensors:
        if t is None and optional:
            arrays.append(None)
            continue
        if type(t) not in PLAIN or t.dtype is not dtype or not t.is_cpu or t.is_nested or t.layout is not torch.strided:
            return None
        if not t.is_contiguous() or t.is_neg() or not (address := t.data_ptr()):
            return None
        arrays.append(array_at(address, t.shape, dtype))
    return arrays


def infer(arrays: list[Array], end: int, own: int, codes: list[int], shape: tuple[int, ...]) -> Outputs:
    """Runs layers over `x: (B, T, I)`, each on the output of the one before, without gradients.

    arrays: x; before the index `end`, h and c of `shape`, (layers * directions, B, H), or neither for zeros; from `end`
    on the weights, `own` arrays for each layer and direction in PyTorch's layout: (4H, I), (4H, H) and no or two
    biases, (4H,). codes: the option codes of the directions.

    Returns the output, (B, T, directions * H), and the final h and c.
    Raises: ValueError where an array does not fit.
    """
    y, (count, B, H), directions = arrays[0], shape, len(codes) // OPTION_CODES
    h0, c0 = arrays[1:end] or [np.zeros(shape, y.dtype)] * 2
    h, c = np.empty(shape, y.dtype), np.empty(shape, y.dtype)
    for layer in range(0, count, directions):
        inputs: list[Any] = []
        residuals: list[Any] = []
        for k in range(layer, layer + directions):
            W, R, *biases = arrays[end + k * own : end + (k + 1) * own]
            inputs += inputs_of(W, R, biases[0] + biases[1] if biases else None, h0[k], c0[k], None, None)
            residuals += residuals_of(h[k], c[k], aligned.empty((B, y.shape[1], H), y.dtype))
        _native.forward(y, None, inputs, codes, residuals)
        y = residuals[H_ALL] if directions == 1 else _in_time(*residuals[H_ALL :: len(RESIDUALS)])
    return torch.from_numpy(y), torch.from_numpy(h), torch.from_numpy(c)


def _in_time(h: Array, backwards: Array) -> Array:
    """Joins the outputs of two directions to (B, T, 2H), with the second one put in the order of time."""
    return np.concatenate((h, backwards[:, ::-1]), 2)


def train(
    x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], codes: list[int], time_first: bool
) -> Outputs:
    """Runs one layer in one direction over `x: (B, T, I)`, with gradients. Arguments as `infer` takes them, as tensors.

    Returns the output, (T, B, H) if `time_first`, else (B, T, H), and the final h and c, (1, B, H).
    """
    W, R, *biases = weights
    h0, c0 = (t[0] for t in states) if states else (None, None)
    outputs: Outputs = _ForwardAtHand.apply(codes, time_first, x, W, R, *(biases or (None, None)), h0, c0)
    return outputs


class _ForwardAtHand(torch.autograd.Function):  # type: ignore[misc]
    """Defines the pass of `train` for autograd, on plain tensors. The two biases and the initial states may be None.

    It has the name of the class in `torch_rules` that does the same for several directions: profilers show that name.
    """

    @staticmethod
    def forward(ctx: Any, codes: list[int], time_first: bool, x: Tensor, *inputs: Any) -> Outputs:
        (B, T, _), H = x.shape, inputs[1].shape[1]
        read, own = memory_of(x), [None if t is None else memory_of(t) for t in inputs]
        hT, cT = np.empty((1, B, H), read.dtype), np.empty((1, B, H), read.dtype)
        tape = [aligned.empty(shape, read.dtype) for shape in ((B, T, H), (B, T, H), (B, T, 4, H))]
        if _native.needs_raw_gates(codes[0], codes[1]):
            tape.append(aligned.empty((B, T, 4, H), read.dtype))
        _native.forward(
            read,
            None,
            _inputs(own, np.zeros((B, H), read.dtype)),
            codes,
            residuals_of(hT[0], cT[0], *tape),
        )
        kept = [torch.from_numpy(array) for array in tape]
        ctx.codes, ctx.time_first = codes, time_first
        ctx.save_for_backward(x, *inputs, *kept)
        ctx.set_materialize_grads(False)
        y = kept[0].transpose(0, 1) if time_first else kept[0]
        y = y.clone(memory_format=torch.contiguous_format)  # a copy: the gradient keeps the original
        return y, torch.from_numpy(hT), torch.from_numpy(cT)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dh: Tensor | None, dc: Tensor | None) -> tuple[Any, ...]:
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[2:]
        dy = dy.transpose(0, 1) if ctx.time_first and dy is not None else dy
        cotangents = [None if dh is None else dh[0], None if dc is None else dc[0], dy]
        found = None
        if not torch.is_grad_enabled() and nothing_between(saved[0]):
            found = _gradients(ctx.codes, saved, cotangents, needed)
        return None, None, *(found or _gradients_elsewhere(ctx.codes, saved, cotangents, needed))


def _inputs(own: Sequence[Any], zeros: Any) -> list[Any]:
    """Makes all `INPUTS` from those of a `_ForwardAtHand`: adds the biases, and puts zeros for a missing state."""
    W, R, b1, b2, h0, c0 = own
    return inputs_of(
        W, R, None if b1 is None else b1 + b2, zeros if h0 is None else h0, zeros if c0 is None else c0, None, None
    )


def _gradients(
    codes: list[int], saved: Sequence[Any], cotangents: Sequence[Any], needed: Sequence[bool]
) -> list[Any] | None:
    """Computes the gradients of x and of a `_ForwardAtHand`'s inputs; returns None where a tensor is not plain.

    saved: x, the inputs and the tape. cotangents: those of hT, cT and h.
    """
    for t in cotangents:
        if t is not None and is_batched_cotangent(t):
            return None
    given = [None if t is None else t.contiguous() for t in cotangents]
    arrays = memory_of_plain([*saved, *given], optional=True)
    if arrays is None:
        return None
    (x, *own), tape, above = arrays[:KEPT], arrays[KEPT : len(saved)], arrays[len(saved) :]
    inputs = _inputs(own, np.zeros((len(x), own[1].shape[1]), x.dtype))
    found = [aligned.empty(x.shape, x.dtype) if needed[0] else None]
    found += [None if t is None else aligned.empty(t.shape, x.dtype) for t in inputs[: len(WEIGHTS)]]
    _native.backward(x, None, inputs, codes, residuals_of(None, None, *tape), above, found)
    return _where_needed([None if g is None else torch.from_numpy(g) for g in found], needed)


def _gradients_elsewhere(
    codes: list[int], saved: Sequence[Any], cotangents: Sequence[Any], needed: Sequence[bool]
) -> list[Any]:
    """Computes the gradients of `_gradients` by `torch_rules`, so that PyTorch can trace or differentiate them."""
    (x, *own), (dx, dW, dR, db1, db2, dh0, dc0) = saved[:KEPT], needed
    placeholder, no_flags = placeholders(x)
    row = [*_inputs(own, x.new_zeros((len(x), own[1].shape[1]))), *residuals_of(None, None, *saved[KEPT:])]
    row = [placeholder if t is None else t for t in row]
    wanted = [dx, dW, dR, db1 or db2, dh0, dc0, *[False] * (len(INPUTS) - len(WEIGHTS))]
    return _where_needed(gradients(codes, [x, no_flags, *row], cotangents, wanted), needed)


def _where_needed(found: Sequence[Any], needed: Sequence[bool]) -> list[Any]:
    """Selects the needed gradients of x and the inputs; both biases get the gradient of their sum."""
    dx, dW, dR, db, dh0, dc0 = found[: 1 + len(WEIGHTS)]
    return [g if need else None for g, need in zip((dx, dW, dR, db, db, dh0, dc0), needed, strict=True)]
