"""`LSTM` and `LSTMCell` as PyTorch modules: those of `torch.nn`, with the sequence run by the native engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from glasscell import activations, engine
from glasscell.cell import Options
from glasscell.directions import Direction
from glasscell.sequence import KEEP, Call, plan_steps, step_bits
from glasscell.torch import op
from glasscell.torch.packing import Packing
from glasscell.trace import Trace
from glasscell.weights import LSTMWeights, State

ENGINES = ("auto", "native", "framework")


class LSTM(torch.nn.RNNBase):  # type: ignore[misc]  # not of torch.nn.LSTM: torch.compile stops at its subclasses
    """`torch.nn.LSTM`: its arguments, attributes, parameters and `state_dict`, run by the native engine on the CPU.

    Each layer and direction is the cell of `glasscell.LSTMCell`, with `weight_ih_l{k}` its kernel transposed,
    `weight_hh_l{k}` its recurrent kernel transposed and `bias_ih_l{k} + bias_hh_l{k}` its bias. More than torch has:

    recurrent_dropout: the share of h dropped on its way into the gates, in training: one mask for each gate, row, layer
        and direction, the same at all steps (Gal & Ghahramani 2016), as Keras draws them; scaled by 1 / (1 - rate).
    activation, recurrent_activation: a(.) and s(.) of the equations, by Keras's names.
    engine: "auto" runs torch's own LSTM where the native engine cannot serve and torch can: on other devices than the
        CPU, in other dtypes than float32 and float64, under autocast, in exports. "native" raises a ValueError there
        that names the reason, "framework" always runs torch's own. `engine_used` tells what ran last.

    Raises: ValueError for `proj_size`, which the cell does not have, and for an unknown name.
    """

    get_expected_cell_size = torch.nn.LSTM.get_expected_cell_size
    check_forward_args = torch.nn.LSTM.check_forward_args
    permute_hidden = torch.nn.LSTM.permute_hidden

    recurrent_dropout: float = 0.0
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    engine: str = "auto"
    engine_used: str | None = None

    def __init__(
        self,
        *args: Any,
        recurrent_dropout: float = 0.0,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        engine: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__("LSTM", *args, **kwargs)
        if self.proj_size:
            raise ValueError(f"proj_size: expected 0, for the cell has no projection, got {self.proj_size}")
        if not 0 <= recurrent_dropout < 1:
            raise ValueError(f"recurrent_dropout: expected a fraction from 0 to below 1, got {recurrent_dropout!r}")
        if engine not in ENGINES:
            raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
        self.recurrent_dropout, self.engine = float(recurrent_dropout), engine
        self.activation = activations.get(activation, "activation").name
        self.recurrent_activation = activations.get(recurrent_activation, "recurrent_activation").name

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        """As `torch.nn.LSTM`: `input` (T, B, I), (B, T, I) with `batch_first`, (T, I) unbatched, or packed; `hx` (h, c)
        of (num_layers * directions, B, H) each. Returns the output and the final (h, c), likewise.

        lengths: (B,) integers: row b has so many steps. mask: bool, in the layout of the first two axes of `input`,
        True = run the step. At other steps the state stays, and the output is zero, as in a padded packed sequence.
        reset: bool, likewise: True = the state is zero before the step (an episode starts); one direction only.

        Raises: ValueError or TypeError naming the argument, what was expected and what came.
        """
        packed = input if isinstance(input, PackedSequence) else None
        reason = self._why_not_native(input if packed is None else packed.data)
        if reason is not None:
            return self._framework(reason, input, hx, lengths is None and mask is None and reset is None)
        self.engine_used = "native"
        if packed is not None and not (lengths is None and mask is None and reset is None):
            raise ValueError("lengths, mask, reset: expected None beside a packed sequence, which has its lengths")
        packing = None if packed is None else Packing(packed)
        if packing is None:
            x, squeeze = self._batched(input, self.batch_first)
        else:
            (x, squeeze), lengths = self._batched(packing.padded(), True), packing.lengths
        steps = self._steps(x, lengths, mask, reset, squeeze)
        y, hT, cT = self._run(x, steps, *self._state(x, hx, squeeze))
        if packing is not None:
            return packing.packed(y), (hT, cT)
        kept = steps is None and y.requires_grad and not self.bidirectional  # by the gradient: see `op.run`
        if steps is not None:
            y = y.masked_fill(((steps & KEEP) == 0)[:, :, None], 0)
        y = y[0] if squeeze else y if self.batch_first else y.transpose(0, 1)
        y = y.clone(memory_format=torch.contiguous_format) if kept else y.contiguous()
        return y, ((hT[:, 0], cT[:, 0]) if squeeze else (hT, cT))

    def trace(
        self,
        input: Tensor,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> list[Trace]:
        """Every gate and state of every layer and direction, in the order of `hx`, in inference: no dropout.

        Arguments as in `forward`, `input` not packed; the arrays of a trace are (B, T, H), in processing order.
        """
        x, squeeze = self._batched(input.detach(), self.batch_first)
        with torch.no_grad():
            steps = self._steps(x, lengths, mask, reset, squeeze)
            h0, c0 = self._state(x, hx, squeeze)
            traces: list[Trace] = []
            for layer in range(self.num_layers):
                here: list[Trace] = []
                for n, (options, W, R, b) in enumerate(self._cells(layer)):
                    k = layer * self._directions + n
                    weights = LSTMWeights.from_torch(W.detach().numpy(), R.detach().numpy())
                    call = Call(
                        weights._replace(bias=None if b is None else b.numpy()),
                        options,
                        x.numpy(),
                        State(h0[k].numpy(), c0[k].numpy()),
                        None if steps is None else steps.numpy(),
                    )
                    tape = engine.forward(call, "trace", "native").tape
                    assert tape is not None
                    here.append(Trace.from_tape(tape))
                x = _in_time([torch.from_numpy(t.h) for t in here])
                traces += here
        return traces

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _why_not_native(self, x: Tensor) -> str | None:
        if self.engine == "framework":
            return "engine is 'framework'"
        dtypes = {x.dtype, *(w.dtype for w in self._flat_weights if isinstance(w, Tensor))}
        if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.float64}:
            return f"the dtypes are {' and '.join(sorted(map(str, dtypes)))}, not torch.float32 or torch.float64 alone"
        return op.why_not_available(x)

    def _framework(self, reason: str, input: Any, hx: Any, plain: bool) -> tuple[Any, tuple[Tensor, Tensor]]:
        options = (self.activation, self.recurrent_activation, self.recurrent_dropout * self.training)
        if self.engine == "native" or not plain or options != ("tanh", "sigmoid", 0):
            what = "engine: 'native'" if self.engine == "native" else "what this LSTM has beyond torch.nn.LSTM"
            raise ValueError(f"{what} needs the native engine, which cannot serve: {reason}")
        self.engine_used = "framework"
        result: tuple[Any, tuple[Tensor, Tensor]] = torch.nn.LSTM.forward(self, input, hx)
        return result

    def _cells(self, layer: int) -> Iterator[tuple[Options, Tensor, Tensor, Tensor | None]]:
        """The options, kernel, recurrent kernel and bias of each direction of a layer, in torch's layout."""
        a, s = activations.get(self.activation), activations.get(self.recurrent_activation)
        for backwards in range(self._directions):
            end = f"l{layer}{'_reverse' if backwards else ''}"
            W, R = getattr(self, f"weight_ih_{end}"), getattr(self, f"weight_hh_{end}")
            b = getattr(self, f"bias_ih_{end}") + getattr(self, f"bias_hh_{end}") if self.bias else None
            yield Options(a, s, bool(backwards)), W, R, b

    def _batched(self, x: Tensor, batch_first: bool) -> tuple[Tensor, bool]:
        """x as (B, T, I), and whether it came without a batch."""
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"input: expected shape ({'B, T' if batch_first else 'T, B'}, {self.input_size}) or "
                f"(T, {self.input_size}), got {tuple(x.shape)}"
            )
        if x.dim() == 2:
            return x[None].contiguous(), True
        return (x if batch_first else x.transpose(0, 1)).contiguous(), False

    def _steps(self, x: Tensor, lengths: Any, mask: Any, reset: Any, squeeze: bool) -> Tensor | None:
        """`Call.steps`, (B, T) uint8. mask, reset: in the layout of the input."""
        B, T, _ = x.shape
        if reset is not None and self.bidirectional:
            raise ValueError("reset: expected None, for both directions would need to know where episodes end")
        flags = [
            None if value is None else self._flags(name, value, B, T, squeeze)
            for name, value in (("mask", mask), ("reset", reset))
        ]
        if lengths is not None and not isinstance(lengths, Tensor):
            lengths = torch.as_tensor(lengths, device=x.device)
        given = [t for t in (lengths, *flags) if t is not None]
        if given and not op.at_hand(x, *given):  # what cannot be read is not checked
            inside = x.new_ones((B, T), dtype=torch.bool)
            if lengths is not None:
                inside = torch.arange(T, device=lengths.device) < lengths[:, None]
            return step_bits(
                inside, flags[0], flags[1], lambda bit: torch.tensor(bit, dtype=torch.uint8, device=inside.device)
            )
        steps = plan_steps(B, T, *(None if t is None else t.numpy() for t in (flags[0], lengths, flags[1])))
        return None if steps is None else torch.from_numpy(steps)

    def _flags(self, name: str, value: Any, B: int, T: int, squeeze: bool) -> Tensor:
        """(B, T) bool of what came in the layout of the input."""
        expected = (T,) if squeeze else (B, T) if self.batch_first else (T, B)
        if not isinstance(value, Tensor) or value.dtype != torch.bool or tuple(value.shape) != expected:
            got = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name}: expected a bool tensor of shape {expected}, got {got}")
        return value[None] if squeeze else value if self.batch_first else value.t()

    def _state(self, x: Tensor, hx: Any, squeeze: bool) -> tuple[Tensor, Tensor]:
        """(layers * directions, B, H) each."""
        shape = (self.num_layers * self._directions, x.shape[0], self.hidden_size)
        if hx is None:
            zeros = x.new_zeros(shape)
            return zeros, zeros
        expected = (shape[0], shape[2]) if squeeze else shape
        for name, s in zip(("h", "c"), hx, strict=True):
            if tuple(s.shape) != expected or s.dtype != x.dtype:
                raise ValueError(f"hx: expected {name} of shape {expected} {x.dtype}, got {tuple(s.shape)} {s.dtype}")
        h, c = hx
        return (h[:, None], c[:, None]) if squeeze else (h, c)

    def _run(self, x: Tensor, steps: Tensor | None, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All layers over `x: (B, T, I)`: the output, and the final states, (layers * directions, B, H) each."""
        final: list[tuple[Tensor, Tensor]] = []
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:  # in torch's layout, so that the draws are torch's
                x = torch.nn.functional.dropout(x.transpose(0, 1).contiguous(), self.dropout).transpose(0, 1)
            directions = [
                Direction(*cell, h0[k], c0[k], None, self._recurrent_mask(x), True)
                for k, cell in enumerate(self._cells(layer), layer * self._directions)
            ]
            reason = op.why_in_torch(x, *(t for d in directions for t in d[1:6]))
            if reason is not None:
                if self.engine == "native":
                    raise ValueError(f"engine: 'native' cannot serve: {reason}")
                self.engine_used = "framework"
            passes = op.run(x.contiguous(), steps, directions, True, self.training)
            final += [(hT, cT) for _, hT, cT in passes]
            x = _in_time([h for h, _, _ in passes if h is not None])
        hT, cT = (torch.stack(s) for s in zip(*final, strict=True))
        return x, hT, cT

    def _recurrent_mask(self, x: Tensor) -> Tensor | None:
        if not self.recurrent_dropout or not self.training:
            return None
        return draw_masks(x, self.hidden_size, self.recurrent_dropout)


class LSTMCell(torch.nn.LSTMCell):  # type: ignore[misc]
    """`torch.nn.LSTMCell`, unchanged: one step is torch's. Its parameters can be those of a layer of `LSTM`:

    `cell.weight_ih = lstm.weight_ih_l0`, and so on, makes the two share them.
    """


def draw_masks(x: Tensor, units: int, rate: float) -> Tensor:
    """Masks of recurrent dropout, (4, B, H): 0 for a share `rate` of all elements, 1 / (1 - rate) for the others.

    Drawn by torch's generator; `torch.nn.functional.dropout` of ones takes it three times as long.
    """
    return torch.rand(4, x.shape[0], units, dtype=x.dtype, device=x.device).ge_(rate).mul_(1 / (1 - rate))


def _in_time(hs: list[Tensor]) -> Tensor:
    """(B, T, directions * H): the directions side by side, the second turned back into time."""
    return hs[0] if len(hs) == 1 else torch.cat([hs[0], hs[1].flip(1)], 2)
