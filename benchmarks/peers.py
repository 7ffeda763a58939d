"""The contestants, and the modes in which each takes part."""

from __future__ import annotations

import pkgutil
from typing import Any, NamedTuple

import numpy as np

import glasscell as gc
from benchmarks.problem import Problem
from benchmarks.shapes import BACKENDS, DROPOUT, LAYERS, LENGTHS, PACKED, PADDED, RESET, SEQUENCES, TORCH, models_on
from glasscell._cli.contestants import Work

OURS = "glasscell"  # so begin the names of ours


class Contestant(NamedTuple):
    """`maker`: module and function that turns a problem into a work, or empty for a layer of Keras's and ours in its
    place, made in the process of a `backend`. `needs`: the packages without which it is left out."""

    name: str
    modes: tuple[str, ...]
    maker: str
    needs: tuple[str, ...] = ()
    backend: str = ""

    @property
    def ours(self) -> bool:
        return self.name.startswith(OURS)

    def make(self, problem: Problem) -> Work:
        """Modules of peers are imported only here."""
        work: Work = pkgutil.resolve_name(f"benchmarks.{self.maker}")(problem)
        return work


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
    options = {"lengths": problem.lengths, "recurrent_dropout_mask": problem.recurrent_dropout_mask}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}

    def train() -> tuple[Any, ...]:
        y, pullback = layer.vjp(x, **given)
        gradients = pullback(dy)
        return y, gradients.kernel, gradients.recurrent_kernel

    return train if problem.train else lambda: (np.asarray(layer(x, **given)),)


def _of_torch(name: str, modes: tuple[str, ...], function: str) -> Contestant:
    return Contestant(name, modes, f"torch_peers:{function}", ("torch",))


def _of_keras(name: str, modes: tuple[str, ...], backend: str) -> Contestant:
    return Contestant(name, modes, "", ("keras", backend), backend)


BASE = Contestant(f"{OURS}, own base", (), "peers:glasscell_numpy")
CONTESTANTS = [
    Contestant(OURS, (*LAYERS, "step", "trace", "tape"), "peers:glasscell_numpy"),
    _of_torch(OURS, TORCH, "ours"),
    _of_torch("glasscell, lengths=", LENGTHS, "ours_with_lengths"),
    _of_torch("torch", (*SEQUENCES, *PADDED, *PACKED, *LENGTHS), "lstm"),
    _of_torch("torch", ("step",), "lstm_step"),
    _of_torch("torch, grad mode", ("infer",), "lstm_in_grad_mode"),
    _of_torch("torch LSTMCell", ("step",), "cell_step"),
    _of_torch("torch.compile", PADDED, "compiled_lstm"),
    _of_torch("LSTMCell loop", (*PADDED, *RESET), "cell_loop"),
    _of_torch("split", RESET, "split"),
    _of_torch("loop", DROPOUT, "dropout_loop"),
    _of_torch("scripted loop", DROPOUT, "scripted_loop"),
    _of_torch("compiled loop", DROPOUT, "compiled_loop"),
    Contestant("ONNX Runtime", ("infer", "lengths", "step"), "onnx_peers:onnx_runtime", ("onnx", "onnxruntime")),
    Contestant("OpenVINO", ("infer", "lengths", "step"), "onnx_peers:openvino", ("onnx", "openvino")),
    *(_of_keras(f"Keras, {label}", LAYERS, backend) for label, backend in BACKENDS.items()),
    _of_keras("glasscell.keras, JAX", LAYERS, "jax"),
    *(_of_keras(name, models_on(b), backend) for b, backend in BACKENDS.items() for name in (OURS, "Keras")),
]
