"""Runs a prepared call of `LSTM` through all layers, as PyTorch's operation or as a trace."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout

from glasscell._cells.checks import State
from glasscell._cells.layouts import LSTMWeights
from glasscell._ops import numpy
from glasscell._ops.call import Call
from glasscell._ops.torch import run_on
from glasscell._ops.torch_compat import array_of
from glasscell._trace import Trace, Traces
from glasscell.torch._options import rate_of
from glasscell.torch._prepare import Prepared


def run(lstm: Any, call: Prepared) -> tuple[str, Tensor, Tensor, Tensor]:
    """Runs all layers. Returns the engine, the output (B, T, directions * H), and the final h and c.

    Each of h and c is (layers * directions, B, H). The engine is "framework" where a layer ran in PyTorch's operations,
    else "native".
    """
    x, engine = call.x, "native"
    states: list[tuple[Tensor, Tensor]] = []
    for layer, operands in enumerate(call.layers):
        if layer and lstm.dropout and lstm.training:
            x = _dropped(x, lstm.dropout, call)
        if lstm.recurrent_dropout and lstm.training:
            rate = rate_of("recurrent_dropout", lstm.recurrent_dropout)
            masks = [draw_masks(x, lstm.hidden_size, rate) for _ in operands]
            operands = [d._replace(recurrent_dropout_mask=m) for d, m in zip(operands, masks, strict=True)]
        used, passes = run_on(lstm.engine, x.contiguous(), call.step_flags, operands, True)
        engine = engine if used == "native" else used
        states += [(hT, cT) for _, hT, cT in passes]
        x = _in_time([h for h, _, _ in passes if h is not None])
    hT, cT = (torch.stack(s) for s in zip(*states, strict=True))
    return engine, x, hT, cT


def traced(call: Prepared) -> tuple[Traces, Tensor, Tensor, Tensor]:
    """Runs all layers without dropout. Returns the traces in the order of `hx`, the output, and the final h and c."""
    x, flags, found, names = call.x, call.step_flags, list[Trace](), list[str]()
    steps, states = None if flags is None else flags.numpy(), list[list[Tensor]]()
    for layer, operands in enumerate(call.layers):
        names += [f"layer {layer}", f"layer {layer} reverse"][: len(operands)]
        for options, *tensors in operands:
            arrays: list[Any] = [None if t is None else array_of(t) for t in tensors[:5]]
            W, R, b, h0, c0 = arrays
            weights = LSTMWeights.from_torch(W, R)._replace(bias=b)
            one = Call(weights, options, array_of(x.contiguous()), State(h0, c0), steps)
            recorded = numpy.run(one, "trace", "native")
            found.append(Trace.of(one, recorded.record))
            states.append([torch.from_numpy(s) for s in recorded.final])
        x = _in_time([torch.from_numpy(trace.h) for trace in found[-len(operands) :]])
    hT, cT = (torch.stack(s) for s in zip(*states, strict=True))
    return Traces(found, names), x.clone(), hT, cT


def draw_masks(x: Tensor, units: int, rate: float) -> Tensor:
    """Draws the masks of recurrent dropout, (4, B, H): 0 for a share `rate` of all elements, else 1 / (1 - rate).

    The random numbers are torch's. `torch.nn.functional.dropout` of ones would take three times as long.
    """
    return torch.rand(4, x.shape[0], units, dtype=x.dtype, device=x.device).ge_(rate).mul_(1 / (1 - rate))


def _dropped(x: Tensor, rate: float, call: Prepared) -> Tensor:
    """Applies the dropout between layers to `x: (B, T, ...)`, in torch's layout, so that the masks equal torch's."""
    if call.packing is not None:
        return call.packing.padded(dropout(call.packing.data(x), rate))
    return dropout(x.transpose(0, 1).contiguous(), rate).transpose(0, 1)


def _in_time(hs: list[Tensor]) -> Tensor:
    """Joins the directions' outputs to (B, T, directions * H), with the second put in the order of time."""
    return hs[0] if len(hs) == 1 else torch.cat([hs[0], hs[1].flip(1)], 2)
