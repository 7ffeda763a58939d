"""Prepares a call of `LSTM` for a native pass, or finds the reason against it; converts results back."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence

from glasscell._cells import activations
from glasscell._cells.lstm import Options
from glasscell._ops.call import KEEP
from glasscell._ops.operands import Operands, each
from glasscell._ops.torch import why_not_available
from glasscell._ops.torch_compat import flat_weights, has_own_operations
from glasscell._ops.torch_eligibility import NATIVE, at_hand
from glasscell.torch import _arguments as arguments
from glasscell.torch._options import check_engine
from glasscell.torch._packed import Packing

PROJECTED = "proj_size is {}, and the cell has no projection"


class Prepared(NamedTuple):
    """Holds a call of `LSTM`, checked and in the layout of a pass.

    x: (B, T, I). step_flags: as `Call.step_flags`. layers: the operands of each layer's directions.
    packing: for a packed sequence, else None. squeeze: the input came without a batch axis.
    """

    x: Tensor
    step_flags: Tensor | None
    layers: list[Any]
    packing: Packing | None
    squeeze: bool


def prepare(lstm: Any, engine: str, input: Any, hx: Any, lengths: Any, mask: Any, reset: Any) -> Prepared | str:
    """Checks the arguments of a call and converts them for a pass; or returns the reason against a native pass.

    Parametrizations may be evaluated only once for a call, for a spectral norm makes a step with each evaluation, and
    PyTorch's own pass evaluates them itself. So the reason is first sought in the weights of the last evaluation.

    Raises: ValueError or TypeError naming the argument, the expected and the given value.
    """
    arguments.check_kinds(input, hx)
    packed = input if isinstance(input, PackedSequence) else None
    parametrized = is_parametrized(lstm)
    weights = flat_weights(lstm, refresh=not parametrized)
    check_engine(engine)
    reason = why_not_native(lstm, engine, input if packed is None else packed.data, weights)
    if reason is not None:
        return reason
    if parametrized:
        weights = flat_weights(lstm)
    packing = None
    if packed is None:
        x, squeeze = arguments.batched(input, lstm.input_size, lstm.batch_first)
    else:
        if any(given is not None for given in (lengths, mask, reset)):
            raise ValueError(
                "lengths, mask, reset: expected None beside a packed sequence, which has its lengths, got one; pass a "
                "padded batch"
            )
        arguments.check_packed(packed, lstm.input_size)
        packing = Packing(packed)
        x, squeeze, lengths = packing.padded(packed.data).contiguous(), False, packing.lengths
    if reset is not None and lstm.bidirectional:
        raise ValueError(
            "reset: expected None, for both directions would need to know where episodes end, got one; use an LSTM of "
            "one direction"
        )
    layers = _layers(lstm, weights, hx, x, squeeze)  # before the flags, where torch.compile has to stop
    flags = arguments.steps(x, lengths, mask, reset, lstm.batch_first, squeeze)
    return Prepared(x, flags, layers, packing, squeeze)


def why_not_native(lstm: Any, engine: str, x: Tensor, weights: list[Any]) -> str | None:
    """Finds the reason why the native engine may not or cannot run on the input and weights; None if it can."""
    if engine == "framework":
        return "engine is 'framework'"
    if lstm.proj_size:
        return PROJECTED.format(lstm.proj_size)
    weights = [w for w in weights if isinstance(w, Tensor)]
    dtypes = {x.dtype, *(w.dtype for w in weights)}
    if len(dtypes) > 1 or x.dtype not in NATIVE:
        names = " and ".join(sorted(map(str, dtypes)))
        return f"the dtypes are {names}, not torch.float32 or torch.float64 alone; .float() of module and input is one"
    devices = {x.device, *(w.device for w in weights)}
    if len(devices) > 1:
        return f"the tensors are on {' and '.join(sorted(map(str, devices)))}; .to(device) brings them together"
    if not torch.compiler.is_compiling() and any(map(has_own_operations, weights)):
        return f"the weights are of {', '.join(sorted({type(w).__name__ for w in weights}))}, with own operations"
    return why_not_available(x)


def why_not_traced(call: Prepared) -> str | None:
    """Finds the reason why a call that the native engine can run cannot be traced; None if it can."""
    if call.x.is_meta:
        return "the tensors are on meta, which has no numbers; .to_empty(device='cpu') and load_state_dict bring them"
    if not at_hand(call.x, *(t for operands in call.layers for d in operands for t in d[1:6] if t is not None)):
        return "a transform, a mode or a class of tensors stands before the numbers; trace plain tensors outside of it"
    return None


def _layers(lstm: Any, weights: list[Any], hx: Any, x: Tensor, squeeze: bool) -> list[Any]:
    """Makes the operands of each layer's directions, without dropout masks."""
    directions = 2 if lstm.bidirectional else 1
    h0, c0 = arguments.states(hx, x, lstm.num_layers * directions, lstm.hidden_size, squeeze)
    a, s = (
        activations.get(getattr(lstm, name), name, callables=False) for name in ("activation", "recurrent_activation")
    )
    options = [Options(a, s, backwards) for backwards in (False, True)[:directions]]
    operands, own = [], 4 if lstm.bias else 2
    if len(weights) != lstm.num_layers * directions * own:
        raise arguments.ArgumentError(
            f"num_layers, bidirectional, bias: expected as the module was made, got {lstm.num_layers}, "
            f"{lstm.bidirectional}, {lstm.bias} beside {len(weights)} weights; make another LSTM"
        )
    for k, (W, R, *biases) in enumerate(each(weights, own)):
        bias = biases[0] + biases[1] if biases else None
        h, c = h0.select(0, k), c0.select(0, k)
        operands.append(Operands(options[k % directions], W, R, bias, h, c, transposed_weights=True))
    return each(operands, directions)


def hand_out(lstm: Any, call: Prepared, y: Tensor, hT: Tensor, cT: Tensor) -> tuple[Any, tuple[Tensor, Tensor]]:
    """Converts the results of a pass to the layout of the call's input; the caller may write into the output."""
    if call.packing is not None:
        return call.packing.packed(y), (hT, cT)
    flags, squeeze = call.step_flags, call.squeeze
    shared = flags is None and y.requires_grad and not lstm.bidirectional  # with the gradient: see `_ops.torch.run`
    if flags is not None:
        y = y.masked_fill(((flags & KEEP) == 0)[:, :, None], 0)
    y = y[0] if squeeze else y if lstm.batch_first else y.transpose(0, 1)
    y = y.clone(memory_format=torch.contiguous_format) if shared else y.contiguous()
    return y, ((hT[:, 0], cT[:, 0]) if squeeze else (hT, cT))
