"""The weights of a cell: read-only, because they are kept packed as well, and always those that were set last."""

import copy
import pickle

import numpy as np
import pytest

from compare import arrays_of, assert_same_results
from glasscell import LSTM, LSTMCell
from glasscell._layers import lstm_cell

I, H = 4, 33
X = np.random.default_rng(0).standard_normal((3, 7, I))


def layer(engine="native", seed=0):
    return LSTM(H, return_sequences=True, engine=engine).build(I, seed, np.float64)


def use(rnn):
    """Everything that runs the cell."""
    y, pullback = rnn.vjp(X)
    _, lean = rnn.vjp(X, recompute=True)
    return [rnn(X), rnn.trace(X).c, rnn.cell(X[:, 0])[0], rnn.cell.gates(X[:, 0]), y, pullback(y), lean(y)]


def test_weights_are_read_only(engine_name):
    """Weights of `build`, of `set_weights`, of a copy and of a pickle."""
    rnn = layer(engine_name)
    again = layer(engine_name, seed=1)
    again.cell.set_weights(rnn.cell.get_weights())
    rnn(X)
    copies = copy.deepcopy(rnn.cell), copy.copy(rnn.cell), pickle.loads(pickle.dumps(rnn.cell))
    for cell in (rnn.cell, again.cell, *copies):
        for name in ("kernel", "recurrent_kernel", "bias"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(cell.weights, name)[0] = 1
        for array in cell.get_weights():
            array[0] = 1  # these are copies
        assert_same_results(cell.weights, rnn.cell.weights)


def test_given_arrays_stay_writable():
    given = layer().cell.get_weights()
    LSTMCell(H).set_weights(given)
    assert all(array.flags.writeable for array in given)


def test_new_weights_are_used_at_once(engine_name):
    """Every kind of call reads them, whatever ran before with the old ones."""
    first, second = layer(engine_name), layer(engine_name, seed=1)
    old, new = use(first), use(second)
    assert all((a != b).any() for a, b in zip(*(arrays_of(v).values() for v in (old, new)), strict=True))
    for weights, expected in ((second, new), (layer(engine_name), old), (second, new)):
        first.cell.set_weights(weights.cell.get_weights())
        assert_same_results(use(first), expected)
    first.cell.build(I, 0, np.float64)
    assert_same_results(use(first), old)


def test_a_refused_set_weights_changes_nothing():
    rnn = layer()
    expected = use(rnn)
    with pytest.raises(ValueError, match="bias"):
        rnn.cell.set_weights([*layer(seed=1).cell.get_weights()[:2], np.zeros(1)])
    assert_same_results(use(rnn), expected)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda cell: pickle.loads(pickle.dumps(cell))])
def test_copies_of_a_cell_that_has_run(again):
    """They compute the same, and have weights of their own."""
    rnn = layer()
    expected = use(rnn)
    other = again(rnn)
    assert_same_results(use(other), expected)
    other.cell.set_weights(layer(seed=1).cell.get_weights())
    assert_same_results(use(other), use(layer(seed=1)))
    assert_same_results(use(rnn), expected)


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
        assert_same_results((y, pullback(y)), (wanted_y, wanted(y)))
