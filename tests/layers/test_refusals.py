"""Every door of NumPy's, called with what a user may take for right: one sentence says what was expected and what came.

A door is an argument of a public entry. What is given is of every kind that is not the door's own.
"""

import pathlib
import re

import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

import glasscell as gc

B, T, I, H = 2, 3, 4, 5
X = np.ones((B, T, I), np.float32)
PATH = pathlib.Path(__file__).parent

# An argument, what was expected and what came; or the sentence of Python's that names a method's argument.
FORM = re.compile(r"^[\w.]+(, \w+)?( of \w+)?: .*expected .+[,;] got .+")
PYTHONS = re.compile(
    r"^[\w.]+\(\) (missing \d+ required positional arguments?: '\w+'.*$"
    r"|got an unexpected keyword argument '\w+'|takes .* positional arguments? but \d+ were given)"
)
INSIDE = re.compile(r"\.py\b|_native|nanobind|overload|incompatible function| at 0x|\.tmp|__init__|\n")


def lstm(**arguments):
    return gc.LSTM(H, return_sequences=True, **arguments).build(I, seed=0)


def both():
    return gc.Bidirectional(lstm()).build(I, seed=0)


def stack():
    return gc.RNN(gc.StackedRNNCells([gc.LSTMCell(H), gc.LSTMCell(2)])).build(I, seed=0)


def assert_refused(call, pythons=False):
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        call()
    said = str(caught.value)
    if not (pythons and PYTHONS.match(said)):
        assert FORM.match(re.sub(r"^\[Errno \d+\] ", "", said)), said
        assert not INSIDE.search(said), said
    assert len(said) < 300, said


ARRAYS = {
    "with a gradient": torch.zeros(B, T, I, requires_grad=True), "on meta": torch.zeros(B, T, I, device="meta"),
    "bfloat16": torch.zeros(B, T, I, dtype=torch.bfloat16), "sparse": torch.zeros(B, T, I).to_sparse(),
    "packed": torch.nn.utils.rnn.pack_padded_sequence(torch.zeros(B, T, I), [3, 2], batch_first=True),
    "JAX's bfloat16": jnp.ones((B, T, I), jnp.bfloat16), "float64 of TensorFlow": tf.ones((B, T, I), tf.float64),
    "ragged of TensorFlow": tf.ragged.constant([[1.0], [1.0, 2.0]]), "KerasTensor": keras.KerasTensor((B, T, I)),
    "lists": X.tolist(), "ragged lists": [[1.0], [1.0, 2.0]], "text": "abc", "bytes": b"abc", "nothing": None,
    "float16": X.astype(np.float16), "integers": X.astype(int), "complex": X.astype(complex), "bools": X > 0,
    "objects": X.astype(object), "big endian": X.astype(">f4"), "masked": np.ma.masked_array(X), "a number": 1.0,
    "no batch": X[0, 0], "four axes": X[None], "another width": X[..., :3], "a layer": lstm(), "a class": gc.LSTM,
    "a generator": (row for row in X), "a dictionary": {"x": X}, "a path": PATH, "a set": {1.0},
    "a trace": lstm().trace(X),     "Keras's layer": keras.layers.LSTM(H), "PyTorch's": torch.nn.LSTM(I, H),
}  # fmt: skip


def pulled(layer, **given):
    return layer.vjp(X)[1](**{"dy": None, **given})


ARRAY_DOORS = {
    **{f"{layer.__name__} {method}": lambda v, layer=layer, method=method: getattr(layer(), method)(v)
       for layer in (lstm, both, stack) for method in ("__call__", "vjp", "trace")},
    "step": lambda v: gc.Stream(lstm(), B).step(v), "push": lambda v: gc.Stream(lstm(), B).push(v),
    "step of a stack": lambda v: gc.Stream(stack(), B).step(v), "cell": lambda v: lstm().cell(v),
    "gates": lambda v: lstm().cell.gates(v), "cells": lambda v: stack().cell(v),
    "mask": lambda v: lstm()(X, mask=v), "reset": lambda v: both()(X, reset=v),
    "lengths": lambda v: lstm()(X, lengths=v),
    "dropout_mask": lambda v: both()(X, dropout_mask=v), "recurrent": lambda v: lstm()(X, recurrent_dropout_mask=v),
    "of a stack": lambda v: stack()(X, dropout_mask=v), "dy": lambda v: pulled(lstm(), dy=v),
    "dy of both": lambda v: pulled(both(), dy=v), "dstate": lambda v: pulled(lstm(), dstate=v),
    "dstate of both": lambda v: pulled(both(), dstate=v), "dstate of a stack": lambda v: pulled(stack(), dstate=v),
    "initial_state": lambda v: lstm()(X, v), "of both": lambda v: both()(X, v), "of cells": lambda v: stack()(X, v),
    "state": lambda v: setattr(lstm(), "state", v), "h of a state": lambda v: lstm()(X, (v, v)),
    "state of a stream": lambda v: setattr(gc.Stream(lstm()), "state", v),
    "state of a cell": lambda v: lstm().cell(X[:, 0], v),
    "states of cells": lambda v: stack().cell(X[:, 0], v), "weight_ih": gc.LSTMWeights.from_torch,
    "set_weights": lambda v: lstm().set_weights(v), "of directions": lambda v: both().set_weights(v),
    "a stack's": lambda v: stack().set_weights(v), "kernel": lambda v: lstm().set_weights([v, v, v]),
    "from_torch": gc.LSTM.from_torch,
}  # fmt: skip
# Nothing given is nothing wanted: the default of the argument.
OPTIONAL = {
    "mask", "reset", "lengths", "dropout_mask", "recurrent", "of a stack", "dy", "dy of both", "dstate",
    "initial_state",
    "dstate of both", "dstate of a stack", "of both", "of cells", "state", "state of a stream", "state of a cell",
    "states of cells",
}  # fmt: skip


