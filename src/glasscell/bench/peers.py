"""Who is compared: each contestant turns one problem into a function without arguments that does the work once."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import util
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import glasscell as gc
from glasscell.weights import LSTMWeights

Array = npt.NDArray[Any]
Work = Callable[[], tuple[Array, ...]]


class Problem(NamedTuple):
    """One LSTM and its input. Inference asks for y; training for y and the gradients of the weights under dy."""

    weights: LSTMWeights
    x: Array
    dy: Array
    train: bool
    threads: int


def glasscell_numpy(problem: Problem, engine: Any = "native") -> Work:
    units = problem.weights.recurrent_kernel.shape[0]
    layer = gc.LSTM(units, return_sequences=True, engine=engine)
    layer.cell.set_weights(list(problem.weights))

    def train() -> tuple[Array, ...]:
        y, pullback = layer.vjp(problem.x)
        gradients = pullback(problem.dy)
        return y, gradients.kernel, gradients.recurrent_kernel

    return train if problem.train else lambda: (np.asarray(layer(problem.x)),)


def torch_lstm(problem: Problem, grad_mode: bool = False) -> Work:
    import torch

    torch.set_num_threads(problem.threads)
    kernel, recurrent_kernel, bias = problem.weights
    assert bias is not None
    layer = torch.nn.LSTM(kernel.shape[0], recurrent_kernel.shape[0], batch_first=True)
    values = (kernel.T, recurrent_kernel.T, bias, np.zeros_like(bias))
    with torch.no_grad():
        for parameter, value in zip(layer.parameters(), values, strict=True):
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    x, dy = torch.from_numpy(problem.x), torch.from_numpy(problem.dy)

    def train() -> tuple[Array, ...]:
        layer.zero_grad()
        y, _ = layer(x)
        y.backward(dy)
        d_kernel, d_recurrent = layer.weight_ih_l0.grad, layer.weight_hh_l0.grad
        return y.detach().numpy(), d_kernel.numpy().T, d_recurrent.numpy().T

    def infer() -> tuple[Array, ...]:
        with torch.set_grad_enabled(grad_mode):
            return (layer(x)[0].detach().numpy(),)

    return train if problem.train else infer


def keras_jax(problem: Problem, ours: bool = False) -> Work:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import jax
    import keras

    import glasscell.keras

    if keras.backend.backend() != "jax":
        raise ImportError("KERAS_BACKEND is not jax")
    layers = glasscell.keras if ours else keras.layers
    layer = layers.LSTM(problem.weights.recurrent_kernel.shape[0], return_sequences=True)
    layer.build(problem.x.shape)
    layer.set_weights(list(problem.weights))
    variables = [v.value for v in layer.trainable_variables]
    frozen = [v.value for v in layer.non_trainable_variables]

    def call(variables: Any, x: Any) -> Any:
        return layer.stateless_call(variables, frozen, x)[0]

    def loss(variables: Any, x: Any, dy: Any) -> Any:
        y = call(variables, x)
        return (y * dy).sum(), y

    infer, gradient = jax.jit(call), jax.jit(jax.grad(loss, has_aux=True))
    x, dy = jax.numpy.asarray(problem.x), jax.numpy.asarray(problem.dy)

    def train() -> tuple[Array, ...]:
        gradients, y = gradient(variables, x, dy)
        return np.asarray(y), np.asarray(gradients[0]), np.asarray(gradients[1])

    return train if problem.train else lambda: (np.asarray(infer(variables, x)),)


class Contestant(NamedTuple):
    """`needs`: the package without which it is left out; `trains`: whether it takes part in training too."""

    name: str
    make: Callable[[Problem], Work]
    needs: str | None = None
    trains: bool = True
    ours: bool = False


CONTESTANTS = [
    Contestant("glasscell", glasscell_numpy, ours=True),
    Contestant("glasscell.keras", lambda p: keras_jax(p, ours=True), "jax", ours=True),
    Contestant("torch", torch_lstm, "torch"),
    Contestant("torch, grad mode", lambda p: torch_lstm(p, grad_mode=True), "torch", trains=False),
    Contestant("Keras on JAX", keras_jax, "jax"),
]


def present(train: bool) -> list[Contestant]:
    """Those that can take part on this machine."""
    return [
        c for c in CONTESTANTS if (c.trains or not train) and (c.needs is None or util.find_spec(c.needs) is not None)
    ]
