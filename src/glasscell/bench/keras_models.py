"""A model of one LSTM layer, of Keras's and of ours, trained and asked a batch at a time. Runs in a worker process."""

from __future__ import annotations

import functools
import time
from typing import Any, NamedTuple

import numpy as np

from glasscell.bench.problem import DROPPED, Array, Work, make_problem
from glasscell.bench.shapes import Shape

CALLS = ("train_on_batch", "predict_on_batch")
LEARNING_RATE = 1.0  # a mean over B T H elements has gradients that small


class First(NamedTuple):
    """What a model gave in its first calls, which is checked.

    results: predict_on_batch's; then train_on_batch's loss, and the change of each weight in it. engines: what ran the
    layer by call, "native" or "framework"; empty for Keras's own. seconds: of each call.
    """

    results: tuple[Array, ...]
    engines: dict[str, str]
    seconds: dict[str, float]


def make(shape: Shape, variant: str, threads: int) -> tuple[dict[tuple[str, ...], Work], dict[str, First]]:
    """The works by contestant and call, and the first results by contestant: "glasscell" and "Keras".

    variant: "plain", "masked", "recurrent-dropout" or "bidirectional".
    """
    import keras

    import glasscell.keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    problem = make_problem(shape, "lengths" if variant == "masked" else "train", threads)
    x, target = problem.x, problem.dy
    if problem.kept is not None:
        x = np.where(problem.kept[:, :, None], x, np.float32(0))
    if variant == "bidirectional":
        target = np.tile(target, 2)
    models = {"glasscell": _model(glasscell.keras, variant, shape), "Keras": _model(keras.layers, variant, shape)}
    models["glasscell"].set_weights(models["Keras"].get_weights())
    works: dict[tuple[str, ...], Work] = {}
    for name, model in models.items():
        works[name, "train_on_batch"] = functools.partial(model.train_on_batch, x, target)
        works[name, "predict_on_batch"] = functools.partial(model.predict_on_batch, x)
    return works, {name: _first(model, {call: works[name, call] for call in CALLS}) for name, model in models.items()}


def _model(layers: Any, variant: str, shape: Shape) -> Any:
    """layers: the module that LSTM and Bidirectional come from."""
    import keras

    rate = DROPPED if variant == "recurrent-dropout" else 0.0
    lstm = layers.LSTM(shape.H, return_sequences=True, recurrent_dropout=rate, seed=0)
    masking = [keras.layers.Masking()] if variant == "masked" else []
    wrapped = layers.Bidirectional(lstm) if variant == "bidirectional" else lstm
    model = keras.Sequential([keras.Input((shape.T, shape.I)), *masking, wrapped])
    model.compile(keras.optimizers.SGD(LEARNING_RATE), "mse")
    return model


def _first(model: Any, works: dict[str, Work]) -> First:
    results: dict[str, Any] = {}
    engines: dict[str, str] = {}
    seconds: dict[str, float] = {}
    before = _weights(model)
    for call in ("predict_on_batch", "train_on_batch"):
        start = time.perf_counter()
        results[call] = np.asarray(works[call]())
        seconds[call] = time.perf_counter() - start
        engines[call] = _engine(model)
    changes = [new - old for new, old in zip(_weights(model), before, strict=True)]
    return First((*results.values(), *changes), engines, seconds)


def _weights(model: Any) -> list[Array]:
    import keras

    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.trainable_variables]


def _engine(model: Any) -> str:
    """What the last call took, "native" only if every layer of ours did; empty where none is ours."""
    engines = {engine for layer in model._flatten_layers() if (engine := getattr(layer, "engine_used", None))}
    return "framework" if "framework" in engines else "".join(engines)
