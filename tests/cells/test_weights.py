"""The weights of a cell: read-only, because they are kept packed as well, and always those that were set last."""

import copy
import pickle

import numpy as np
import pytest

from cases import GRADIENTS
from compare import assert_close, assert_same_bits
from glasscell import LSTM, LSTMCell
from glasscell._layers import lstm_cell

I, H = 4, 33
X = np.random.default_rng(0).standard_normal((3, 7, I))


def layer(engine="native", seed=0):
    return LSTM(H, return_sequences=True, engine=engine).build(I, seed, np.float64)


def use(rnn):
    """Everything that runs the cell: as arrays."""
    y, pullback = rnn.vjp(X)
    _, lean = rnn.vjp(X, recompute=True)
    gradients = [getattr(back(y), name) for back in (pullback, lean) for name in GRADIENTS]
    cell = rnn.cell
    return [rnn(X), rnn.trace(X).c, cell(X[:, 0])[0], *cell.gates(X[:, 0]), y, *gradients]


def test_weights_are_read_only(engine_name):
    """Those of `build`, of `set_weights`, of a copy and of a pickle."""
    rnn = layer(engine_name)
    again = layer(engine_name, seed=1)
    again.cell.set_weights(rnn.cell.get_weights())
    rnn(X)
    for cell in (
        rnn.cell,
        again.cell,
        copy.deepcopy(rnn.cell),
        copy.copy(rnn.cell),
        pickle.loads(pickle.dumps(rnn.cell)),
    ):
        for name in ("kernel", "recurrent_kernel", "bias"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(cell.weights, name)[0] = 1
        for array in cell.get_weights():
            array[0] = 1  # these are copies
        for array, kept in zip(cell.weights, rnn.cell.weights, strict=True):
            assert_same_bits(array, kept)


def test_given_arrays_stay_writable():
    given = layer().cell.get_weights()
    LSTMCell(H).set_weights(given)
    assert all(array.flags.writeable for array in given)


def test_new_weights_are_used_at_once(engine_name):
    """By every kind of call, whatever ran before with the old ones."""
    first, second = layer(engine_name), layer(engine_name, seed=1)
    old, new = use(first), use(second)
    assert all((a != b).any() for a, b in zip(old, new, strict=True))
    for weights, expected in ((second, new), (layer(engine_name), old), (second, new)):
        first.cell.set_weights(weights.cell.get_weights())
        for got, wanted in zip(use(first), expected, strict=True):
            assert_same_bits(got, wanted)
    first.cell.build(I, 0, np.float64)
    for got, wanted in zip(use(first), old, strict=True):
        assert_same_bits(got, wanted)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_pullback_keeps_the_weights_of_its_call(engine_name, recompute):
    rnn, unchanged = layer(engine_name), layer("reference")
    y, pullback = rnn.vjp(X, recompute=recompute)
    expected = unchanged.vjp(X)[1](y)
    before = pullback(y)
    rnn.cell.set_weights([w + 1 for w in rnn.cell.get_weights()])
    rnn(X)
    after = pullback(y)
    for name in GRADIENTS:
        assert_same_bits(getattr(after, name), getattr(before, name), name)
        assert_close(getattr(after, name), getattr(expected, name), 1e-12, name)  # as in test_native.py


def test_a_refused_set_weights_changes_nothing():
    rnn = layer()
    expected = use(rnn)
    with pytest.raises(ValueError, match="bias"):
        rnn.cell.set_weights([*layer(seed=1).cell.get_weights()[:2], np.zeros(1)])
    for got, wanted in zip(use(rnn), expected, strict=True):
        assert_same_bits(got, wanted)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda cell: pickle.loads(pickle.dumps(cell))])
def test_copies_of_a_cell_that_has_run(again):
    """They compute the same, and have weights of their own."""
    rnn = layer()
    expected = use(rnn)
    other = again(rnn)
    for got, wanted in zip(use(other), expected, strict=True):
        assert_same_bits(got, wanted)
    other.cell.set_weights(layer(seed=1).cell.get_weights())
    for got, wanted in zip(use(other), use(layer(seed=1)), strict=True):
        assert_same_bits(got, wanted)
    for got, wanted in zip(use(rnn), expected, strict=True):
        assert_same_bits(got, wanted)
    assert not again(LSTMCell(2)).built


def test_new_weights_in_the_middle_of_a_call(monkeypatch):
    """As another thread may set them: the call has the old weights as a whole, its gradient too, the next the new."""
    rnn, old, new = layer(), layer(), layer(seed=1)
    pack = lstm_cell.pack

    def pack_and_set(weights):
        packed = pack(weights)
        monkeypatch.setattr(lstm_cell, "pack", pack)
        rnn.cell.set_weights(new.cell.get_weights())
        return packed

    monkeypatch.setattr(lstm_cell, "pack", pack_and_set)
    for expected in (old, new):
        (y, pullback), (wanted_y, wanted) = rnn.vjp(X), expected.vjp(X)
        assert_same_bits(y, wanted_y)
        for name in GRADIENTS:
            assert_same_bits(getattr(pullback(y), name), getattr(wanted(y), name), name)
