"""Runs most calls on a short path: plain tensors in eager mode. `prepare` serves other calls and raises errors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from glasscell._ops.operands import ACTIVATION_CODES
from glasscell._ops.torch_compat import PLAIN, own_weights
from glasscell._ops.torch_eligibility import nothing_between
from glasscell._ops.torch_plain import infer, memory_of_plain, train

Outputs = tuple[Tensor, tuple[Tensor, Tensor]]


def run_plain(lstm: Any, input: Any, hx: Any) -> Outputs | None:
    """Runs a call without lengths, mask and reset. Returns None without running where the short path does not apply.

    Nothing is cached between calls, for weights and options may change between them.
    """
    if type(input) not in PLAIN or not nothing_between(input) or input.is_nested or input.layout is not torch.strided:
        return None
    if hx is not None and (type(hx) not in (tuple, list) or len(hx) != 2):
        return None
    weights, codes = own_weights(lstm), _option_codes(lstm)
    if weights is None or codes is None or input.dim() != 3 or input.shape[2] != lstm.input_size:
        return None
    x = (input if lstm.batch_first else input.transpose(0, 1)).contiguous()
    states = () if hx is None else hx
    return _run(lstm, codes, [x, *states, *weights], len(states))


def _option_codes(lstm: Any) -> list[int] | None:
    """Encodes a module's options for its directions; None where it is not native, is traced, or draws dropout."""
    if lstm.engine not in ("auto", "native") or lstm.proj_size or lstm._traces is not None:
        return None
    if lstm.training and (lstm.dropout or lstm.recurrent_dropout):
        return None
    a, s = ACTIVATION_CODES.get(lstm.activation), ACTIVATION_CODES.get(lstm.recurrent_activation)
    if a is None or s is None:
        return None
    return [a, s, 0, 1, a, s, 1, 1] if lstm.bidirectional else [a, s, 0, 1]


def _run(lstm: Any, codes: list[int], tensors: list[Any], states: int) -> Outputs | None:
    """Runs on `tensors`: x (B, T, I), then h and c (`states` is 2) or none (0), then the weights; as `run_plain`."""
    arrays, end = memory_of_plain(tensors), 1 + states
    if arrays is None:
        return None
    count, own = lstm.num_layers * (2 if lstm.bidirectional else 1), 4 if lstm.bias else 2
    shape = (count, len(arrays[0]), lstm.hidden_size)
    if len(arrays) != end + count * own or (states and not arrays[1].shape == arrays[2].shape == shape):
        return None
    if torch.is_grad_enabled() and any([t.requires_grad for t in tensors]):
        if count > 1 or (lstm.bias and arrays[end + 2].shape != arrays[end + 3].shape):
            return None
        y, h, c = train(tensors[0], tensors[1:end], tensors[end:], codes, not lstm.batch_first)
        return y, (h, c)
    try:
        y, h, c = infer(arrays, end, own, codes, shape)
    except ValueError:  # weights that do not fit: `prepare` raises the error
        return None
    return y if lstm.batch_first else y.transpose(0, 1).contiguous(), (h, c)
