"""PyTorch's LSTMs, `glasscell.torch.LSTM`, and the loops that users write without it; each turns a problem into a work.

A work takes x (B, T, I), padded, and gives h (B, T, H). In modes "torch packed" both are packed; in modes with lengths
they are not, and who needs it packs and unpacks.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.utils import rnn

from benchmarks.problem import DROPPED, SEED, Problem
from benchmarks.shapes import DROPOUT, TORCH
from glasscell._cells import lstm as cell
from glasscell._cells.activations import Activation
from glasscell._cells.layouts import to_torch
from glasscell._cli.contestants import Work
from glasscell.torch import LSTM
from glasscell.torch._pass import draw_masks

Forward = Callable[[Any], Any]


def _module(problem: Problem, kind: Any, **options: Any) -> Any:
    """A module of one layer with the problem's weights, and torch with its threads."""
    torch.set_num_threads(problem.threads)
    module, values = kind(problem.shape.I, problem.shape.H, **options), to_torch(problem.weights)
    module.load_state_dict({n: torch.from_numpy(values[n.removesuffix("_l0")]) for n in module.state_dict()})
    return module


def _work(problem: Problem, module: Any, forward: Forward, warm_up: int = 0, grad_mode: bool = False) -> Work:
    """A work of a module. forward: x to h at all steps. warm_up: as many first calls still compile."""
    x, dy = (torch.from_numpy(problem.packed(steps)) for steps in (problem.x, problem.dy))
    of_module = problem.mode in TORCH
    x.requires_grad_(problem.train and of_module)
    wanted = (*([x] if of_module else []), *module.parameters())

    def work() -> tuple[Any, ...]:
        with contextlib.nullcontext() if problem.train or grad_mode else torch.inference_mode():
            y = forward(x)
        if not problem.train:
            return (y.detach().numpy(),)
        *dx, kernel, recurrent_kernel, b_ih, b_hh = (g.numpy() for g in torch.autograd.grad(y, wanted, dy))
        return y.detach().numpy(), *dx, kernel.T, recurrent_kernel.T, *((b_ih, b_hh) if of_module else ())

    for _ in range(warm_up):
        work()
    torch.manual_seed(SEED)
    return work


def _ours(problem: Problem) -> Any:
    rate = DROPPED if problem.mode in DROPOUT else 0.0
    return _module(problem, LSTM, batch_first=True, recurrent_dropout=rate, engine="native")


def ours(problem: Problem) -> Work:
    """`glasscell.torch.LSTM`, over packed sequences where torch needs them."""
    layer = _ours(problem)
    reset = None if problem.reset is None else torch.from_numpy(problem.reset)
    return _work(problem, layer, _over_packed(layer, problem) or (lambda x: layer(x, reset=reset)[0]))


def ours_with_lengths(problem: Problem) -> Work:
    layer, lengths = _ours(problem), torch.from_numpy(problem.lengths)
    return _work(problem, layer, lambda x: layer(x, lengths=lengths)[0])


def lstm(problem: Problem, grad_mode: bool = False) -> Work:
    """`torch.nn.LSTM`, over packed sequences where there are lengths."""
    layer = _module(problem, torch.nn.LSTM, batch_first=True)
    forward = _over_packed(layer, problem) or (lambda x: layer(x)[0])
    return _work(problem, layer, forward, grad_mode=grad_mode)


def lstm_in_grad_mode(problem: Problem) -> Work:
    return lstm(problem, grad_mode=True)