@pytest.mark.parametrize("door", ARRAY_DOORS)
def test_arrays(door):
    for kind, value in ARRAYS.items():
        if (door, kind) == ("from_torch", "PyTorch's") or (kind == "nothing" and door in OPTIONAL):
            ARRAY_DOORS[door](value)
            continue
        try:
            assert_refused(lambda value=value: ARRAY_DOORS[door](value))
        except BaseException as error:
            error.add_note(f"{door}: {kind}")
            raise


OTHERS = {
    "Keras's layer": keras.layers.LSTM(H), "Keras's cell": keras.layers.LSTMCell(H), "PyTorch's": torch.nn.LSTM(I, H),
    "PyTorch's cell": torch.nn.LSTMCell(I, H), "the class": gc.LSTM, "the cell's class": gc.LSTMCell, "a stream": None,
    "a list": [3], "a negative": -5, "zero": 0, "a float": 2.5, "a bool": True, "text": "LSTM", "nothing": None,
    "an array": np.ones((2, 3)), "a tensor": torch.ones(3), "a Gradients": lstm().vjp(X)[1](), "a number": "5",
}  # fmt: skip
OTHERS["a stream"] = gc.Stream(lstm())
OTHER_DOORS = {
    "units": gc.LSTM, "units of a cell": gc.LSTMCell, "cell": gc.RNN, "cells": gc.StackedRNNCells,
    "one cell": lambda v: gc.StackedRNNCells([v]), "layer": gc.Bidirectional, "rnn": gc.Stream,
    "batch": lambda v: gc.Stream(lstm(), v), "input_dim": lambda v: gc.LSTM(H).build(v),
    "input_dim of both": lambda v: gc.Bidirectional(gc.LSTM(H)).build(v),
    "input_dim of a stack": lambda v: gc.StackedRNNCells([gc.LSTMCell(H)]).build(v),
    "batch_size": lambda v: lstm(dropout=0.5).dropout_masks(v), "of zeros": lambda v: lstm().cell.get_initial_state(v),
    **{f"from_config of {kind.__name__}": kind.from_config for kind in
       (gc.LSTM, gc.LSTMCell, gc.RNN, gc.Bidirectional, gc.StackedRNNCells)},
    "dtype": lambda v: gc.LSTM(H, dtype=v), "name": lambda v: gc.LSTM(H, name=v), "engine": lambda v: gc.RNN(
        gc.LSTMCell(H), engine=v), "merge_mode": lambda v: gc.Bidirectional(gc.LSTM(H), v),
    "dropout": lambda v: gc.LSTM(H, dropout=v), "kernel_initializer": lambda v: gc.LSTM(H, kernel_initializer=v),
    "implementation": lambda v: gc.LSTMCell(H, implementation=v), "use_bias": lambda v: gc.LSTM(H, use_bias=v),
    "return_sequences": lambda v: gc.RNN(gc.LSTMCell(H), v), "stateful": lambda v: gc.LSTM(H, stateful=v),
    "seed": lambda v: gc.LSTM(H, seed=v), "seed of build": lambda v: gc.LSTM(H).build(I, seed=v),
    "trainable": lambda v: gc.StackedRNNCells([gc.LSTMCell(H)], trainable=v), "rows": gc.Stream(lstm(), B).reset,
    "threads": gc.set_num_threads, "path": lambda v: lstm().trace(X).report(v),
    "paths": lambda v: both().trace(X).report(v), "weights": lambda v: gc.Bidirectional(gc.LSTM(H), weights=v),
    "backward_layer": lambda v: gc.Bidirectional(gc.LSTM(H), backward_layer=v), "use_cudnn": lambda v: gc.LSTM(
        H, use_cudnn=v),
}  # fmt: skip
FLAGS = {"use_bias", "return_sequences", "stateful", "trainable"}
RIGHT = {  # what a door takes, because it is right or Keras takes it
    "batch_size": {"zero"}, "of zeros": {"zero"}, "name": {"text", "nothing", "a number"}, "merge_mode": {"nothing"},
    "dropout": {"zero"}, "seed": {"zero", "nothing"}, "seed of build": {"zero", "nothing"}, "rows": {"zero", "nothing"},
    "path": {"text", "a number"}, "paths": {"text", "a number"}, "weights": {"nothing"}, "backward_layer": {"nothing"},
    "use_cudnn": {"a bool"}, "threads": {"a bool"}, **{flag: {"a bool", "zero", "nothing"} for flag in FLAGS},
    "dtype": {"Keras's layer", "Keras's cell", "an array"},  # NumPy reads their `dtype`
}  # fmt: skip


