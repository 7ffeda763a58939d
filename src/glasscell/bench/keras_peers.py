"""Keras's LSTM layer, and ours in its place, on whichever backend this process has. Runs in a worker process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from glasscell.bench.problem import DROPPED, Array, Problem, Work

MODES = ("infer", "train", "lengths", "lengths-train", "recurrent-dropout")


def make(problem: Problem, ours: bool) -> tuple[Work, Array | None]:
    """The work, and with recurrent dropout the masks that Keras draws in the first call, (4, B, H).

    Training is a jitted gradient function of the layer, or its like on the backend: no optimiser, no model.
    """
    import keras

    backend = keras.backend.backend()
    layer = _layer(problem, ours)
    mask = _drawn(layer, problem) if problem.mode == "recurrent-dropout" else None
    options: dict[str, Any] = {"training": problem.train}
    if problem.kept is not None:
        options["mask"] = keras.ops.convert_to_tensor(problem.kept)
    makers: dict[str, Callable[..., Work]] = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}
    return makers[backend](layer, problem, options), mask


def _layer(problem: Problem, ours: bool) -> Any:
    import keras

    arguments: dict[str, Any] = {"return_sequences": True, "seed": 0}
    if problem.mode == "recurrent-dropout":
        arguments["recurrent_dropout"] = DROPPED
    if ours:
        from glasscell.keras import LSTM

        layer = LSTM(problem.shape.H, engine="native", **arguments)
    else:
        layer = keras.layers.LSTM(problem.shape.H, **arguments)
    layer.build(problem.x.shape)
    layer.set_weights([*problem.weights, *layer.get_weights()[3:]])  # then the state of the draws
    return layer


def _drawn(layer: Any, problem: Problem) -> Array:
    """The masks of the next call, which will draw them again."""
    from keras import ops

    cell = layer.cell
    state = ops.convert_to_numpy(cell.seed_generator.state).copy()
    masks = cell.get_recurrent_dropout_mask(ops.ones((problem.shape.B, problem.shape.H)))
    values = np.stack([ops.convert_to_numpy(mask) for mask in masks])
    cell.reset_recurrent_dropout_mask()
    cell.seed_generator.state.assign(state)
    return values


def _jax(layer: Any, problem: Problem, options: dict[str, Any]) -> Work:
    import jax

    variables = [v.value for v in layer.trainable_variables]
    frozen = [v.value for v in layer.non_trainable_variables]

    def call(variables: Any, x: Any) -> Any:
        return layer.stateless_call(variables, frozen, x, **options)[0]

    def loss(variables: Any, x: Any, dy: Any) -> Any:
        y = call(variables, x)
        return (y * dy).sum(), y

    infer, gradient = jax.jit(call), jax.jit(jax.grad(loss, has_aux=True))
    x, dy = jax.numpy.asarray(problem.x), jax.numpy.asarray(problem.dy)

    def train() -> tuple[Array, ...]:
        gradients, y = gradient(variables, x, dy)
        return np.asarray(y), np.asarray(gradients[0]), np.asarray(gradients[1])

    return train if problem.train else lambda: (np.asarray(infer(variables, x)),)


def _tensorflow(layer: Any, problem: Problem, options: dict[str, Any]) -> Work:
    import tensorflow as tf

    x, dy = tf.constant(problem.x), tf.constant(problem.dy)
    variables = [v.value for v in layer.trainable_variables][:2]

    @tf.function  # type: ignore[untyped-decorator]
    def infer(x: Any) -> Any:
        return layer(x, **options)

    @tf.function  # type: ignore[untyped-decorator]
    def gradient(x: Any, dy: Any) -> Any:
        with tf.GradientTape() as tape:
            y = layer(x, **options)
            loss = tf.reduce_sum(y * dy)
        return (y, *tape.gradient(loss, variables))

    if problem.train:
        return lambda: tuple(tensor.numpy() for tensor in gradient(x, dy))
    return lambda: (infer(x).numpy(),)


def _torch(layer: Any, problem: Problem, options: dict[str, Any]) -> Work:
    import torch

    x, dy = torch.from_numpy(problem.x), torch.from_numpy(problem.dy)
    variables = [v.value for v in layer.trainable_variables][:2]

    def infer() -> tuple[Array, ...]:
        with torch.no_grad():
            return (layer(x, **options).numpy(),)

    def train() -> tuple[Array, ...]:
        y = layer(x, **options)
        gradients = torch.autograd.grad(y, variables, dy)
        return y.detach().numpy(), gradients[0].numpy(), gradients[1].numpy()

    return train if problem.train else infer
