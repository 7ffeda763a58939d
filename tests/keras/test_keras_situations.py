"""Situations put together at random: our layers beside those of `keras.layers`, with the same weights and seeds.

Subclasses, methods set on objects, hooks, wrappers, nested models, odd masks and odd inputs, changed between calls.
Outputs, states, random draws, errors and a step of training must be Keras's. A seed is a situation: its test can be
run alone. On the backend of this process; tests/keras/test_keras_backends.py runs this file on the others.
"""

import contextlib
import os
import types

import keras
import numpy as np
import pytest
from beside import BACKEND, RELATIVE, call_with, double, framework, learn, numbers, ones, other_loop, other_start
from keras import layers, ops

import glasscell.keras as ours
from compare import assert_close

# JAX and TensorFlow take their time over single operations. `.ci/run` takes 150 on each backend.
SITUATIONS = int(os.environ.get("SITUATIONS", {"torch": "32", "tensorflow": "8"}.get(BACKEND, "8")))
SHAPES = [(2, 3, 3, 3), (3, 4, 2, 5), (1, 2, 4, 1)]  # B, T, F, H: few, for some backends compile for each


def first_steps_only(self, x, mask):
    kept = ops.cast(ops.ones(x.shape[:2]), "bool") if mask is None else mask
    return ops.logical_and(ops.cast(kept, "bool"), ops.arange(x.shape[1])[None] > 0) if len(kept.shape) == 2 else kept


OF_LAYERS = [
    call_with(training=lambda *_: True),
    call_with(sequences=lambda self, x, _: x * 2),
    call_with(mask=first_steps_only),
    other_loop,
    other_start,
]


OF_CELLS = [double, ones]


