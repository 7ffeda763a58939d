"""Random layers against those of Keras with the same weights and seed, on the backend of this process.

tests/keras/test_keras_backends.py runs this file on the others. `.ci/run` takes 200 of them on each backend; by
default they are fewer, for JAX compiles for seconds what it then runs once.
"""

import os

import keras
import numpy as np
import pytest
from keras import ops

import glasscell.keras as ours
from compare import assert_close
from glasscell._cells.activations import BUILT_IN

BACKEND = keras.backend.backend()
CONFIGURATIONS = int(os.environ.get("CONFIGURATIONS", "24"))
# Both sides sum in float32, in another order: a few roundings of the largest value, grown over up to a dozen steps.
RELATIVE = 1e-5

SHAPES = [
    (1, 1, 1, 1),
    (3, 5, 5, 4),
    (2, 6, 7, 13),
    (5, 3, 17, 8),
    (8, 2, 3, 19),
]  # few: some backends compile for each


def random_layers(seed):
    """A Keras layer, ours with the same configuration and weights, and what to call both with."""
    rng = np.random.default_rng(seed)

    def chance(share):
        return bool(rng.random() < share)

    B, T, features, H = SHAPES[rng.integers(len(SHAPES))]
    names = [n for n in BUILT_IN if n != "exponential"]  # which overflows over time
    standard, regularized = chance(0.6), chance(0.3)
    cell = {
        "activation": "tanh" if standard else str(rng.choice(names)),
        "recurrent_activation": "sigmoid" if standard else str(rng.choice(["hard_sigmoid", "sigmoid", "softsign"])),
        "use_bias": chance(0.8),
        "unit_forget_bias": chance(0.5),
        "dropout": float(rng.choice([0, 0, 0.3])),
        "recurrent_dropout": float(rng.choice([0, 0, 0.3])),
        "kernel_regularizer": "l2" if regularized else None,
        "recurrent_regularizer": "l1" if regularized else None,
        "seed": int(seed),
        **dict.fromkeys(["kernel_initializer", "recurrent_initializer", "bias_initializer"], "zeros"),  # then random
    }
    layer = {
        "return_sequences": chance(0.6),
        "return_state": chance(0.5),
        "go_backwards": chance(0.4),
        "stateful": chance(0.2),
        "unroll": chance(0.2),
    }
    kind = str(
        rng.choice(["LSTM", "RNN", "stack", "Bidirectional", "Bidirectional stack"], p=[0.4, 0.2, 0.2, 0.15, 0.05])
    )
    call = {"training": chance(0.7)}
    if chance(0.5):
        call["mask"] = rng.random((B, T)) < 0.7
        if layer["go_backwards"]:
            layer["unroll"] = False  # runs in the framework
    if kind.startswith("Bi"):
        layer["go_backwards"] = False
        if layer["stateful"]:
            layer["return_state"] = False  # where Keras fails, in compute_mask
        if "mask" in call:
            layer["unroll"] = False  # see the above, of its backward layer
    else:
        layer["zero_output_for_mask"] = chance(0.4)
    widths = [H, H + 3] if "stack" in kind else [H]
    if "stack" in kind or (BACKEND == "torch" and "mask" not in call):
        layer["stateful"] = (
            False  # Keras cannot: it flattens no nested state; on torch it overwrites what autograd keeps
        )
    if chance(0.4):
        states = [[rng.standard_normal((B, width)).astype("float32") for _ in "hc"] for width in widths]
        states = states if "stack" in kind else states[0]
        call["initial_state"] = states * 2 if kind.startswith("Bi") else states

    def make(library):
        def rnn(**extra):
            if kind.endswith("LSTM") or kind == "Bidirectional":
                return library.LSTM(H, **cell, **layer, **extra)
            cells = [library.LSTMCell(width, **cell) for width in widths]
            return library.RNN(library.StackedRNNCells(cells) if "stack" in kind else cells[0], **layer, **extra)

        made = library.Bidirectional(rnn(), merge_mode=merge) if kind.startswith("Bi") else rnn()
        made.build((B, T, features))
        return made

    merge = [None, "sum", "mul", "ave", "concat"][rng.integers(5)]
    theirs, mine = make(keras.layers), make(ours)
    weights = [rng.standard_normal(w.shape) / w.shape[0] ** 0.5 for w in theirs.trainable_weights]
    for made in (theirs, mine):
        for variable, value in zip(made.trainable_weights, weights, strict=True):
            variable.assign(value)
    x = rng.standard_normal((B, T, features)).astype("float32")
    return theirs, mine, x, call


def flat(values):
    return [np.asarray(ops.convert_to_numpy(v)) for v in keras.tree.flatten(values)]


def total(outputs, losses):
    """A weighted sum of all outputs, and what the layer adds to a model's loss."""
    draws = np.random.default_rng(1)
    outputs = keras.tree.flatten(outputs)
    weights = [ops.convert_to_tensor(draws.standard_normal(o.shape).astype("float32")) for o in outputs]
    return sum(ops.sum(o * w) for o, w in zip(outputs, weights, strict=True)) + sum(losses)


def jax_run(layer, x, call):
    import jax

    trainable = [v.value for v in layer.trainable_variables]
    frozen = [v.value for v in layer.non_trainable_variables]
    state = call.pop("initial_state", None)

    def loss(variables, x, state):
        extra = {} if state is None else {"initial_state": state}
        outputs, moved, losses = layer.stateless_call(variables, frozen, x, return_losses=True, **call, **extra)
        return total(outputs, losses), (outputs, moved)

    both = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    (_, (outputs, moved)), gradients = both(trainable, x, state)
    return outputs, moved, gradients


