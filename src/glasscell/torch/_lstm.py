"""`LSTM` as a PyTorch module: that of `torch.nn`, with the sequence run by the native engine."""

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


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # runs, once, where its caller is compiled
def _log(kind: str, reason: str) -> None:
    LOG.info("%s runs in torch's own: %s", kind, reason)


class LSTM(Tools):  # not of torch.nn.LSTM: torch.compile stops at its subclasses
    """`torch.nn.LSTM`: its arguments, attributes, parameters and `state_dict`, run by the native engine on the CPU.

    For each layer and direction, with W = weight_ih, R = weight_hh and b = bias_ih + bias_hh:

        i, f, g, o = s(.), s(.), a(.), s(.) of x W^T + h R^T + b;  c' = f c + i g;  h' = o a(c')

    which is the cell of `glasscell.LSTMCell`. What a call takes and gives is at `forward`. The arguments of torch's:

    input_size: I, the features of a step. hidden_size: H, the units. num_layers: layers, each over the one before.
    bias: add b. batch_first: `input` is (B, T, I), else (T, B, I). bidirectional: a second direction, back in time.
    dropout: the share of a layer's output dropped on its way into the next layer, in training.
    proj_size: as torch's, which then runs. device, dtype: of the parameters; float32 and float64 run natively.

    And what torch's has not, by keyword:

    recurrent_dropout: the share of h dropped on its way into the gates, in training: one mask for each gate, row, layer
        and direction, the same at all steps (Gal & Ghahramani 2016), as Keras draws them; scaled by 1 / (1 - rate).
    activation, recurrent_activation: a(.) and s(.) of the equations, by Keras's names.
    engine: "auto" runs torch's own LSTM where the native engine cannot serve and torch can: on other devices than the
        CPU, in other dtypes than float32 and float64, with `proj_size`, under autocast, in exports. "native" raises a
        ValueError there that names the reason, "framework" always runs torch's own. `engine_used` tells what ran last.

    Raises: ValueError or TypeError naming the argument and what came, of torch's kinds where torch refuses it too;
    ValueError for what this LSTM has beyond torch's together with `proj_size`.

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
        """Checks an activation when it is set: a module among the children would be hidden by the class's default."""
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
        """Runs all layers over whole sequences, as `torch.nn.LSTM` does.

        input: (T, B, I), (B, T, I) with `batch_first`, (T, I) unbatched, or a PackedSequence; of the parameters' dtype.
        hx: the initial (h, c), each (num_layers * directions, B, H), of the input's dtype; None is zero.
        lengths: (B,) integers: row b has so many steps. mask: bool, in the layout of the first two axes of `input`,
            True = run the step. At other steps the state stays, and the output is zero, as in a padded packed sequence.
        reset: bool, likewise: True = the state is zero before the step (an episode starts); one direction only.

        Dropout between layers draws for the steps of a packed sequence, as torch's does, and for all of a padded batch.

        Returns: the output, (T, B, directions * H) in the layout of `input`, and the final (h, c), shaped as `hx`.
        Raises: ValueError or TypeError naming the argument, what was expected and what came; where torch raises a
        RuntimeError for wrong shapes, the ValueError is one too.
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
        """Gives every gate and state of every layer and direction in the call `self(input, hx, ...)`, in inference.

        The call runs with the module's hooks, its subclass's `forward` and its parametrizations, without dropout and
        without gradients, and leaves the module as it is. Arguments as in `forward`. Of a compiled or wrapped module:
        `compiled.trace`, and `module.trace` of what DistributedDataParallel or DataParallel holds.

        Returns: `Traces` in the order of `hx`, a list with `names` and `report`. The arrays of a trace are (B, T, H),
        in processing order; those of a packed sequence padded, its rows in the order of the batch, `mask` set.
        Raises: ValueError where the native engine cannot serve, with the reason and what to do; else as `forward`.

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
        """Runs a prepared call, as `forward` does, and puts its traces into `found`."""
        reason = call if isinstance(call, str) else why_not_traced(call)
        if reason is not None or isinstance(call, str):
            raise ValueError(f"trace: needs the native engine, which cannot serve: {reason}")
        traces, *results = traced(call)
        found.append(traces)
        return hand_out(self, call, *results)

    def _check_framework(self, reason: str, plain: bool) -> None:
        """Raises: ValueError where torch's own may not run, or cannot; reason: why the native engine does not."""
        options = (self.activation, self.recurrent_activation, self.recurrent_dropout * self.training)
        if self.engine == "native" or not plain or options != ("tanh", "sigmoid", 0):
            what = "engine: 'native'" if self.engine == "native" else "what this LSTM has beyond torch.nn.LSTM"
            raise ValueError(f"{what} needs the native engine, which cannot serve: {reason}")


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _traces_of_call(lstm: LSTM, input: Any, given: dict[str, Any]) -> list[Traces]:
    """Calls a copy of a module in inference, and collects the traces of each of its runs of `LSTM.forward`."""
    copy, found = copy_in_inference(lstm), list[Traces]()
    copy._traces = found
    with torch.no_grad(), torch.autocast("cpu", enabled=False):  # a trace is the native engine's whatever is on
        copy(input, **given)
    return found


def _check_module(method: str, module: Any) -> None:
    """Checks that a method was called on an LSTM of ours. Raises: TypeError, for a call of the class."""
    if not isinstance(module, LSTM):
        raise TypeError(f"{method}: expected a glasscell.torch.LSTM as self, got {kind_of(module)}; make one first")
