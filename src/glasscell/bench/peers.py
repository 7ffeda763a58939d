"""Who is compared in this process: each contestant turns one problem into a function that does the work once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import glasscell as gc
from glasscell.bench.onnx_peers import onnx_runtime, openvino
from glasscell.bench.problem import Problem, Work

SEQUENCES = ("infer", "train", "lengths", "lengths-train")


def glasscell_numpy(problem: Problem) -> Work:
    x, dy = problem.x, problem.dy
    layer = gc.LSTM(problem.shape.H, return_sequences=True, engine="native")
    layer.cell.set_weights(list(problem.weights))
    if problem.mode == "step":
        stream = gc.Stream(layer, batch=problem.shape.B)
        return lambda: (stream.step(x),)
    if problem.mode == "trace":
        return lambda: tuple(layer.trace(x).asdict().values())
    if problem.mode == "tape":
        return lambda: (layer.vjp(x)[0],)
    options = {"lengths": problem.lengths, "recurrent_dropout_mask": problem.recurrent_mask}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}

    def train() -> tuple[Any, ...]:
        y, pullback = layer.vjp(x, **given)
        gradients = pullback(dy)
        return y, gradients.kernel, gradients.recurrent_kernel

    return train if problem.train else lambda: (np.asarray(layer(x, **given)),)


def torch_lstm(problem: Problem, grad_mode: bool = False) -> Work:
    """`torch.nn.LSTM`; with lengths over a packed sequence, packing and unpacking included."""
    import torch
    from torch.nn.utils import rnn

    layer = with_weights(problem, torch.nn.LSTM(problem.shape.I, problem.shape.H, batch_first=True))
    x, dy, T = torch.from_numpy(problem.x), torch.from_numpy(problem.dy), problem.shape.T
    lengths = None if problem.lengths is None else torch.from_numpy(problem.lengths)
    if problem.mode == "step":
        x, state = x[:, None], None

        def step() -> tuple[Any, ...]:
            nonlocal state
            with torch.no_grad():
                y, state = layer(x, state)
            return (y[:, 0].numpy(),)

        return step

    def forward() -> Any:
        if lengths is None:
            return layer(x)[0]
        packed, _ = layer(rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        return rnn.pad_packed_sequence(packed, batch_first=True, total_length=T)[0]

    def infer() -> tuple[Any, ...]:
        with torch.set_grad_enabled(grad_mode):
            return (forward().detach().numpy(),)

    def train() -> tuple[Any, ...]:
        layer.zero_grad()
        y = forward()
        y.backward(dy)
        d_kernel, d_recurrent = layer.weight_ih_l0.grad, layer.weight_hh_l0.grad
        return y.detach().numpy(), d_kernel.numpy().T, d_recurrent.numpy().T

    return train if problem.train else infer


def torch_cell(problem: Problem) -> Work:
    import torch

    cell = with_weights(problem, torch.nn.LSTMCell(problem.shape.I, problem.shape.H))
    x, state = torch.from_numpy(problem.x), None

    def step() -> tuple[Any, ...]:
        nonlocal state
        with torch.no_grad():
            state = cell(x, state)
        return (state[0].numpy(),)

    return step


def with_weights(problem: Problem, module: Any) -> Any:
    """A module of one layer with the problem's weights, and torch with its threads."""
    import torch

    torch.set_num_threads(problem.threads)
    kernel, recurrent_kernel, bias = problem.weights
    assert bias is not None
    values = (kernel.T, recurrent_kernel.T, bias, np.zeros_like(bias))
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), values, strict=True):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    return module


class Contestant(NamedTuple):
    """`needs`: the packages without which it is left out."""

    name: str
    make: Callable[[Problem], Work]
    modes: tuple[str, ...]
    needs: tuple[str, ...] = ()


OURS = Contestant("glasscell", glasscell_numpy, (*SEQUENCES, "step", "recurrent-dropout", "trace", "tape"))
PEERS = [
    Contestant("torch", torch_lstm, (*SEQUENCES, "step"), ("torch",)),
    Contestant("torch, grad mode", lambda p: torch_lstm(p, grad_mode=True), ("infer",), ("torch",)),
    Contestant("torch LSTMCell", torch_cell, ("step",), ("torch",)),
    Contestant("ONNX Runtime", onnx_runtime, ("infer", "lengths", "step"), ("onnx", "onnxruntime")),
    Contestant("OpenVINO", openvino, ("infer", "lengths", "step"), ("onnx", "openvino")),
]