def torch_run(layer, x, call):
    import torch

    x = torch.tensor(x, requires_grad=True)
    states = (
        [s.requires_grad_() for s in keras.tree.flatten(call.get("initial_state"))] if "initial_state" in call else []
    )
    outputs = layer(x, **call)
    sources = [x, *states, *(v.value for v in layer.trainable_variables)]
    gradients = torch.autograd.grad(total(outputs, layer.losses), sources, allow_unused=True)
    with torch.no_grad():
        return (
            [o.detach() for o in keras.tree.flatten(outputs)],
            [v.value for v in layer.non_trainable_variables],
            [torch.zeros_like(s) if g is None else g for s, g in zip(sources, gradients, strict=True)],
        )


def tensorflow_run(layer, x, call):
    import tensorflow as tf

    x = tf.constant(x)
    states = keras.tree.flatten(call["initial_state"]) if "initial_state" in call else []
    sources = [x, *states, *(v.value for v in layer.trainable_variables)]
    with tf.GradientTape() as tape:
        for tensor in [x, *states]:
            tape.watch(tensor)
        outputs = layer(x, **call)
        loss = total(outputs, layer.losses)
    gradients = tape.gradient(loss, sources, unconnected_gradients="zero")
    return outputs, [v.value for v in layer.non_trainable_variables], gradients


RUN = {"jax": jax_run, "torch": torch_run, "tensorflow": tensorflow_run}[BACKEND]


def run(layer, x, call):
    """Outputs; what a call moves (states, seeds); gradients of x, the initial states and the weights."""
    tensors = {
        name: value if name == "training" else keras.tree.map_structure(ops.convert_to_tensor, value)
        for name, value in call.items()
    }
    return [flat(part) for part in RUN(layer, x, tensors)]


@pytest.mark.parametrize("seed", range(CONFIGURATIONS))
def test_outputs_states_draws_and_gradients(seed):
    theirs, mine, x, call = random_layers(seed)
    expected, got = run(theirs, x, call), run(mine, x, call)
    few = BACKEND == "jax" and x.shape[1] == 1 and x.shape[0] < 8  # a single step of few rows is faster in Keras
    assert mine.engine_used == ("framework" if few else "native")
    for what, parts, right in zip(("output", "moved", "gradient"), got, expected, strict=True):
        for k, (g, e) in enumerate(zip(parts, right, strict=True)):
            assert_close(g, e, RELATIVE, f"{what} {k} of {mine.get_config()} {list(call)}")


def recurrent_layers(library, kind, rates):
    """The layers of a model for sequences of four features."""
    cell = {"dropout": rates[0], "recurrent_dropout": rates[1]}  # without a seed: PyTorch's own generator draws
    if kind == "LSTM":
        return [library.LSTM(3, **cell)]
    if kind == "backwards":
        return [library.LSTM(3, go_backwards=True, **cell)]
    if kind == "RNN":
        return [library.RNN(library.LSTMCell(3, **cell))]
    if kind == "stack":
        return [library.RNN([library.LSTMCell(3, **cell), library.LSTMCell(2, **cell)])]
    if kind == "Bidirectional":
        return [library.Bidirectional(library.LSTM(3, **cell))]
    if kind == "Bidirectional RNN":
        return [library.Bidirectional(library.RNN(library.LSTMCell(3, **cell)), merge_mode="sum")]
    if kind == "Bidirectional stack":
        return [library.Bidirectional(library.RNN([library.LSTMCell(3, **cell), library.LSTMCell(2)]))]
    first = library.Bidirectional(library.LSTM(3, return_sequences=True, **cell))
    return [first, library.LSTM(3, return_sequences=True, **cell), library.LSTM(2, **cell)]


KINDS = [
    "LSTM", "backwards", "RNN", "stack", "Bidirectional", "Bidirectional RNN", "Bidirectional stack", "one on another",
]  # fmt: skip


RATES = {"dropout": (0.4, 0), "recurrent": (0, 0.4), "both": (0.3, 0.3)}


def loss_of_batches(library, kind, rates, functional, masked):
    """The losses of six batches that `fit` trains on, in a model that has not been built before."""
    keras.utils.set_random_seed(5)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((24, 5, 4)).astype("float32"), rng.standard_normal((24, 1)).astype("float32")
    x[rng.random((24, 5)) < 0.3] = 0
    parts = [
        *([keras.layers.Masking()] if masked else []),
        *recurrent_layers(library, kind, rates),
        keras.layers.Dense(1),
    ]
    if functional:
        inputs = outputs = keras.Input((5, 4))
        for part in parts:
            outputs = part(outputs)
        model = keras.Model(inputs, outputs)
    else:
        model = keras.Sequential(parts)  # without an Input: built by the first batch
    losses = []
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: losses.append(float(logs["loss"])))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[note])
    return losses


# PyTorch draws outside of any graph, where one draw more or less is easily made; the others compile, for seconds.
WAYS = [(kind, rates, functional) for kind in KINDS for rates in RATES for functional in (False, True)]
WAYS = WAYS if BACKEND == "torch" else WAYS[::5]


@pytest.mark.parametrize(("kind", "rates", "functional"), WAYS)
def test_training_draws_as_keras_does(kind, rates, functional):
    masked = kind in ("RNN", "stack", "one on another")
    found = [loss_of_batches(library, kind, RATES[rates], functional, masked) for library in (keras.layers, ours)]
    assert len(found[0]) == 6
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)
