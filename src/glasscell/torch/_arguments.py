"""Checks the arguments of a call of `LSTM`, and converts them for a pass: batch, step flags, states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from glasscell._ops.call import flag_bits, step_flags_of
from glasscell._ops.torch_eligibility import at_hand

DENSE = {
    "nested": "torch.nested.to_padded_tensor(input, 0.0) makes one, beside lengths",
    "quantized": "input.dequantize() makes one",
}


class ArgumentError(ValueError, RuntimeError):
    """A ValueError that is also a RuntimeError, for wrong arguments where `torch.nn.LSTM` raises a RuntimeError."""


def check_kinds(input: Any, hx: Any) -> None:
    """Checks the kinds of the arguments. Raises: TypeError or ArgumentError unless a dense tensor and a pair."""
    if not isinstance(input, (Tensor, PackedSequence)):
        advice = "torch.as_tensor makes a tensor"
        if isinstance(input, tuple) and input and isinstance(input[0], (Tensor, PackedSequence)):
            advice = "an LSTM gives (output, (h, c)), and the next layer takes the output"
        raise TypeError(f"input: expected a torch.Tensor or a PackedSequence, got {kind_of(input)}; {advice}")
    x = input if isinstance(input, Tensor) else input.data
    unlike = "nested" if x.is_nested else "quantized" if x.is_quantized else str(x.layout).removeprefix("torch.")
    if unlike != "strided":
        raise ArgumentError(
            f"input: expected a dense tensor, got a {unlike} one; {DENSE.get(unlike, 'input.to_dense() makes one')}"
        )
    if hx is None:
        return
    if not isinstance(hx, (tuple, list)):
        raise TypeError(f"hx: expected a pair of tensors (h, c), or None for zeros, got {kind_of(hx)}; both in a tuple")
    if len(hx) != 2:
        raise ArgumentError(
            f"hx: expected a pair of tensors (h, c), or None for zeros, got {len(hx)} in a {kind_of(hx)}"
        )
    for name, state in zip("hc", hx, strict=True):
        if not isinstance(state, Tensor):
            what = "torch.zeros_like of the other is zero" if state is None else "torch.as_tensor makes one"
            raise TypeError(f"hx: expected a pair of tensors (h, c), got {kind_of(state)} for {name}; {what}")


def batched(x: Tensor, features: int, batch_first: bool) -> tuple[Tensor, bool]:
    """Returns x as (B, T, I), and whether it came without a batch axis."""
    if x.dim() not in (2, 3) or x.shape[-1] != features:
        layout = "B, T" if batch_first else "T, B"
        raise ArgumentError(f"input: expected shape ({layout}, {features}) or (T, {features}), got {tuple(x.shape)}")
    batch = x[None] if x.dim() == 2 else x if batch_first else x.transpose(0, 1)
    if batch.shape[1] == 0:
        raise ArgumentError(f"input: expected at least one step, got T = 0 in shape {tuple(x.shape)}")
    return batch.contiguous(), x.dim() == 2


def check_packed(packed: PackedSequence, features: int) -> None:
    """Checks the shape of packed data. Raises: ArgumentError unless it fits the batch sizes and the layer."""
    sizes, shape = packed.batch_sizes, tuple(packed.data.shape)
    if len(sizes) == 0:
        raise ArgumentError("input: expected at least one step, got a packed sequence without any")
    if shape != (int(sizes.sum()), features):
        raise ArgumentError(f"input: expected packed data of shape ({int(sizes.sum())}, {features}), got {shape}")


def states(hx: Any, x: Tensor, count: int, units: int, squeeze: bool) -> tuple[Tensor, Tensor]:
    """Returns h and c, (count, B, H) each, for all layers and directions. squeeze: hx has no batch axis."""
    shape = (count, x.shape[0], units)
    if hx is None:
        zeros = x.new_zeros(shape)
        return zeros, zeros
    expected = (count, units) if squeeze else shape
    for name, s in zip("hc", hx, strict=True):
        if tuple(s.shape) != expected or s.dtype != x.dtype or s.device != x.device:
            raise ArgumentError(
                f"hx: expected {name} of shape {expected} {x.dtype} on {x.device}, "
                f"got {tuple(s.shape)} {s.dtype} on {s.device}"
            )
    h, c = hx
    return (h[:, None], c[:, None]) if squeeze else (h, c)


def steps(x: Tensor, lengths: Any, mask: Any, reset: Any, batch_first: bool, squeeze: bool) -> Tensor | None:
    """Makes `Call.step_flags`, (B, T) uint8, for `x: (B, T, I)`. mask, reset: in the layout of the user's input."""
    if lengths is None and mask is None and reset is None:
        return None
    B, T, _ = x.shape
    expected = (T,) if squeeze else (B, T) if batch_first else (T, B)
    flags: list[Any] = []
    for name, value in (("mask", mask), ("reset", reset)):
        if value is None:
            flags.append(None)
            continue
        right = isinstance(value, Tensor) and value.dtype == torch.bool and value.device == x.device
        if not right or tuple(value.shape) != expected:
            raise ValueError(
                f"{name}: expected a bool tensor of shape {expected} on {x.device}, got {_flags_got(value, expected)}"
            )
        flags.append(value[None] if squeeze else value if batch_first else value.t())
    ends = None if lengths is None else _ends(lengths, x)
    given = [t for t in (ends, *flags) if t is not None]
    if not at_hand(x, *given):  # tensors without readable memory are not checked
        inside = x.new_ones((B, T), dtype=torch.bool)
        if ends is not None:
            inside = torch.arange(T, device=inside.device) < ends.to(inside.device)[:, None]
        bits: Tensor = flag_bits(
            inside, flags[0], flags[1], lambda bit: torch.tensor(bit, dtype=torch.uint8, device=inside.device)
        )
        return bits
    mask, lengths, reset = (None if t is None else _copied(t) for t in (flags[0], ends, flags[1]))
    return torch.from_numpy(step_flags_of(B, T, mask, lengths, reset))


def _flags_got(value: Any, expected: tuple[int, ...]) -> str:
    """Describes a wrong mask or reset, with advice."""
    if not isinstance(value, Tensor):
        return f"{kind_of(value)}; torch.as_tensor makes a tensor"
    got = f"{tuple(value.shape)} {value.dtype} on {value.device}"
    if tuple(value.shape) == expected[::-1] != expected:
        return f"{got}; .t() has the batch in its place"
    return f"{got}; .bool() makes one" if value.dtype != torch.bool else got


def _copied(flags: Tensor) -> Any:
    """Copies flags to an array. Without a copy, PyTorch could not resize the user's tensor any more."""
    return flags.detach().clone().numpy(force=True)


def _ends(lengths: Any, x: Tensor) -> Tensor:
    """Converts lengths to a tensor, on the device of x unless they are a tensor; `steps` checks their values."""
    try:
        ends = lengths if isinstance(lengths, Tensor) else torch.as_tensor(lengths, device=x.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"lengths: expected (B,) integers, got {kind_of(lengths)}: {error}") from None
    if ends.is_floating_point() and tuple(ends.shape) == (len(x),) != (0,):  # NumPy cannot read them all
        name = str(ends.dtype).removeprefix("torch.")
        raise TypeError(f"lengths: expected integers, got {name}; .long() makes them")
    if ends.is_meta and not x.is_meta:
        raise ValueError(f"lengths: expected (B,) integers on {x.device}, got them on meta, which has no numbers")
    return ends


def kind_of(value: Any) -> str:
    """Names the class of a wrong value for an error, with its package unless it is built in."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
