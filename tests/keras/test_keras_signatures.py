"""The arguments of our layers stand in their signatures and docstrings, and are Keras's.

On one backend; Keras's signatures do not depend on it.
"""

import inspect
import pydoc
import types

import keras
import pytest

import glasscell.keras as ours

KINDS = [ours.LSTM, ours.LSTMCell, ours.RNN, ours.StackedRNNCells, ours.Bidirectional]
OWN = {"LSTM": ["engine"], "RNN": ["engine"]}
POSITIONAL, KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY


def differences(mine, theirs, own=()):
    """Lists by name where a signature is not Keras's with our own arguments after it."""
    mine, theirs = (inspect.signature(kind.__init__).parameters for kind in (mine, theirs))
    found = [f"{name} is new in Keras" for name in theirs if name not in mine]
    found += [f"{name} is gone in Keras" for name in mine if name not in theirs and name not in own]
    for name in theirs.keys() & mine.keys():
        a, b = mine[name], theirs[name]
        if (a.default, a.kind) != (b.default, b.kind):
            found.append(f"{name} is {b} in Keras, and {a} in ours")
    if not found and [name for name in mine if name not in own] != list(theirs):
        found.append("the order of the arguments is another in Keras")
    return found + [f"{name} can be given by position" for name in own if mine[name].kind is not KEYWORD]


@pytest.mark.parametrize("kind", KINDS)
def test_the_arguments_are_kerass(kind):
    theirs, own = getattr(keras.layers, kind.__name__), OWN.get(kind.__name__, [])
    assert not differences(kind, theirs, own)
    arguments = list(inspect.signature(kind).parameters)
    assert arguments == [name for name in inspect.signature(kind.__init__).parameters if name != "self"]
    docstring = inspect.getdoc(kind)
    missing = [name for name in arguments if name not in docstring and name.replace("bias_", "_") not in docstring]
    assert not [name for name in missing if not name.endswith(("_regularizer", "_constraint"))]
    assert "_regularizer" in docstring or "kernel_regularizer" not in arguments
    shown = pydoc.render_doc(kind, renderer=pydoc.plaintext)
    assert all(name in shown for name in arguments)


def test_what_changes_in_keras_is_named():
    class Newer:
        def __init__(self, units, activation="relu", projection=None, **kwargs):
            pass

    found = differences(ours.LSTMCell, Newer)
    assert "projection is new in Keras" in found
    assert "dropout is gone in Keras" in found
    assert any(text.startswith("activation is activation='relu' in Keras") for text in found)


def test_positions_and_unknown_keywords_reach_keras(monkeypatch):
    layer = ours.LSTM(4, "relu", "hard_sigmoid", False, name="memory", trainable=False, zero_output_for_mask=True)
    plain = keras.layers.LSTM(
        4, "relu", "hard_sigmoid", False, name="memory", trainable=False, zero_output_for_mask=True
    )
    assert layer.get_config() == plain.get_config()
    positional = ours.RNN(ours.LSTMCell(4), True, True, True, False, True, True)
    assert (positional.return_sequences, positional.unroll, positional.zero_output_for_mask) == (True,) * 3
    with pytest.raises(TypeError, match="takes from 2 to 8 positional arguments but 9"):
        ours.RNN(ours.LSTMCell(4), *[True] * 6, "native")
    both = ours.Bidirectional(ours.LSTM(2), "sum", None, ours.LSTM(2, go_backwards=True, name="other"))
    assert both.backward_layer.name == "other"
    given = {}
    monkeypatch.setattr(keras.layers.LSTM, "__init__", lambda self, units, **kwargs: given.update(kwargs))
    ours.LSTM(4, projection=3)
    assert given["projection"] == 3  # a keyword that a later Keras may have


@pytest.mark.parametrize("kind", KINDS)
def test_each_argument_arrives(kind):
    """Every argument with a value of its own is in the configuration, or an attribute, as Keras has it."""
    theirs = getattr(keras.layers, kind.__name__)
    values = {
        "units": 3, "activation": "relu", "recurrent_activation": "tanh", "use_bias": False, "unit_forget_bias": False,
        "kernel_initializer": "zeros", "recurrent_initializer": "ones", "bias_initializer": "ones",
        "kernel_regularizer": "l1", "recurrent_regularizer": "l2", "bias_regularizer": "l2",
        "activity_regularizer": "l1", "kernel_constraint": "non_neg", "recurrent_constraint": "unit_norm",
        "bias_constraint": "max_norm", "dropout": 0.25, "recurrent_dropout": 0.5, "seed": 7, "return_sequences": True,
        "return_state": True, "go_backwards": True, "stateful": True, "unroll": True, "use_cudnn": False,
        "zero_output_for_mask": True, "merge_mode": "mul", "weights": None, "backward_layer": None,
    }  # fmt: skip
    special = {
        "cell": lambda k: k.LSTMCell(2, name="c"),
        "cells": lambda k: [k.LSTMCell(2, name="c")],
        "layer": lambda k: k.LSTM(2, name="l"),
    }
    names = [n for n in inspect.signature(theirs.__init__).parameters if n not in ("self", "kwargs")]
    made = []
    for library, cls in ((ours, kind), (keras.layers, theirs)):
        given = {n: special[n](library) if n in special else values[n] for n in names}
        made.append(cls(**given, name="x"))
    mine, plain = (types.SimpleNamespace(config=layer.get_config(), layer=layer) for layer in made)
    drop = {"cell", "cells", "layer", "backward_layer"}
    assert {k: v for k, v in mine.config.items() if k not in drop} == {
        k: v for k, v in plain.config.items() if k not in drop
    }
    assert getattr(made[0], "use_cudnn", None) == getattr(made[1], "use_cudnn", None)


def test_subclasses_with_their_own_arguments():
    class Own(ours.LSTM):
        def __init__(self, units, extra=1, **kwargs):
            super().__init__(units, **kwargs)
            self.extra = extra

        def get_config(self):
            return {**super().get_config(), "extra": self.extra}

    again = Own.from_config(Own(3, extra=5, engine="framework", return_sequences=True).get_config())
    assert (again.extra, again.engine, again.return_sequences, again.units) == (5, "framework", True, 3)
