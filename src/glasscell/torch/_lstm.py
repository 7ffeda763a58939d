"""`LSTM` as a PyTorch module: that of `torch.nn`, with the sequence run by the native engine."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.utils.rnn import PackedSequence

from glasscell._cells import activations
from glasscell._trace import Traces
from glasscell.torch._pass import run, traces
from glasscell.torch._prepare import PROJECTED, hand_out, prepare
from glasscell.torch._tools import Tools

LOG = logging.getLogger("glasscell")
ENGINES = ("auto", "native", "framework")
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
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        recurrent_dropout: float = 0.0,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        engine: str = "auto",
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            device, dtype,
        )  # fmt: skip
        if not 0 <= recurrent_dropout < 1:
            raise ValueError(f"recurrent_dropout: expected a fraction from 0 to below 1, got {recurrent_dropout!r}")
        if engine not in ENGINES:
            raise ValueError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
        self.recurrent_dropout, self.engine = float(recurrent_dropout), engine
        self.activation, self.recurrent_activation = activation, recurrent_activation
        if self.proj_size:
            self._check_framework(PROJECTED.format(self.proj_size), True)

    def __setattr__(self, name: str, value: Any) -> None:
        """Checks an activation when it is set: a module among the children would be hidden by the class's default."""
        if name in ("activation", "recurrent_activation"):
            value = activations.get(value, name, callables=False).name
        super().__setattr__(name, value)

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
        steps = {"lengths": lengths, "mask": mask, "reset": reset}
        if isinstance(input, fx.Proxy):
            return self._node(input, hx, steps, LSTM.forward)  # type: ignore[no-any-return]
        call = prepare(self, self.engine, input, hx, **steps)
        if isinstance(call, str):
            self._check_framework(call, all(given is None for given in steps.values()))
            if self.engine_used != "framework":
                self.engine_used = "framework"
                if self.engine == "auto" and not torch.compiler.is_compiling():
                    LOG.info("%s runs in torch's own: %s", type(self).__name__, call)
            return TORCHS.forward(self, input, hx)  # type: ignore[no-any-return]
        self.engine_used, *results = run(self, call)
        return hand_out(self, call, *results)

    def trace(
        self,
        input: Tensor,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> Traces:
        """Every gate and state of every layer and direction, in the order of `hx`, in inference: no dropout.

        Arguments as in `forward`, `input` not packed; the arrays of a trace are (B, T, H), in processing order.
        """
        if isinstance(input, PackedSequence):
            raise TypeError("input: expected a tensor, got a PackedSequence; trace a padded one, with lengths")
        with torch.no_grad(), torch.autocast("cpu", enabled=False):  # a trace is the native engine's whatever is on
            call = prepare(self, "native", input, hx, lengths, mask, reset)
            if not isinstance(call, str):
                if not call.x.is_meta:
                    return traces(call)
                call = "the tensors are on meta"
        raise ValueError(f"trace: needs the native engine, which cannot serve: {call}")

    def _check_framework(self, reason: str, plain: bool) -> None:
        """Raises: ValueError where torch's own may not run, or cannot; reason: why the native engine does not."""
        options = (self.activation, self.recurrent_activation, self.recurrent_dropout * self.training)
        if self.engine == "native" or not plain or options != ("tanh", "sigmoid", 0):
            what = "engine: 'native'" if self.engine == "native" else "what this LSTM has beyond torch.nn.LSTM"
            raise ValueError(f"{what} needs the native engine, which cannot serve: {reason}")