def _over_packed(layer: Any, problem: Problem) -> Forward | None:
    """None where the problem has no lengths."""
    if problem.lengths is None:
        return None
    lengths, T = torch.from_numpy(problem.lengths), problem.shape.T
    if problem.packed_rows is not None:
        rows, sizes = torch.from_numpy(problem.packed_rows), (torch.arange(T)[:, None] < lengths).sum(1)
        sizes = sizes[sizes > 0]
        return lambda data: layer(rnn.PackedSequence(data, sizes, rows, rows.argsort()))[0].data

    def forward(x: Any) -> Any:
        packed, _ = layer(rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        return rnn.pad_packed_sequence(packed, batch_first=True, total_length=T)[0]

    return forward


def lstm_step(problem: Problem) -> Work:
    layer = _module(problem, torch.nn.LSTM, batch_first=True)
    return _steps(problem.x[:, None], layer, lambda y, state: (y[:, 0], state))


def cell_step(problem: Problem) -> Work:
    return _steps(problem.x, _module(problem, torch.nn.LSTMCell), lambda *state: (state[0], state))


def _steps(x: Any, module: Any, parts: Callable[..., tuple[Any, Any]]) -> Work:
    """parts: of what the module gives, h and the next state."""
    x, state = torch.from_numpy(x), None

    def work() -> tuple[Any, ...]:
        nonlocal state
        with torch.inference_mode():
            h, state = parts(*module(x, state))
        return (h.numpy(),)

    return work


def compiled_lstm(problem: Problem) -> Work:
    """Raises: torch's error where it would not compile the module but run it as it is."""
    torch.compiler.reset()
    layer = _module(problem, torch.nn.LSTM, batch_first=True)
    compiled = torch.compile(layer, fullgraph=True, dynamic=False)
    return _work(problem, layer, lambda x: compiled(x)[0], warm_up=1)


def cell_loop(problem: Problem) -> Work:
    """`torch.nn.LSTMCell` step by step, its state set to zero where an episode starts."""
    module = _module(problem, torch.nn.LSTMCell)
    started = None if problem.reset is None else torch.from_numpy(problem.reset)

    def forward(x: Any) -> Any:
        kept = None if started is None else (~started)[:, :, None].to(x.dtype).unbind(1)
        h = c = x.new_zeros(problem.shape.B, problem.shape.H)
        hs = []
        for t, xt in enumerate(x.unbind(1)):  # the gradient of an index would be a tensor of zeros at each step
            h, c = module(xt, (h, c) if kept is None else (h * kept[t], c * kept[t]))
            hs.append(h)
        return torch.stack(hs, 1)

    return _work(problem, module, forward)


def split(problem: Problem) -> Work:
    """Each episode a sequence of its own, and one call of `torch.nn.LSTM` over all of them, packed.

    Gathered by one index and scattered back by its inverse; `pad_packed_sequence` under autograd would cost far more.
    """
    B, T, inputs, H = problem.shape
    layer, started = _module(problem, torch.nn.LSTM, batch_first=True), torch.from_numpy(problem.reset)

    def forward(x: Any) -> Any:
        starts = started.clone()
        starts[:, 0] = True
        first = starts.flatten().nonzero().squeeze(1)
        lengths, order = first.diff(append=first.new_tensor([B * T])).sort(descending=True)
        t = torch.arange(int(lengths[0]))[:, None]
        inside = t < lengths
        index = (first[order] + t)[inside]  # of each packed step, in B T
        packed = rnn.PackedSequence(x.reshape(B * T, inputs).index_select(0, index), inside.sum(1))
        return layer(packed)[0].data.index_select(0, index.argsort()).view(B, T, H)

    return _work(problem, layer, forward)


# By torch's own functions, as its users write them: those of `activations` are several operators each.
OPTIONS = cell.Options(
    Activation("tanh", lambda x, xp: xp.tanh(x), None), Activation("sigmoid", lambda x, xp: xp.sigmoid(x), None)
)


def dropout_step(xw: Any, h: Any, c: Any, masks: Any, R: Any) -> tuple[Any, Any]:
    """The next h and c, (B, H). xw: x W + b, and masks, (4, B, H). R: (4, H, H)."""
    z = cell.Gates(*torch.baddbmm(xw, h * masks, R).unbind(0))  # one operator where `cell.raw_gates` has four products
    _, h, c = cell.step(z, c, OPTIONS, torch)
    return h, c


def over_time(step: Callable[..., Any]) -> Callable[..., Any]:
    """The whole sequence, by this step: a function that torch.jit.script can take.

    Its arguments: x: (B, T, I), weight_ih: (4H, I), weight_hh: (4H, H), the sum of the biases: (4H,), and the masks.
    It gives h at all steps, (B, T, H). Tensors are unbound, never indexed: the gradient of an index is a whole tensor
    of zeros, at each step.
    """

    def loop(x, weight_ih, weight_hh, bias, masks):  # type: ignore[no-untyped-def]
        B, T, H = x.shape[0], x.shape[1], weight_hh.shape[1]
        xw = torch.nn.functional.linear(x, weight_ih, bias).view(B, T, 4, H).permute(1, 2, 0, 3)
        R = weight_hh.view(4, H, H).transpose(1, 2)
        h = x.new_zeros(B, H)
        c = h
        hs = []
        for xt in xw.unbind(0):
            h, c = step(xt, h, c, masks, R)
            hs.append(h)
        return torch.stack(hs, 1)

    return loop


def first_masks(batch: int, units: int) -> Any:
    """The masks of recurrent dropout in the first call of each work, (4, B, H)."""
    torch.manual_seed(SEED)
    return draw_masks(torch.empty(batch, 0), units, DROPPED).numpy()


def dropout_loop(problem: Problem, loop: Callable[..., Any] | None = None, warm_up: int = 0) -> Work:
    """The loop that a user of PyTorch writes for want of recurrent dropout."""
    module, loop = _module(problem, torch.nn.LSTMCell), loop or over_time(dropout_step)

    def forward(x: Any) -> Any:
        bias = module.bias_ih + module.bias_hh
        return loop(x, module.weight_ih, module.weight_hh, bias, draw_masks(x, problem.shape.H, DROPPED))

    return _work(problem, module, forward, warm_up)


def scripted_loop(problem: Problem) -> Work:
    """The loop as TorchScript, its step traced."""
    B, H = problem.shape.B, problem.shape.H
    like = [torch.zeros(size) for size in ((4, B, H), (B, H), (B, H), (4, B, H), (4, H, H))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # and still in use
        loop = torch.jit.script(over_time(torch.jit.trace(dropout_step, like)))
    return dropout_loop(problem, loop, warm_up=2)


def compiled_loop(problem: Problem) -> Work:
    """The loop with its step compiled: torch.compile would unroll the loop, which takes a minute for sixteen."""
    torch.compiler.reset()
    step = torch.compile(dropout_step, fullgraph=True, dynamic=False)
    return dropout_loop(problem, over_time(step), warm_up=1)
