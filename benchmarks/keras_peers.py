"""Keras's LSTM layer, and ours in its place, alone and in a model, on the backend that this process has.

Runs in the process of a worker, whose works it keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.problem import DROPPED, SEED, Array, Problem, first_results, make_problem
from glasscell._cli import bench
from glasscell._cli.contestants import Shape, Work, keras_model

_works: dict[str, Work] = {}
_row: tuple[Any, ...] = ()


def make(shape: Shape, mode: str, threads: int, name: str, ours: bool) -> tuple[tuple[Array, ...], Array | None, str]:
    """Make a work and keep it by its name, among those of the same row.

    Returns: its first results; with recurrent dropout the masks that Keras drew for them, (4, B, H), else None; and in
    a model the engine of our layer, "native" or "framework", else nothing.
    """
    import keras

    global _row
    if _row != (shape, mode):  # the memory of the row before comes first
        _works.clear()
        keras.utils.clear_session()
        _row = shape, mode
    keras.utils.set_random_seed(SEED)
    if keras.backend.backend() == "torch":  # which does not take them from the environment
        import torch

        torch.set_num_threads(threads)
    problem = make_problem(shape, mode, threads)
    layer = _layer(problem, ours)
    drawn = _drawn(layer, problem) if "recurrent-dropout" in mode and problem.train else None
    makers: dict[str, Callable[..., Work]] = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}
    of_model = mode.startswith("keras ")
    work = _works[name] = (_model if of_model else makers[keras.backend.backend()])(layer, problem)
    results = first_results(work, problem)
    return results, drawn, _engine(layer) if of_model and ours else ""


def turn(name: str, seconds: float) -> float:
    return bench.turn(_works[name], seconds)


def _layer(problem: Problem, ours: bool) -> Any:
    """A layer with the problem's weights. Alone, ours is an error where it is not native."""
    import keras

    import glasscell.keras

    layers, both = glasscell.keras if ours else keras.layers, "bidirectional" in problem.mode
    engine = {"engine": "auto" if problem.mode.startswith("keras ") else "native"} if ours else {}
    rate = DROPPED if "recurrent-dropout" in problem.mode else 0.0
    layer = layers.LSTM(problem.shape.H, return_sequences=True, recurrent_dropout=rate, seed=SEED, **engine)
    layer = layers.Bidirectional(layer) if both else layer
    layer.build(problem.x.shape)
    weights = list(problem.weights) * (1 + both)
    layer.set_weights([*weights, *layer.get_weights()[len(weights) :]])  # then the state of the draws
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


def _engine(layer: Any) -> str:
    """The engine of the last call, "native" only if every layer ran natively."""
    engines = {engine for part in layer._flatten_layers() if (engine := getattr(part, "engine_used", None))}
    return "framework" if "framework" in engines else "".join(engines)


def _model(layer: Any, problem: Problem) -> Work:
    """A model of this layer, trained or asked a batch at a time."""
    import keras

    x, target = problem.x, np.tile(problem.dy, 2) if "bidirectional" in problem.mode else problem.dy
    if problem.kept is None:
        return keras_model([layer], x, target, problem.train)
    x = np.where(problem.kept[:, :, None], x, np.float32(0))
    return keras_model([keras.layers.Masking(), layer], x, target, problem.train)


# A layer alone: its jitted function and gradient function, or their like on the backend; no optimiser, no model.


def _options(problem: Problem) -> dict[str, Any]:
    from keras import ops

    mask = {} if problem.kept is None else {"mask": ops.convert_to_tensor(problem.kept)}
    return {"training": problem.train, **mask}


def _jax(layer: Any, problem: Problem) -> Work:
    import jax

    variables = [v.value for v in layer.trainable_variables]
    frozen, options = [v.value for v in layer.non_trainable_variables], _options(problem)
    x, dy = jax.numpy.asarray(problem.x), jax.numpy.asarray(problem.dy)

    def loss(variables: Any, x: Any, dy: Any) -> Any:
        y = layer.stateless_call(variables, frozen, x, **options)[0]
        return (y * dy).sum(), y

    @jax.jit  # type: ignore[untyped-decorator]
    def run(variables: Any, x: Any, dy: Any) -> Any:
        if not problem.train:
            return loss(variables, x, dy)[1:]
        gradients, y = jax.grad(loss, has_aux=True)(variables, x, dy)
        return y, *gradients

    return lambda: tuple(map(np.asarray, run(variables, x, dy)[:3]))


def _tensorflow(layer: Any, problem: Problem) -> Work:
    import tensorflow as tf

    x, dy, options = tf.constant(problem.x), tf.constant(problem.dy), _options(problem)
    variables = [v.value for v in layer.trainable_variables][:2]

    @tf.function  # type: ignore[untyped-decorator]
    def run(x: Any, dy: Any) -> Any:
        if not problem.train:
            return (layer(x, **options),)
        with tf.GradientTape() as tape:
            y = layer(x, **options)
            loss = tf.reduce_sum(y * dy)
        return y, *tape.gradient(loss, variables)

    return lambda: tuple(tensor.numpy() for tensor in run(x, dy))


def _torch(layer: Any, problem: Problem) -> Work:
    import torch

    x, dy, options = torch.from_numpy(problem.x), torch.from_numpy(problem.dy), _options(problem)
    variables = [v.value for v in layer.trainable_variables][:2]

    def work() -> tuple[Array, ...]:
        with torch.set_grad_enabled(problem.train):
            y = layer(x, **options)
        gradients = torch.autograd.grad(y, variables, dy) if problem.train else ()
        return tuple(tensor.detach().numpy() for tensor in (y, *gradients))

    return work
