"""`LSTM` as a PyTorch module: that of `torch.nn`, with the sequence run by the native engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.utils.rnn import PackedSequence

from glasscell._cells import activations
from glasscell._cells.checks import State
from glasscell._cells.layouts import LSTMWeights
from glasscell._cells.lstm import Options
from glasscell._ops import torch as op
from glasscell._ops.call import KEEP, Call
from glasscell._ops.numpy import run
from glasscell._ops.operands import Operands
from glasscell._trace import Trace
from glasscell.torch import _arguments as arguments
from glasscell.torch._packed import Packing
from glasscell.torch._tools import Tools

ENGINES = ("auto", "native", "framework")
PROJECTED = "proj_size is {}, and the cell has no projection"
TORCHS = torch.nn.LSTM  # bound now: a library may be patched by torch.nn.LSTM = glasscell.torch.LSTM


class LSTM(Tools):  # not of torch.nn.LSTM: torch.compile stops at its subclasses
    """`torch.nn.LSTM`: its arguments, attributes, parameters and `state_dict`, run by the native engine on the CPU.

    Each layer and direction is the cell of `glasscell.LSTMCell`, with `weight_ih_l{k}` its kernel transposed,
    `weight_hh_l{k}` its recurrent kernel transposed and `bias_ih_l{k} + bias_hh_l{k}` its bias. More than torch has:

    recurrent_dropout: the share of h dropped on its way into the gates, in training: one mask for each gate, row, layer
        and direction, the same at all steps (Gal & Ghahramani 2016), as Keras draws them; scaled by 1 / (1 - rate).
    activation, recurrent_activation: a(.) and s(.) of the equations, by Keras's names.
    engine: "auto" runs torch's own LSTM where the native engine cannot serve and torch can: on other devices than the
        CPU, in other dtypes than float32 and float64, with `proj_size`, under autocast, in exports. "native" raises a
        ValueError there that names the reason, "framework" always runs torch's own. `engine_used` tells what ran last.

    Raises: ValueError for an unknown name, and for what this LSTM has beyond torch's together with `proj_size`.
    """

    get_expected_cell_size = TORCHS.get_expected_cell_size
    check_forward_args = TORCHS.check_forward_args
    permute_hidden = TORCHS.permute_hidden

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
        if not 0 <= recurrent_dropout < 1:
            raise ValueError(f"recurrent_dropout: expected a fraction from 0 to below 1, got {recurrent_dropout!r}")
        if engine not in ENGINES:
            raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
        self.recurrent_dropout, self.engine = float(recurrent_dropout), engine
        self.activation = activations.get(activation, "activation").name
        self.recurrent_activation = activations.get(recurrent_activation, "recurrent_activation").name
        if self.proj_size:
            self._check_framework(PROJECTED.format(self.proj_size), True)

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
        Dropout between layers draws for the steps of a packed sequence, as torch's does, and for all of a padded batch.

        Raises: ValueError or TypeError naming the argument, what was expected and what came; where torch raises a
        RuntimeError for wrong shapes, the ValueError is one too.
        """
        extras: dict[str, Any] = {"lengths": lengths, "mask": mask, "reset": reset}
        if isinstance(input, fx.Proxy):
            return self._node(input, hx, extras, LSTM.forward)  # type: ignore[no-any-return]
        arguments.check_kinds(input, hx)
        packed = input if isinstance(input, PackedSequence) else None
        # Torch's own evaluates parametrizations itself: once more would be a step too many of a spectral norm's.
        parametrized = "parametrizations" in self._modules
        if not parametrized:
            self._update_flat_weights()
        reason = self._why_not_native(input if packed is None else packed.data)
        if reason is not None:
            self._check_framework(reason, all(value is None for value in extras.values()))
            self.engine_used = "framework"
            return TORCHS.forward(self, input, hx)  # type: ignore[no-any-return]
        if parametrized:
            self._update_flat_weights()
        self.engine_used = "native"
        if packed is not None and any(value is not None for value in extras.values()):
            raise ValueError("lengths, mask, reset: expected None beside a packed sequence, which has its lengths")
        packing = None
        if packed is None:
            x, squeeze = arguments.batched(input, self.input_size, self.batch_first)
        else:
            arguments.check_packed(packed, self.input_size)
            packing = Packing(packed)
            x, squeeze = packing.padded(packed.data).contiguous(), False
            extras["lengths"] = packing.lengths
        steps = self._steps(x, squeeze, **extras)
        y, hT, cT = self._run(x, steps, *self._states(hx, x, squeeze), packing)
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
        arguments.check_kinds(input, hx)
        if isinstance(input, PackedSequence):
            raise TypeError("input: expected a tensor, got a PackedSequence; trace a padded one, with lengths")
        self._update_flat_weights()
        with torch.autocast("cpu", enabled=False):  # a trace is the native engine's whatever is on
            reason = "the tensors are on meta" if input.is_meta else self._why_no_numbers(input)
        if reason is not None:
            raise ValueError(f"trace: needs the native engine, which cannot serve: {reason}")
        x, squeeze = arguments.batched(input.detach(), self.input_size, self.batch_first)
        with torch.no_grad():
            steps = self._steps(x, squeeze, lengths, mask, reset)
            h0, c0 = self._states(hx, x, squeeze)
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
                    here.append(Trace.of(call, run(call, "trace", "native").record))
                x = _in_time([torch.from_numpy(t.h) for t in here])
                traces += here
        return traces

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _why_not_native(self, x: Tensor) -> str | None:
        if self.engine == "framework":
            return "engine is 'framework'"
        return self._why_no_numbers(x)

    def _why_no_numbers(self, x: Tensor) -> str | None:
        """The reason why the native engine cannot read the input and the weights; None if it can."""
        if self.proj_size:
            return PROJECTED.format(self.proj_size)
        weights = [w for w in self._flat_weights if isinstance(w, Tensor)]
        dtypes = {x.dtype, *(w.dtype for w in weights)}
        if len(dtypes) > 1 or not dtypes <= {torch.float32, torch.float64}:
            return f"the dtypes are {' and '.join(sorted(map(str, dtypes)))}, not torch.float32 or torch.float64 alone"
        if not torch.compiler.is_compiling() and any(map(_operates, weights)):
            return f"the weights are of {', '.join(sorted({type(w).__name__ for w in weights}))}, with own operations"
        if x.layout is not torch.strided:
            return f"the input's layout is {x.layout}"
        return op.why_not_available(x)

    def _check_framework(self, reason: str, plain: bool) -> None:
        """Raises: ValueError where torch's own may not run, or cannot; reason: why the native engine does not."""
        options = (self.activation, self.recurrent_activation, self.recurrent_dropout * self.training)
        if self.engine == "native" or not plain or options != ("tanh", "sigmoid", 0):
            what = "engine: 'native'" if self.engine == "native" else "what this LSTM has beyond torch.nn.LSTM"
            raise ValueError(f"{what} needs the native engine, which cannot serve: {reason}")

    def _cells(self, layer: int) -> Iterator[tuple[Options, Tensor, Tensor, Tensor | None]]:
        """The options, kernel, recurrent kernel and bias of each direction of a layer, in torch's layout."""
        a, s = activations.get(self.activation), activations.get(self.recurrent_activation)
        count = 4 if self.bias else 2
        for backwards in range(self._directions):
            at = (layer * self._directions + backwards) * count
            W, R, *biases = self._flat_weights[at : at + count]  # as torch has them, by hand or from a parametrization
            yield Options(a, s, bool(backwards)), W, R, biases[0] + biases[1] if biases else None

    def _steps(self, x: Tensor, squeeze: bool, lengths: Any, mask: Any, reset: Any) -> Tensor | None:
        if reset is not None and self.bidirectional:
            raise ValueError("reset: expected None, for both directions would need to know where episodes end")
        return arguments.steps(x, lengths, mask, reset, self.batch_first, squeeze)

    def _states(self, hx: Any, x: Tensor, squeeze: bool) -> tuple[Tensor, Tensor]:
        return arguments.states(hx, x, self.num_layers * self._directions, self.hidden_size, squeeze)

    def _run(
        self, x: Tensor, steps: Tensor | None, h0: Tensor, c0: Tensor, packing: Packing | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """All layers over `x: (B, T, I)`: the output, and the final states, (layers * directions, B, H) each."""
        final: list[tuple[Tensor, Tensor]] = []
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                x = self._dropped(x, packing)
            directions = [
                Operands(*cell, h0[k], c0[k], None, self._recurrent_mask(x), True)
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

    def _dropped(self, x: Tensor, packing: Packing | None) -> Tensor:
        """`x: (B, T, ...)` after the dropout between layers, drawn in torch's layout: so the draws are torch's."""
        if packing is not None:
            return packing.padded(torch.nn.functional.dropout(packing.data(x), self.dropout))
        return torch.nn.functional.dropout(x.transpose(0, 1).contiguous(), self.dropout).transpose(0, 1)

    def _recurrent_mask(self, x: Tensor) -> Tensor | None:
        if not self.recurrent_dropout or not self.training:
            return None
        return draw_masks(x, self.hidden_size, self.recurrent_dropout)


def _operates(tensor: Tensor) -> bool:
    """Whether it is of a class with operations of its own. (`has_torch_function` says so of all in some modes, too.)"""
    own = getattr(type(tensor).__torch_function__, "__func__", None)
    return own not in (None, Tensor.__torch_function__.__func__)


def draw_masks(x: Tensor, units: int, rate: float) -> Tensor:
    """Masks of recurrent dropout, (4, B, H): 0 for a share `rate` of all elements, 1 / (1 - rate) for the others.

    Drawn by torch's generator; `torch.nn.functional.dropout` of ones takes it three times as long.
    """
    return torch.rand(4, x.shape[0], units, dtype=x.dtype, device=x.device).ge_(rate).mul_(1 / (1 - rate))


def _in_time(hs: list[Tensor]) -> Tensor:
    """(B, T, directions * H): the directions side by side, the second turned back into time."""
    return hs[0] if len(hs) == 1 else torch.cat([hs[0], hs[1].flip(1)], 2)