@pytest.mark.parametrize("door", OTHER_DOORS)
def test_other_things(door):
    for kind, value in OTHERS.items():
        if kind in RIGHT.get(door, ()):
            continue
        try:
            assert_refused(lambda value=value: OTHER_DOORS[door](value))
        except BaseException as error:
            error.add_note(f"{door}: {kind}")
            raise


UNKNOWN = {
    "unit_forget": "did you mean unit_forget_bias?", "return_sequence": "did you mean return_sequences?",
    "activation_function": "did you mean activation?", "recurent_dropout": "did you mean recurrent_dropout?",
    "num_layers": "StackedRNNCells", "hidden_size": "units", "input_size": r"build\(I\)", "input_shape": r"build\(I\)",
    "batch_first": r"\(B, T, I\)", "bidirectional": "Bidirectional", "bias": "use_bias", "training": "a call",
    "wings": r"help\(LSTM\)",
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_arguments_of_constructors(name):
    """Named with what to do, as a configuration's keys are."""
    for call in (lambda: gc.LSTM(H, **{name: 1}), lambda: gc.LSTM.from_config({"units": H, name: 1})):
        assert_refused(call)
        with pytest.raises(TypeError, match=rf"^{name}: expected an argument of LSTM, .*{UNKNOWN[name]}"):
            call()


@pytest.mark.parametrize(
    "call",
    [
        gc.LSTM, gc.LSTMCell, gc.RNN, gc.StackedRNNCells, gc.Bidirectional, gc.Stream, lambda: gc.LSTM(*[1] * 40),
        lambda: gc.LSTM(H, units=H), lambda: gc.Stream(lstm(), batch_size=2), lambda: gc.RNN(lstm(), "a", "b"),
        lambda: gc.LSTMWeights.from_torch(*torch.nn.LSTM(I, H, 2).parameters()), lambda: gc.LSTM.from_config({}),
        lambda: gc.RNN.from_config({}), lambda: gc.StackedRNNCells.from_config({}),
        lambda: gc.RNN.from_config({"cell": 3}),
        lambda: gc.Bidirectional.from_config({"layer": {"class_name": "GRU"}}),
        lambda: gc.StackedRNNCells.from_config({"cells": {"class_name": "LSTMCell"}}),
        lambda: gc.LSTM.from_config({"units": H, "kernel_initializer": {"class_name": "Zeros", "config": [1]}}),
        lambda: gc.LSTM(H, kernel_initializer={"class_name": "GlorotUniform", "config": {"seed": "a"}}),
        lambda: lstm().trace(X).report("/no/such/folder/report.html"), lambda: lstm().trace(X).report(PATH),
        lambda: both().trace(X).report(""), lambda: lstm().trace(X).report("/proc/report.html"),
        lambda: gc.LSTM.from_torch(torch.nn.GRU(I, H)),
    ],
)  # fmt: skip
def test_what_does_not_fit(call):
    assert_refused(call)


@pytest.mark.parametrize(
    "call",
    [
        lambda: lstm()(), lambda: lstm().vjp(), lambda: both()(), lambda: stack().trace(),
        lambda: lstm()(X, length=[1, 2]),
        lambda: both()(X, length=[1, 2]), lambda: lstm().vjp(X, recomput=True), lambda: gc.Stream(lstm()).step(),
        lambda: gc.Stream(lstm()).push(), lambda: gc.LSTM(H).build(), lambda: lstm().set_weights(), gc.LSTM.from_config,
        lambda: lstm().trace(X).report(), lambda: lstm().cell(), gc.LSTMWeights.from_torch, gc.set_num_threads,
        gc.Trace,
        lambda: lstm()(X, None, None, None, None, None),
    ],
)  # fmt: skip
def test_arguments_of_methods(call):
    """Python's own sentence names the method and its argument."""
    assert_refused(call, pythons=True)


def test_inside_a_constructor_errors_stay_as_they_are():
    class Mine(gc.LSTM):
        def __init__(self, units):
            super().__init__(units)
            len(3)

    with pytest.raises(TypeError, match=r"object of type 'int' has no len\(\)"):
        Mine(3)
