"""Every public entry of `glasscell.keras`, called with the plausible wrong thing, says so in one sentence.

On one backend; the sentences do not depend on it.
"""

import re

import keras
import numpy as np
import pytest
from beside import draw
from keras import layers, ops

import glasscell
import glasscell.keras as ours

B, T, I, H = 2, 5, 3, 4
X = draw(B, T, I)
S = keras.ops.ones((B, H))


def built(**options):
    layer = ours.LSTM(H, name="memory", **options)
    layer.build((B, T, I))
    return layer


def model():
    return keras.Sequential([keras.Input((T, I)), built()], name="small")


def torch_lstm():
    import torch

    return torch.nn.LSTM(I, H)


def fit(monitor):
    m = model()
    m.compile("sgd", "mse", run_eagerly=True)
    m.fit(X, draw(B, H), verbose=0, callbacks=[monitor])


def entries(name):
    """Gives every function that takes a model, by what follows the value."""
    return {"accelerate": ours.accelerate, "restore": ours.restore, "trace": lambda m: ours.trace(m, X)}[name]


# What is done, and how the one sentence goes: of ours, and of Keras's or Python's own where it is good.
CELLS = {
    "no units": (lambda kind: kind(), r"missing 1 required positional argument: 'units'"),
    "units of text": (lambda kind: kind("4"), r"units: expected a positive integer, got str '4'"),
    "units and a half": (lambda kind: kind(4.5), r"units: expected a positive integer, got float 4.5"),
    "units that are none": (lambda kind: kind(None), r"units: expected a positive integer, got None"),
    "a shape for units": (lambda kind: kind((I, H)), r"units: expected a positive integer, got tuple"),
    "an array for units": (
        lambda kind: kind(X),
        r"units: expected .* got ndarray of shape \(2, 5, 3\) and dtype float32",
    ),
    "no unit": (lambda kind: kind(0), r"`units`, expected a positive integer, got 0"),
    "less than a unit": (lambda kind: kind(-4), r"`units`, expected a positive integer, got -4"),
    "a rate of text": (lambda kind: kind(H, dropout="a"), r"dropout: expected a number from 0 to 1, got str 'a'"),
    "a rate that is none": (lambda kind: kind(H, recurrent_dropout=None), r"recurrent_dropout: .* got None"),
    "an unknown activation": (lambda kind: kind(H, activation="tanhh"), r"activation function identifier: tanhh"),
    "a number for an activation": (lambda kind: kind(H, activation=3), r"activation function identifier: 3"),
    "a class for an activation": (
        lambda kind: kind(H, recurrent_activation=layers.ReLU),
        r"recurrent_activation: expected a name or a function, got the class ReLU; make an instance of it",
    ),
    "a misspelt keyword": (lambda kind: kind(H, droput=0.1), r"Unrecognized keyword arguments .*'droput': 0.1"),
}
LAYERS = {
    "a misspelt engine": (lambda: ours.LSTM(H, engine="nativ"), r"engine: expected one of auto, .*, got 'nativ'"),
    "an engine that is none": (lambda: ours.RNN(ours.LSTMCell(H), engine=None), r"engine: expected .*, got None"),
    "no cell": (lambda: ours.RNN(), r"missing 1 required positional argument: 'cell'"),
    "a class for a cell": (lambda: ours.RNN(ours.LSTMCell), r"cell: expected a cell, got the class LSTMCell; make an"),
    "a layer for a cell": (lambda: ours.RNN(ours.LSTM(H)), r"cell: expected a cell, got the layer LSTM 'lstm\w*'"),
    "no cells": (lambda: ours.RNN([]), r"cell: expected at least one cell, got an empty list"),
    "a name for a cell": (lambda: ours.RNN("lstm"), r"`cell` should have a `call` method. Received: cell=lstm"),
    "a cell of NumPy's": (lambda: ours.RNN(glasscell.LSTMCell(H)), r"`cell` should have a `call` method"),
    "one cell for several": (lambda: ours.StackedRNNCells(ours.LSTMCell(H)), r"cells: expected a list of cells, got"),
    "layers for cells": (lambda: ours.StackedRNNCells([ours.LSTM(H)]), r"cells: expected a cell, got the layer LSTM"),
    "numbers for cells": (lambda: ours.StackedRNNCells([H]), r"All cells must have a `call` method.*: 4"),
    "no layer": (lambda: ours.Bidirectional(), r"missing 1 required positional argument: 'layer'"),
    "a class for a layer": (lambda: ours.Bidirectional(ours.LSTM), r"`keras.layers.Layer` instance. Received: <class"),
    "a layer of NumPy's": (lambda: ours.Bidirectional(glasscell.LSTM(H)), r"`keras.layers.Layer` instance"),
    "a module of PyTorch's": (lambda: ours.Bidirectional(torch_lstm()), r"`keras.layers.Layer` instance"),
    "a layer without time": (lambda: ours.Bidirectional(layers.Dense(H)), r"layer: expected a recurrent .* got Dense"),
    "a cell for a layer": (lambda: ours.Bidirectional(ours.LSTMCell(H)), r"layer: expected .* got LSTMCell"),
    "half a pair": (
        lambda: ours.Bidirectional(ours.LSTM(H), backward_layer=layers.Dense(H)), r"backward_layer: expected a"
    ),
    "a misspelt merge": (lambda: ours.Bidirectional(ours.LSTM(H), merge_mode="cat"), r"Invalid merge mode.*: cat"),
    "no input": (lambda: built()(), r"missing a required argument: 'sequences'"),
    "no batch": (lambda: built()(X[0]), r"expected ndim=3, found ndim=2"),
    "another width": (lambda: built()(X[:, :, :2]), r"x: expected shape \(B, T, I\) = \(B, T, 3\), got \(2, 5, 2\)"),
    "another width, in the framework": (
        lambda: built(engine="framework")(X[:, :, :2]), r"x: expected shape .* = \(B, T, 3\), got \(2, 5, 2\)"
    ),
    "text": (lambda: built()(np.full((B, T, I), "a")), r"could not convert string to float"),
    "a mask of another time": (
        lambda: built()(X, mask=ops.ones((B, T + 1), "bool")), r"mask: expected shape \(B, T\) = \(2, 5\), got \(2, 6\)"
    ),
    "a mask of another batch": (lambda: built()(X, mask=ops.ones((3, T), "bool")), r"mask: expected .* got \(3, 5\)"),
    "lengths for a mask": (lambda: built()(X, mask=ops.ones(B, "int32")), r"mask: expected .* = \(2, 5\), got \(2,\)"),
    "lists for a mask": (lambda: built()(X, mask=[[True] * T] * B), r"mask: expected a tensor or array .*, got list"),
    "a mask in text": (lambda: built()(X, mask="pad"), r"mask: expected a tensor or array .*, got str 'pad'"),
    "a state of another width": (
        lambda: built()(X, initial_state=[S[:, :2], S]),
        r"initial_state: expected h and c, each of shape \(B, H\) = \(2, 4\), got \(2, 2\)",
    ),
    "h alone": (lambda: built()(X, initial_state=S), r"initial_state: expected h and c, .*, got 1 states"),
    "a state too many": (lambda: built()(X, initial_state=[S] * 3), r"initial_state: .*, got 3 states"),
    "one state for two cells": (
        lambda: ours.RNN([ours.LSTMCell(H)] * 2)(X, initial_state=[[S, S]]),
        r"initial_state: expected 2 pairs \(h, c\), one for each cell, got 1",
    ),
    "one direction's state": (
        lambda: ours.Bidirectional(ours.LSTM(H))(X, initial_state=[S, S]), r"initial_state: expected h and c, .* got 1"
    ),
}  # fmt: skip
MODELS = {
    "a module of PyTorch's": (torch_lstm, r"model: expected a Keras model or layer, got LSTM of torch; PyTorch's"),
    "a layer of NumPy's": (lambda: glasscell.LSTM(H), r"model: expected .*, got LSTM of glasscell; what glasscell has"),
    "a class": (
        lambda: ours.LSTM,
        r"model: expected a Keras model or layer, got the class LSTM; make an instance of it",
    ),
    "a path": (lambda: "m.keras", r"model: expected .*, got str 'm.keras'; load it with keras.models.load_model first"),
    "nothing": (lambda: None, r"model: expected a Keras model or layer, got None"),
    "data": (lambda: X, r"model: expected .*, got ndarray of shape \(2, 5, 3\) and dtype float32"),
    "a list of models": (lambda: [model()], r"model: expected a Keras model or layer, got list"),
}
TRACES = {
    "no data": (lambda: ours.trace(model()), r"missing 1 required positional argument: 'x'"),
    "no model": (lambda: ours.trace(), r"missing 2 required positional arguments: 'model' and 'x'"),
    "a misspelt keyword": (lambda: ours.trace(model(), X, layers="memory"), r"unexpected keyword argument 'layers'"),
    "text": (
        lambda: ours.trace(built(), np.full((B, T, I), "a")),
        r"x: expected an array or tensor of numbers, got nd",
    ),
    "a path": (lambda: ours.trace(built(), "x.npy"), r"x: expected an array or tensor of numbers, got str 'x.npy'"),
    "nothing": (lambda: ours.trace(built(), None), r"x: expected an array or tensor of numbers, got None"),
    "a ragged list": (
        lambda: ours.trace(built(), [X[0], X[0, :2]]),
        r"x: expected an array or tensor of numbers, got list",
    ),
    "no batch": (lambda: ours.trace(built(), X[0]), r"x: expected shape \(B, T, I\) = \(B, T, 3\), got \(5, 3\)"),
    "another width": (lambda: ours.trace(built(), X[:, :, :2]), r"x: expected shape .*, got \(2, 5, 2\)"),
    "a mask of another time": (lambda: ours.trace(built(), X, mask=np.ones((B, 6))), r"mask: expected .* got \(2, 6\)"),
    "a mask in text": (lambda: ours.trace(built(), X, mask="pad"), r"mask: expected an array .*, got str 'pad'"),
    "a number for a state": (lambda: ours.trace(built(), X, 3), r"initial_state: expected a pair \(h, c\), got int 3"),
    "a state of another width": (lambda: ours.trace(built(), X, [S[:, :2], S]), r"initial_state.h: expected shape .*"),
    "not built": (lambda: ours.trace(ours.LSTM(H, name="new"), X), r"layer: expected a built layer, got 'new' without"),
    "a GRU": (
        lambda: ours.trace(layers.GRU(H, name="gru"), X),
        r"layer: expected every cell of 'gru' to be an LSTMCell",
    ),
    "an unknown name": (lambda: ours.trace(model(), X, layer="lstm"), r"layer: expected one of 'memory', got 'lstm'"),
    "a class for a layer": (lambda: ours.trace(model(), X, layer=ours.LSTM), r"layer: expected the name .* class LSTM"),
    "an input of another width": (
        lambda: ours.trace(model(), X[:, :, :2]),
        r"(?s)x: expected shape|incompatible|shape",
    ),
}
MONITORS = {
    "no data": (lambda: ours.GateMonitor(), r"missing 1 required positional argument: 'x'"),
    "a generator": (
        lambda: ours.GateMonitor(x for x in X),
        r"x: expected one batch of inputs .*, got generator; of what",
    ),
    "nothing": (lambda: ours.GateMonitor(None), r"x: expected one batch of inputs .*, got None; of what"),
    "a path": (lambda: ours.GateMonitor("x.npy"), r"x: expected one batch of inputs .*, got str 'x.npy'"),
    "a model": (lambda: ours.GateMonitor(model()), r"x: expected one batch of inputs .*, got Sequential 'small'"),
    "no whole number of epochs": (
        lambda: ours.GateMonitor(X, every=0.5),
        r"every: expected a positive integer, got 0.5",
    ),
    "an unknown metric": (
        lambda: ours.GateMonitor(X, metrics="f_mean"),
        r"metrics: expected some of .*, got \['f_mean'\]",
    ),
    "a number for metrics": (
        lambda: ours.GateMonitor(X, metrics=2),
        r"metrics: expected names of metrics .* got int 2",
    ),
    "data of another width": (lambda: fit(ours.GateMonitor(X[:, :, :2])), r"x: expected shape .*, got \(2, 5, 2\)"),
}


