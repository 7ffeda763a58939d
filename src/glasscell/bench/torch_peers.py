"""`glasscell.torch.LSTM` and what PyTorch has in its place, called as modules under autograd: a problem to a work each.

A work takes x (B, T, I), padded, and gives h (B, T, H); in training also the gradients of x and of all parameters. In
modes "torch packed" both are packed; in modes "torch lengths" they are not, and who needs it packs and unpacks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from glasscell.bench.peers import Contestant, with_weights
from glasscell.bench.problem import DROPPED, Problem, Work
from glasscell.bench.shapes import TORCH_MODES

PADDED, PACKED = ("torch padded", "torch padded-train"), ("torch packed", "torch packed-train")
LENGTHS = ("torch lengths", "torch lengths-train")
DROPOUT, RESET = ("torch recurrent-dropout",), ("torch reset",)
ENOUGH, FEWEST_ROUNDS = 3.0, 2  # after so many seconds and rounds a row is timed: the loops are slow, the rows many
SEED = 0  # of torch, before the first call of a work


def with_drawn_masks(problem: Problem) -> Problem:
    """The problem with the masks of recurrent dropout that torch draws in the first call of each work."""
    import torch

    if problem.mode not in DROPOUT:
        return problem
    torch.manual_seed(SEED)
    return problem._replace(recurrent_mask=_draw(problem).numpy())


def _draw(problem: Problem) -> Any:
    """Masks of a call, (4, B, H), as `glasscell.torch.LSTM` draws them."""
    import torch

    from glasscell.torch.lstm import draw_masks

    return draw_masks(torch.from_numpy(problem.x), problem.shape.H, DROPPED)


def _work(problem: Problem, module: Any, forward: Callable[[Any], Any], warm_up: int = 0) -> Work:
    """forward: x to h at all steps, by the module's parameters. warm_up: calls in which it still compiles."""
    import torch

    x, dy = (torch.from_numpy(problem.given(steps)) for steps in (problem.x, problem.dy))
    x.requires_grad_(problem.train)

    def infer() -> tuple[Any, ...]:
        with torch.inference_mode():
            return (forward(x).numpy(),)

    def train() -> tuple[Any, ...]:
        y = forward(x)
        gradients = torch.autograd.grad(y, (x, *module.parameters()), dy)
        dx, kernel, recurrent_kernel, *biases = (g.numpy() for g in gradients)
        return y.detach().numpy(), dx, kernel.T, recurrent_kernel.T, *biases

    work = train if problem.train else infer
    for _ in range(warm_up):
        work()
    torch.manual_seed(SEED)
    return work


def _ours(problem: Problem) -> Any:
    from glasscell.torch import LSTM

    rate = DROPPED if problem.mode in DROPOUT else 0.0
    layer = LSTM(problem.shape.I, problem.shape.H, batch_first=True, recurrent_dropout=rate, engine="native")
    return with_weights(problem, layer)


def ours(problem: Problem) -> Work:
    """Over packed sequences where torch needs them."""
    import torch

    layer = _ours(problem)
    reset = None if problem.reset is None else torch.from_numpy(problem.reset)
    return _work(problem, layer, _over_packed(layer, problem) or (lambda x: layer(x, reset=reset)[0]))


def ours_with_lengths(problem: Problem) -> Work:
    import torch

    layer, lengths = _ours(problem), torch.from_numpy(problem.lengths)
    return _work(problem, layer, lambda x: layer(x, lengths=lengths)[0])


def lstm(problem: Problem) -> Work:
    """`torch.nn.LSTM`, over packed sequences where there are lengths."""
    layer = _lstm(problem)
    return _work(problem, layer, _over_packed(layer, problem) or (lambda x: layer(x)[0]))


def _lstm(problem: Problem) -> Any:
    import torch

    return with_weights(problem, torch.nn.LSTM(problem.shape.I, problem.shape.H, batch_first=True))


