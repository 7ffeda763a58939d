"""Defines `LSTM`, a PyTorch module like `torch.nn.LSTM` whose sequences the native engine runs."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.utils.rnn import PackedSequence

from glasscell._cells import activations
from glasscell._ops.torch_compat import copy_in_inference
from glasscell._trace import Traces
from glasscell.torch import _options as options
from glasscell.torch._arguments import kind_of
from glasscell.torch._pass import run, traced
from glasscell.torch._plain import run_plain
from glasscell.torch._prepare import PROJECTED, Prepared, hand_out, prepare, why_not_traced
from glasscell.torch._tools import Tools

LOG = logging.getLogger("glasscell")
TORCHS = torch.nn.LSTM  # bound now: a library may be patched by torch.nn.LSTM = glasscell.torch.LSTM


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # logs once while its caller is compiled
def _log(kind: str, reason: str) -> None:
    LOG.info("%s runs in torch's own: %s", kind, reason)


class LSTM(Tools):  # no subclass of torch.nn.LSTM: torch.compile stops at those
    """A `torch.nn.LSTM` that the native engine runs on the CPU, with the same arguments, parameters and `state_dict`.

    It computes, for each layer and direction, with W = weight_ih, R = weight_hh and b = bias_ih + bias_hh:

        i, f, g, o = s(.), s(.), a(.), s(.) of x W^T + h R^T + b;  c' = f c + i g;  h' = o a(c')

    which is the cell of `glasscell.LSTMCell`. `forward` explains a call. The arguments of `torch.nn.LSTM`:

    input_size: I, the features of a step. hidden_size: H, the units. num_layers: the number of layers; each reads the
    output of the one before. bias: add b. batch_first: `input` is (B, T, I), else (T, B, I). bidirectional: add a
    second direction, back in time. dropout: the share of a layer's output that is dropped before the next layer, in
    training. proj_size: with a projection PyTorch's own LSTM runs. device, dtype: those of the parameters; float32 and
    float64 run natively.

    Further arguments, by keyword only:

    recurrent_dropout: the share of h that is dropped on its way into the gates, in training, as in Keras. Each gate,
        row, layer and direction has one mask for all steps (Gal & Ghahramani 2016), scaled by 1 / (1 - rate).
    activation, recurrent_activation: a(.) and s(.) of the equations, by Keras's names.
    engine: "auto" runs PyTorch's own LSTM where the native engine cannot run and PyTorch can: on other
        devices than the CPU, in other dtypes than float32 and float64, with `proj_size`, under autocast, in exports.
        "native" raises a ValueError with the reason there. "framework" always runs PyTorch's own. `engine_used` is the
        engine of the last call.

    Raises: ValueError or TypeError naming the argument and its value, of the same kind as PyTorch's error where PyTorch
    refuses it too; ValueError for one of the further arguments together with `proj_size`.

    >>> import torch
    >>> lstm = LSTM(64, 128, num_layers=2, batch_first=True)
    >>> y, (h, c) = lstm(torch.randn(8, 50, 64))
    >>> y.shape, h.shape, lstm.engine_used
    (torch.Size([8, 50, 128]), torch.Size([2, 8, 128]), 'native')
    """

    get_expected_cell_size = TORCHS.get_expected_cell_size
    check_forward_args = TORCHS.check_forward_args
    permute_hidden = TORCHS.permute_hidden

    recurrent_dropout: float = 0.0
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    engine: str = "auto"
    engine_used: str | None = None
    _traces: list[Traces] | None = None  # of the copy that `trace` runs

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
        options.check_dropout(dropout)
        options.check_switches(bias, batch_first, bidirectional)
        options.check_sizes(input_size, hidden_size, num_layers, proj_size)
        options.check_dtype(dtype)
        options.check_engine(engine)
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            device, dtype,
        )  # fmt: skip
        self.engine = engine
        self.recurrent_dropout = options.rate_of("recurrent_dropout", recurrent_dropout)
        self.activation, self.recurrent_activation = activation, recurrent_activation
        if self.proj_size:
            self._check_framework(PROJECTED.format(self.proj_size), True)

    def __setattr__(self, name: str, value: Any) -> None:
        """Checks an activation when it is set. PyTorch would keep a module as a child, hidden by the class default."""
        if name in ("activation", "recurrent_activation"):
            value = activations.get(value, name, callables=False).name
        super().__setattr__(name, value)

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Tensor, Tensor] | None = None,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        """Run all layers over whole sequences, as `torch.nn.LSTM` does.

        input: (T, B, I), (B, T, I) with `batch_first`, (T, I) unbatched, or a PackedSequence; of the parameters' dtype.
        hx: the initial (h, c), each (num_layers * directions, B, H), of the input's dtype; None is zero.
        lengths: (B,) integers, the number of steps of each row. mask: bool, shaped as the first two axes of `input`,
            True = run the step. At other steps the state stays, and the output is zero, as in a padded packed sequence.
        reset: bool, shaped as mask: True = set the state to zero before the step (an episode starts there). It is for
            one direction only.

        Dropout between layers draws a number for each step of a packed sequence, as PyTorch does; for a padded batch
        it draws for all steps.

        Returns: the output, (T, B, directions * H) in the layout of `input`, and the final (h, c), shaped as `hx`.
        Raises: ValueError or TypeError naming the argument, the expected and the given value. Where PyTorch raises a
        RuntimeError for wrong shapes, the ValueError is also a RuntimeError.
        """
        _check_module("forward", self)
        if lengths is None and mask is None and reset is None:
            plain = run_plain(self, input, hx)
            if plain is not None:
                if self.engine_used != "native":
                    self.engine_used = "native"
                return plain
        steps = {"lengths": lengths, "mask": mask, "reset": reset}
        if self._traces is not None:
            return self._trace_pass(prepare(self, "native", input, hx, **steps), self._traces)
        if isinstance(input, fx.Proxy):
            return self._node(input, hx, steps, LSTM.forward)  # type: ignore[no-any-return]
        call = prepare(self, self.engine, input, hx, **steps)
        if isinstance(call, str):
            self._check_framework(call, all(given is None for given in steps.values()))
            outputs = TORCHS.forward(self, input, hx)
            if self.engine_used != "framework":
                self.engine_used = "framework"
                if self.engine == "auto":
                    _log(type(self).__name__, call)
            return outputs  # type: ignore[no-any-return]
        self.engine_used, *results = run(self, call)
        return hand_out(self, call, *results)

    def trace(
        self,
        input: Tensor | PackedSequence,
        hx: tuple[Tensor, Tensor] | None = None,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> Traces:
        """Run the call `self(input, hx, ...)` in inference, and return every gate and state of every layer.

        The call runs with the module's hooks, its subclass's `forward` and its parametrizations, but without dropout
        and gradients, and does not change the module. Arguments as in `forward`. A compiled module has `trace` too;
        for DistributedDataParallel or DataParallel, use `wrapped.module.trace`.

        Returns: `Traces` in the order of `hx`, a list with `names` and `report`. The arrays of a trace are (B, T, H),
        in processing order. For a packed sequence they are padded, with the rows in the order of the batch, and `mask`
        is set.
        Raises: ValueError where the native engine cannot run, with the reason and advice; else as `forward`.

        >>> import torch
        >>> lstm = LSTM(3, 4, num_layers=2)
        >>> lstm.trace(torch.randn(5, 2, 3))
        layer 0: Trace(B=2, T=5, H=4, float32; arrays i f g o c h zi zf zg zo)
        layer 1: Trace(B=2, T=5, H=4, float32; arrays i f g o c h zi zf zg zo)
        """
        _check_module("trace", self)
        steps = {"hx": hx, "lengths": lengths, "mask": mask, "reset": reset}
        given = {name: value for name, value in steps.items() if value is not None}
        found: list[Traces] = _traces_of_call(self, input, given)
        if len(found) != 1:
            raise ValueError(
                f"trace: expected a forward of {type(self).__name__} that runs that of LSTM once, got {len(found)} runs"
            )
        return found[0]

    def _trace_pass(self, call: Prepared | str, found: list[Traces]) -> tuple[Any, tuple[Tensor, Tensor]]:
        """Runs a prepared call, as `forward` does, and appends its traces to `found`."""
        reason = call if isinstance(call, str) else why_not_traced(call)
        if reason is not None or isinstance(call, str):
            raise ValueError(f"trace: needs the native engine, which cannot serve: {reason}")
        traces, *results = traced(call)
        found.append(traces)
        return hand_out(self, call, *results)

    def _check_framework(self, reason: str, plain: bool) -> None:
        """Raises a ValueError where PyTorch's own LSTM may not run, or cannot. reason: against the native engine."""
        options = (self.activation, self.recurrent_activation, self.recurrent_dropout * self.training)
        if self.engine == "native" or not plain or options != ("tanh", "sigmoid", 0):
            what = "engine: 'native'" if self.engine == "native" else "what this LSTM has beyond torch.nn.LSTM"
            raise ValueError(f"{what} needs the native engine, which cannot serve: {reason}")


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _traces_of_call(lstm: LSTM, input: Any, given: dict[str, Any]) -> list[Traces]:
    """Calls a copy of a module in inference, and collects the traces of each of its runs of `LSTM.forward`."""
    copy, found = copy_in_inference(lstm), list[Traces]()
    copy._traces = found
    with torch.no_grad(), torch.autocast("cpu", enabled=False):  # under autocast the native engine would not run
        copy(input, **given)
    return found


def _check_module(method: str, module: Any) -> None:
    """Checks that a method was called on an instance. Raises: TypeError for a call on the class itself."""
    if not isinstance(module, LSTM):
        raise TypeError(f"{method}: expected a glasscell.torch.LSTM as self, got {kind_of(module)}; make one first")