def sentence_of(error):
    """Takes what Keras wraps around an error of a call off, and gives the sentence inside."""
    text = str(error)
    inside = re.search(r"\x1b\[1m(.*?)\x1b\[0m", text, re.DOTALL)
    return inside[1] if inside else text


def assert_refused(act, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        act()
    text = sentence_of(caught.value)
    assert re.search(words, text), text
    assert "\n" not in text.strip(), text
    assert len(text) < 400, text
    assert not re.search(
        r"glasscell\._|/site-packages/|object has no attribute|0x[0-9a-f]{6}|INVALID_ARGUMENT", text
    ), text


CASES = {
    **{f"{kind.__name__}, {name}": (lambda act=act, kind=kind: act(kind), words)
       for kind in (ours.LSTM, ours.LSTMCell) for name, (act, words) in CELLS.items()},
    **{f"layers, {name}": case for name, case in LAYERS.items()},
    **{f"{entry}, {name}": (lambda make=make, entry=entry: entries(entry)(make()), words)
       for entry in ("accelerate", "restore", "trace") for name, (make, words) in MODELS.items()},
    **{f"trace, on {name}": case for name, case in TRACES.items()},
    **{f"GateMonitor, {name}": case for name, case in MONITORS.items()},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_wrong_thing_is_refused_in_one_sentence(case):
    assert_refused(*CASES[case])


def test_what_is_no_lstm_is_left_without_an_error():
    gru = layers.GRU(H)
    with pytest.warns(UserWarning, match="accelerate: 'gru.*' has no LSTM in it, so nothing changed"):
        assert ours.accelerate(gru) is gru
    assert ours.restore(gru) is gru