class Situation:
    """What one seed chose. Everything is drawn before a layer is made, so both libraries' are the same."""

    def __init__(self, seed):
        self.rng = rng = np.random.default_rng(seed)
        self.seed = seed
        self.B, self.T, self.F, self.H = SHAPES[rng.integers(len(SHAPES))]
        self.kind = str(rng.choice(["LSTM", "RNN", "stack"], p=[0.5, 0.3, 0.2]))
        self.wrap = str(rng.choice(["", "Bidirectional", "TimeDistributed", "model", "Masking", "Embedding"],
                                   p=[0.2, 0.45, 0.05, 0.1, 0.1, 0.1]))  # fmt: skip
        self.subclass = rng.choice(len(OF_LAYERS)) if self.chance(0.3) else None
        self.patched = rng.choice(len(OF_LAYERS)) if self.chance(0.15) else None
        self.cell = rng.choice(len(OF_CELLS)) if self.chance(0.2) else None
        self.hook = str(rng.choice(["input", "in place", "output", "cell"])) if self.chance(0.25) else None
        self.input = str(rng.choice(["tensor", "NumPy", "float64", "int64", "turned", "Variable"]))
        self.mask = str(
            rng.choice(["", "bool", "int32", "float32", "last axis", "features"], p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
        )
        self.state, self.between = self.chance(0.25), self.chance(0.3)
        self.training = [self.chance(0.5) for _ in range(int(rng.integers(1, 3)))]
        drop = [0, 0, 0.4]
        self.drop = {"dropout": float(rng.choice(drop)), "recurrent_dropout": float(rng.choice(drop)), "seed": 1}
        self.options = {name: self.chance(share) for name, share in
                        {"return_sequences": 0.6, "return_state": 0.2, "go_backwards": 0.2, "unroll": 0.15,
                         "stateful": 0.1, "zero_output_for_mask": 0.2}.items()}  # fmt: skip
        if self.wrap in ("Bidirectional", "TimeDistributed", "model"):
            self.options |= {"go_backwards": False, "return_state": False}
        if self.kind == "stack" or self.wrap in ("TimeDistributed", "Embedding"):
            self.options["stateful"] = False  # Keras flattens no nested state
        if BACKEND == "torch" and self.options["stateful"]:
            self.drop |= {"dropout": 0.0, "recurrent_dropout": 0.0}

    def chance(self, share):
        return bool(self.rng.random() < share)

    def __repr__(self):
        return str({name: value for name, value in vars(self).items() if name != "rng"})

    def make(self, library):
        """The layer, built and with weights, and the recurrent layer in it."""
        keras.utils.set_random_seed(self.seed)
        kinds = {"LSTM": library.LSTM, "RNN": library.RNN, "LSTMCell": library.LSTMCell}
        base, cell = kinds["LSTM" if self.kind == "LSTM" else "RNN"], library.LSTMCell
        if self.subclass is not None:
            base = type("Sub", (base,), OF_LAYERS[self.subclass](base))
        if self.cell is not None and self.kind != "LSTM":
            cell = type("Cell", (cell,), OF_CELLS[self.cell](cell))
        with keras.saving.custom_object_scope({"Sub": base, "Cell": cell}):
            if self.kind == "LSTM":
                layer = base(self.H, **self.drop, **self.options)
            elif self.kind == "RNN":
                layer = base(cell(self.H, **self.drop), **self.options)
            else:
                cells = [cell(self.H, **self.drop), cell(self.H, **self.drop)]
                layer = base(library.StackedRNNCells(cells), **self.options)
            recurrent, outer = layer, layer
            if self.wrap == "Bidirectional":
                merge = ["concat", "sum", None][self.seed % 3]
                outer = library.Bidirectional(layer, merge_mode=merge)
                recurrent = outer.forward_layer
            elif self.wrap == "TimeDistributed":
                outer = layers.TimeDistributed(layer)
        if self.wrap in ("model", "Masking", "Embedding"):
            first = {"Masking": [layers.Masking()], "Embedding": [layers.Embedding(4, self.F, mask_zero=True)]}
            parts = [*first.get(self.wrap, []), library.Bidirectional(library.LSTM(self.F, return_sequences=True))]
            outer = Chain([*parts, layer])
        outer.build(self.shape())
        draws = np.random.default_rng(self.seed + 1)
        for variable in outer.trainable_variables:
            variable.assign(draws.standard_normal(variable.shape) / variable.shape[0] ** 0.5)
        if self.patched is not None:
            for name, function in OF_LAYERS[self.patched](type(recurrent)).items():
                setattr(recurrent, name, types.MethodType(function, recurrent))
        return outer, recurrent

    def shape(self):
        if self.wrap == "Embedding":
            return (self.B, self.T)
        return (self.B, 2, self.T, self.F) if self.wrap == "TimeDistributed" else (self.B, self.T, self.F)

    def arguments(self):
        """Makes the input, and a dictionary of the other arguments, anew for each call: hooks write into them."""
        draws = np.random.default_rng(self.seed + 2)
        x = draws.standard_normal(self.shape()).astype("float32")
        mask = draws.random((self.B, self.T)) < 0.6
        state = [draws.standard_normal((self.B, self.H)).astype("float32") for _ in range(8)]
        if self.wrap == "Masking":
            x[~mask] = 0
        x = np.abs(x * 2).astype("int64") % 4 if self.wrap == "Embedding" else x
        x = x.astype(self.input) if self.input in ("float64", "int64") else x
        x = np.ascontiguousarray(x.T).T if self.input == "turned" else x
        if self.input not in ("NumPy", "float64"):
            x = ops.convert_to_tensor(x)
        if self.input == "Variable" and BACKEND == "tensorflow":
            x = framework.Variable(x)
        rest = {}
        if self.wrap in ("", "Bidirectional") and self.mask:
            last = {"last axis": 1, "features": self.F}.get(self.mask)
            m = mask if last is None else mask[:, :, None] & (draws.random((self.B, self.T, last)) < 0.8)
            rest["mask"] = ops.convert_to_tensor(m.astype(self.mask) if self.mask in ("int32", "float32") else m)
        if self.wrap in ("", "Bidirectional") and self.state:
            tensors = [ops.convert_to_tensor(s) for s in state]
            of_one = [tensors[:2], tensors[2:4]] if self.kind == "stack" else tensors[:2]
            rest["initial_state"] = of_one * 2 if self.wrap else of_one
        return x, rest

    @contextlib.contextmanager
    def hooked(self, layer):
        handle = None
        if self.hook is not None and BACKEND == "torch":
            handle = {
                "input": lambda: layer.register_forward_pre_hook(lambda _, a: (a[0] * 2, *a[1:])),
                "in place": lambda: layer.register_forward_pre_hook(add_one),
                "output": lambda: layer.register_forward_hook(halve),
                "cell": lambda: layer.cell.register_forward_pre_hook(lambda _, a: (a[0] + 1, *a[1:])),
            }[self.hook]()
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()


def add_one(module, arguments):
    arguments[0].add_(1)


def halve(module, arguments, output):
    arguments[0].mul_(0.5)


class Chain(keras.layers.Layer):
    """Layers one after another, as a model nests them."""

    def __init__(self, parts):
        super().__init__()
        self.parts = parts
        self.supports_masking = True

    def build(self, shape):
        for part in self.parts:
            part.build(shape)
            shape = part.compute_output_shape(shape)

    def call(self, x, training=None):
        for part in self.parts:
            x = part(x, training=training) if part._call_has_training_arg else part(x)
        return x


def change(x):
    """The input in place, where the backend has that; else another."""
    if BACKEND == "torch" and ops.is_tensor(x):
        return x.mul_(2)
    if BACKEND == "tensorflow" and hasattr(x, "assign"):
        x.assign(x + x)
        return x
    return x * 2


def happens(situation, library):
    """Gives everything that can be seen of a situation, and the error that it ends with, if any."""
    seen = []
    try:
        layer, recurrent = situation.make(library)
        with situation.hooked(recurrent):
            x, rest = situation.arguments()
            for training in situation.training:
                seen += numbers(layer(x, training=training, **rest))
                x = change(x) if situation.between else x
            x, rest = situation.arguments()
            if situation.hook != "output":  # which writes into what the gradient needs
                for part in learn(layer, x, {"training": True, **rest}, inputs=False):
                    seen += part
            seen += numbers([v.value for v in layer.non_trainable_variables])
    except Exception as error:  # whatever the backend raises for what Keras cannot do
        return seen, error
    return seen, None


@pytest.mark.filterwarnings("default")  # Keras warns of masks that its wrappers lose
@pytest.mark.parametrize("seed", range(SITUATIONS))
def test_a_situation_is_what_it_is_in_keras(seed):
    situation = Situation(seed)
    # On JAX a scan compiles for longer than it takes to run a few steps.
    with framework.disable_jit() if BACKEND == "jax" else contextlib.nullcontext():
        expected, failed = happens(situation, layers)
        got, error = happens(situation, ours)
    if failed is None and error is not None:
        raise AssertionError(str(situation)) from error
    for k, (g, e) in enumerate(zip(got, expected, strict=failed is None)):  # up to where Keras fails, if it does
        assert_close(g, e, RELATIVE, f"{k} of {situation}")