def _over_packed(layer: Any, problem: Problem) -> Callable[[Any], Any] | None:
    """None where the problem has no lengths."""
    if problem.lengths is None:
        return None
    import torch
    from torch.nn.utils import rnn

    lengths, T = torch.from_numpy(problem.lengths), problem.shape.T
    if problem.packed_rows is not None:
        rows, sizes = torch.from_numpy(problem.packed_rows), (torch.arange(T)[:, None] < lengths).sum(1)
        sizes = sizes[sizes > 0]
        return lambda data: layer(rnn.PackedSequence(data, sizes, rows, rows.argsort()))[0].data

    def forward(x: Any) -> Any:
        packed, _ = layer(rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        return rnn.pad_packed_sequence(packed, batch_first=True, total_length=T)[0]

    return forward


def compiled_lstm(problem: Problem) -> Work:
    """Raises: torch's error where it would not compile the module but run it as it is."""
    import torch

    torch.compiler.reset()
    layer = _lstm(problem)
    compiled = torch.compile(layer, fullgraph=True, dynamic=False)
    return _work(problem, layer, lambda x: compiled(x)[0], warm_up=1)


def cell_loop(problem: Problem) -> Work:
    """`torch.nn.LSTMCell` step by step, its state set to zero where an episode starts."""
    import torch

    cell = _cell(problem)
    started = None if problem.reset is None else torch.from_numpy(problem.reset)

    def forward(x: Any) -> Any:
        kept = None if started is None else (~started)[:, :, None].to(x.dtype).unbind(1)
        h = c = x.new_zeros(problem.shape.B, problem.shape.H)
        hs = []
        for t, xt in enumerate(x.unbind(1)):  # the gradient of an index would be a tensor of zeros at each step
            h, c = cell(xt, (h, c) if kept is None else (h * kept[t], c * kept[t]))
            hs.append(h)
        return torch.stack(hs, 1)

    return _work(problem, cell, forward)


def _cell(problem: Problem) -> Any:
    import torch

    return with_weights(problem, torch.nn.LSTMCell(problem.shape.I, problem.shape.H))


def split(problem: Problem) -> Work:
    """Each episode a sequence of its own, and one call of `torch.nn.LSTM` over all of them, packed.

    Gathered by one index and scattered back by its inverse; `pad_packed_sequence` under autograd would cost far more.
    """
    import torch
    from torch.nn.utils.rnn import PackedSequence

    B, T, inputs, H = problem.shape
    layer, started = _lstm(problem), torch.from_numpy(problem.reset)

    def forward(x: Any) -> Any:
        starts = started.clone()
        starts[:, 0] = True
        first = starts.flatten().nonzero().squeeze(1)
        lengths, order = first.diff(append=first.new_tensor([B * T])).sort(descending=True)
        t = torch.arange(int(lengths[0]))[:, None]
        inside = t < lengths
        index = (first[order] + t)[inside]  # of each packed step, in B T
        packed = PackedSequence(x.reshape(B * T, inputs).index_select(0, index), inside.sum(1))
        return layer(packed)[0].data.index_select(0, index.argsort()).view(B, T, H)

    return _work(problem, layer, forward)


def dropout_loop(problem: Problem) -> Work:
    """The loop that a user of PyTorch writes for want of recurrent dropout."""
    from glasscell.bench import torch_loops

    return _dropout_loop(problem, torch_loops.over_time(torch_loops.step))


def scripted_loop(problem: Problem) -> Work:
    import torch

    from glasscell.bench import torch_loops

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # and still in use
        loop = torch.jit.script(torch_loops.over_time(torch_loops.step))
    return _dropout_loop(problem, loop, warm_up=2)


def compiled_loop(problem: Problem) -> Work:
    """With one step compiled: torch.compile would unroll the loop, which takes a minute for sixteen."""
    import torch

    from glasscell.bench import torch_loops

    torch.compiler.reset()
    step = torch.compile(torch_loops.step, fullgraph=True, dynamic=False)
    return _dropout_loop(problem, torch_loops.over_time(step), warm_up=1)


def _dropout_loop(problem: Problem, loop: Callable[..., Any], warm_up: int = 0) -> Work:
    cell = _cell(problem)

    def forward(x: Any) -> Any:
        return loop(x, cell.weight_ih, cell.weight_hh, cell.bias_ih + cell.bias_hh, _draw(problem))

    return _work(problem, cell, forward, warm_up)


OURS = [
    Contestant("glasscell", ours, TORCH_MODES, ("torch",)),
    Contestant("glasscell, lengths=", ours_with_lengths, LENGTHS, ("torch",)),
]
PEERS = [
    Contestant("torch", lstm, (*PADDED, *PACKED, *LENGTHS), ("torch",)),
    Contestant("torch.compile", compiled_lstm, PADDED, ("torch",)),
    Contestant("LSTMCell loop", cell_loop, (*PADDED, *RESET), ("torch",)),
    Contestant("split", split, RESET, ("torch",)),
    Contestant("loop", dropout_loop, DROPOUT, ("torch",)),
    Contestant("scripted loop", scripted_loop, DROPOUT, ("torch",)),
    Contestant("compiled loop", compiled_loop, DROPOUT, ("torch",)),
]
