"""Dropout on NumPy: drawn where a call is told to, with the masks that Keras would draw, and never left out unsaid."""

import copy
import pickle

import keras
import numpy as np
import pytest

import glasscell as gc
from compare import assert_same_bits, assert_same_results

B, T, I, H = 3, 5, 4, 6
RATES = {"dropout": 0.25, "recurrent_dropout": 0.5}
X = np.random.default_rng(0).standard_normal((B, T, I)).astype(np.float32)


def lstm(**arguments):
    return gc.LSTM(H, return_sequences=True, **arguments)


def stack(**arguments):
    return gc.RNN(gc.StackedRNNCells([gc.LSTMCell(H), gc.LSTMCell(2, **arguments)]), return_sequences=True)


LAYERS = {
    "lstm": lstm,
    "stack": stack,
    "both": lambda **arguments: gc.Bidirectional(lstm(**arguments)),
    "both of stacks": lambda **arguments: gc.Bidirectional(stack(**arguments)),
}


@pytest.mark.parametrize("arguments", [
    {"dropout": 0.25}, {"dropout": 0.25, "implementation": 1}, RATES, {"recurrent_dropout": 0.5}, {"dropout": 1.0}, {},
    {"dropout": 0.25, "recurrent_dropout": 1.0},
])  # fmt: skip
def test_masks_are_shaped_and_scaled_as_keras_draws_them(arguments):
    """One for all gates, or one for each where there is a recurrent dropout; scaled; as many zeros as the rate says."""
    theirs = keras.layers.LSTMCell(200, **arguments)
    mine = gc.LSTMCell(200, **arguments).build(100, seed=0)
    masks = mine.dropout_masks(50)
    drawn = {"dropout_mask": theirs.get_dropout_mask(np.ones((50, 100), np.float32)),
             "recurrent_dropout_mask": theirs.get_recurrent_dropout_mask(np.ones((50, 200), np.float32))}  # fmt: skip
    for name, rate in mine.rates().items():
        assert (name in masks) == (rate > 0)
        if rate:
            assert masks[name].shape == np.shape(drawn[name])
            assert_same_bits(np.unique(masks[name]), np.unique(np.asarray(drawn[name])))
            assert abs((masks[name] == 0).mean() - rate) < 0.03  # six standard deviations of 5000 draws
    assert masks.keys() == {name for name, rate in mine.rates().items() if rate}


@pytest.mark.parametrize("kind", LAYERS)
def test_training_draws(kind):
    """The masks of `dropout_masks` with the same seed: in a call, its gradient and its trace; anew each time."""
    layer, again = (LAYERS[kind](**RATES, seed=3).build(I, seed=0) for _ in range(2))
    y, pullback = layer.vjp(X, training=True)
    masks = again.dropout_masks(B)
    expected, pull = again.vjp(X, **masks)
    assert_same_bits(y, expected)
    assert_same_results(pullback(y), pull(y))
    for changed in (layer(X), layer(X, training=True), layer(X, training=True)):
        assert (changed != y).any()
    assert_same_bits(layer(X, **masks), y)
    assert_same_bits(layer.vjp(X, training=False)[0], layer(X))
    assert_same_bits(layer.vjp(X, training=True, **masks)[0], y)  # given ones are not drawn
    seeded = [one.dropout_masks(B, seed=5) for one in (layer, again)]
    assert_same_results(*seeded)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("rate", ["dropout", "recurrent_dropout"])
def test_a_gradient_without_dropout_has_to_be_asked_for(kind, rate):
    layer = LAYERS[kind](**{rate: 0.5}).build(I, seed=0)
    with pytest.raises(ValueError, match=rf"^training: expected True to draw the masks of {rate}=0.5, or False for"):
        layer.vjp(X)
    with pytest.raises(ValueError, match=r"^training: "):
        layer.vjp(X, **{"dropout_mask" if rate != "dropout" else "recurrent_dropout_mask": None})
    layer.vjp(X, **layer.dropout_masks(B))
    LAYERS[kind](**{rate: 1.0}).build(I, seed=0).vjp(X)  # Keras drops nothing then


def test_directions_have_masks_of_their_own():
    layer = LAYERS["both"](**RATES).build(I, seed=0)
    masks = layer.dropout_masks(B, seed=0)
    assert (masks["dropout_mask"][0] != masks["dropout_mask"][1]).any()
    y = layer(X, **masks)
    halves = [{name: pair[k] for name, pair in masks.items()} for k in (0, 1)]
    assert_same_bits(y[..., :H], layer.forward_layer(X, **halves[0]))
    assert_same_bits(y[..., H:], layer.backward_layer(X, **halves[1])[:, ::-1])
    one = layer(X, dropout_mask=masks["dropout_mask"][0])  # an array serves both
    assert_same_bits(one, layer(X, dropout_mask=[masks["dropout_mask"][0]] * 2))
    with pytest.raises(ValueError, match=r"^dropout_mask: expected a pair, one for each direction, got"):
        layer(X, dropout_mask=[masks["dropout_mask"][0]] * 3)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda cell: pickle.loads(pickle.dumps(cell))])
def test_a_copy_draws_for_itself(again):
    cell = gc.LSTMCell(H, **RATES, seed=1).build(I)
    first = cell.dropout_masks(B)
    other = again(cell)
    drawn = cell.dropout_masks(B)
    assert_same_results(other.dropout_masks(B), drawn)
    assert_same_results(gc.LSTMCell(H, **RATES, seed=1).build(I).dropout_masks(B), first)
    assert (drawn["dropout_mask"] != first["dropout_mask"]).any()
