"""Random layers against those of Keras with the same weights and seed, on the backend of this process.

tests/keras/test_keras_backends.py runs this file on the others. `.ci/run` takes 200 of them on each backend; by
default they are fewer, for JAX compiles for seconds what it then runs once.
"""

import os

import keras
import numpy as np
import pytest
from beside import BACKEND, LIBRARIES, assert_agree, learn
from keras import ops

from glasscell._cells.activations import BUILT_IN

CONFIGURATIONS = int(os.environ.get("CONFIGURATIONS", "16"))  # `.ci/run` takes more
# Few shapes, for some backends compile for each.
SHAPES = [(1, 1, 1, 1), (3, 5, 5, 4), (2, 6, 7, 13), (5, 3, 17, 8), (8, 2, 3, 19)]


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
    shares = {"return_sequences": 0.6, "return_state": 0.5, "go_backwards": 0.4, "stateful": 0.2, "unroll": 0.2}
    layer = {name: chance(share) for name, share in shares.items()}
    kinds = ["LSTM", "RNN", "stack", "Bidirectional", "Bidirectional stack"]
    kind = str(rng.choice(kinds, p=[0.4, 0.2, 0.2, 0.15, 0.05]))
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
        layer["stateful"] = False  # Keras cannot: no nested state; on torch it overwrites what autograd keeps
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
    theirs, mine = map(make, LIBRARIES)
    weights = [rng.standard_normal(w.shape) / w.shape[0] ** 0.5 for w in theirs.trainable_weights]
    for made in (theirs, mine):
        for variable, value in zip(made.trainable_weights, weights, strict=True):
            variable.assign(value)
    x = rng.standard_normal((B, T, features)).astype("float32")
    return theirs, mine, x, call


def in_tensors(x, call):
    call = {k: v if k == "training" else keras.tree.map_structure(ops.convert_to_tensor, v) for k, v in call.items()}
    return ops.convert_to_tensor(x), call


@pytest.mark.parametrize("seed", range(CONFIGURATIONS))
def test_outputs_states_draws_and_gradients(seed):
    theirs, mine, x, call = random_layers(seed)
    expected, got = (learn(layer, *in_tensors(x, call)) for layer in (theirs, mine))
    few = BACKEND == "jax" and x.shape[1] == 1 and x.shape[0] < 8  # a single step of few rows is faster in Keras
    assert mine.engine_used == ("framework" if few else "native")
    for what, *parts in zip(("outputs", "gradients", "moved"), got, expected, strict=True):
        assert_agree(*parts, what=f"{what}, {mine.get_config()} {list(call)}")


KINDS = {  # the layers of a model for sequences of four features; without a seed PyTorch's own generator draws
    "LSTM": lambda lib, o: [lib.LSTM(3, **o)],
    "backwards": lambda lib, o: [lib.LSTM(3, go_backwards=True, **o)],
    "RNN": lambda lib, o: [lib.RNN(lib.LSTMCell(3, **o))],
    "stack": lambda lib, o: [lib.RNN([lib.LSTMCell(3, **o), lib.LSTMCell(2, **o)])],
    "Bidirectional": lambda lib, o: [lib.Bidirectional(lib.LSTM(3, **o))],
    "Bidirectional RNN": lambda lib, o: [lib.Bidirectional(lib.RNN(lib.LSTMCell(3, **o)), merge_mode="sum")],
    "Bidirectional stack": lambda lib, o: [lib.Bidirectional(lib.RNN([lib.LSTMCell(3, **o), lib.LSTMCell(2)]))],
    "one on another": lambda lib, o: [
        lib.Bidirectional(lib.LSTM(3, return_sequences=True, **o)),
        lib.LSTM(3, return_sequences=True, **o),
        lib.LSTM(2, **o),
    ],
}
RATES = {"dropout": (0.4, 0), "recurrent": (0, 0.4), "both": (0.3, 0.3)}


def loss_of_batches(library, kind, rates, functional, masked):
    """Trains a model that is not built with `fit`; gives the losses of six batches and `evaluate`, and the engines."""
    keras.utils.set_random_seed(5)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((24, 5, 4)).astype("float32"), rng.standard_normal((24, 1)).astype("float32")
    x[rng.random((24, 5)) < 0.3] = 0
    cell = {"dropout": rates[0], "recurrent_dropout": rates[1]}
    parts = [keras.layers.Masking()] * masked + [*KINDS[kind](library, cell), keras.layers.Dense(1)]
    if functional:
        inputs = outputs = keras.Input((5, 4))
        for part in parts:
            outputs = part(outputs)
        model = keras.Model(inputs, outputs)
    else:
        model = keras.Sequential(parts)  # without an Input: built by the first batch
    losses = []
    keep = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: losses.append(float(logs["loss"])))
    model.compile(keras.optimizers.SGD(0.5), "mse")
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[keep])
    losses.append(model.evaluate(x, y, verbose=0))
    return losses, [layer.engine_used for layer in model.layers if hasattr(layer, "engine_used")]


# PyTorch draws outside of any graph, where one draw more or less is easily made; the others compile, for seconds.
WAYS = [(kind, rates, functional) for kind in KINDS for rates in RATES for functional in (False, True)]
WAYS = WAYS if BACKEND == "torch" else WAYS[::5]


@pytest.mark.parametrize(("kind", "rates", "functional"), WAYS)
def test_training_draws_as_keras_does(kind, rates, functional):
    masked = kind in ("RNN", "stack", "one on another")
    found = [loss_of_batches(library, kind, RATES[rates], functional, masked) for library in LIBRARIES]
    (expected, _), (losses, engines) = found
    assert len(expected) == 7
    assert set(engines) == {"native"}
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
