"""Copies by `copy` and `pickle`, and arrays that are written into: nothing that was given or taken is shared unseen."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from compare import arrays_of, assert_same_bits, assert_same_results
from drawn import B, H, I, T, draw, layer, spoil, twice_tanh
from glasscell import LSTM, RNN, LSTMCell, Stream

WAYS = {
    "copy.copy": copy.copy,
    "Stream.copy": lambda value: value.copy(),
    "deepcopy": copy.deepcopy,
    **{f"pickle {p}": lambda value, p=p: pickle.loads(pickle.dumps(value, p)) for p in range(6)},
}  # fmt: skip


class Named(Stream):
    """A stream with something of its own."""

    def __init__(self, rnn, batch, name):
        super().__init__(rnn, batch)
        self.name, self.seen = name, [1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, B])
def test_a_copied_stream_goes_its_own_way(engine_name, batch, dtype, way):
    """A copy goes on with the same bits, and neither moves the other; a subclass keeps attributes of its own."""
    rnn, x = layer(dtype=dtype, engine=engine_name), draw(batch, T, I, dtype=dtype)
    y, stream = rnn(x), Named(rnn, batch, "mine")
    for t in range(3):
        stream.step(x[:, t])
    other = WAYS[way](stream)
    assert (type(other), other.name, other.seen) == (Named, "mine", [1])
    assert (other.batch, other.engine_used) == (batch, engine_name)
    assert (other.rnn is rnn) == (way in ("copy.copy", "Stream.copy"))
    for one in (other, stream):
        for t in range(3, T):
            assert_same_bits(one.step(x[:, t]), y[:, t])
    other.reset()
    assert_same_bits(stream.state.h, y[:, -1])
    assert_same_bits(other.push(x), y)
    with pytest.raises(ValueError, match="read-only"):
        other.step(x[:, 0])[0] = 1


@pytest.mark.parametrize("way", WAYS)
def test_a_copied_stream_keeps_what_the_first_was_made_with(engine_name, way):
    """A copy keeps weights, activations and engine, whatever has become of the cell and the layer."""
    rnn, x = layer(engine=engine_name), draw(B, T, I)
    y, stream = rnn(x), Stream(rnn, B)
    stream.push(x[:, :3])
    rnn.cell.set_weights([2 * w for w in rnn.cell.get_weights()])
    rnn.cell.activation, rnn.engine = LSTMCell(1, "relu").activation, "reference" if engine_name == "native" else "auto"
    other = WAYS[way](stream)
    rnn.cell.build(I, 7, np.float64)
    assert other.engine_used == engine_name
    for kept in (stream, other):
        assert_same_bits(kept.step(x[:, 3]), y[:, 3])
        assert_same_bits(kept.push(x[:, 4:]), y[:, 4:])
    assert_same_bits(WAYS[way](other).state.h, y[:, -1])


@pytest.mark.parametrize("way", ["deepcopy", "pickle 5"])
def test_a_layer_that_holds_its_stream(way):
    """A circle: the stream is made anew before its layer is."""
    rnn, x = layer(), draw(1, T, I)
    rnn.stream = Stream(rnn)
    y = rnn.stream.push(x)
    other = WAYS[way](rnn)
    assert other.stream.rnn is other
    assert_same_bits(other.stream.state.h, y[:, -1])
    other.stream.reset()
    assert_same_bits(other.stream.push(x), y)


def test_a_pickled_stream_in_another_process(engine_name):
    rnn, x = layer(engine=engine_name), draw(B, T, I)
    y, stream = rnn(x), Stream(rnn, B)
    stream.push(x[:, :2])
    script = (
        "import pickle, sys; stream, x = pickle.load(sys.stdin.buffer);"
        "sys.stdout.buffer.write(pickle.dumps((stream.push(x), stream)))"
    )
    given = pickle.dumps((stream, x[:, 2:4]))
    done = subprocess.run([sys.executable, "-c", script], input=given, capture_output=True, check=True)
    pushed, back = pickle.loads(done.stdout)
    assert_same_bits(pushed, y[:, 2:4])
    assert_same_bits(back.push(x[:, 4:]), y[:, 4:])


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, WAYS["pickle 2"], WAYS["pickle 5"]])
def test_copies_of_cells_and_layers(again):
    """Each computes the same; a stateful one stands where the first stands, and neither moves the other."""
    x = draw(B, T, I)
    for engine, arguments in (("native", {}), ("reference", {}), ("auto", {"activation": twice_tanh})):
        rnn = layer(engine=engine, stateful=True, **arguments)
        rnn(x)
        other, cell = again(rnn), again(rnn.cell)
        assert_same_bits(other.state.h, rnn.state.h)
        expected = RNN(rnn.cell, return_sequences=True, engine=engine)(x, rnn.state)
        assert_same_bits(other(x), expected)
        assert_same_bits(rnn(x), expected)
        other.reset_state()
        assert_same_bits(rnn.state.h, expected[:, -1])
        assert_same_bits(cell(x[:, 0])[0], rnn.cell(x[:, 0])[0])
        cell.set_weights([2 * w for w in cell.get_weights()])
        assert (cell(x[:, 0])[0] != rnn.cell(x[:, 0])[0]).any()
    dstate = rnn.state  # of the callable's derivative too
    assert_same_results(*(one.vjp(x, dstate)[1](dstate=dstate) for one in (again(rnn), rnn)))
    assert not again(LSTMCell(2)).built


@pytest.mark.parametrize("again", [copy.deepcopy, WAYS["pickle 5"]])
def test_copies_of_traces_and_gradients(again):
    """They hold arrays of their own."""
    rnn, x = layer(), draw(B, T, I)
    y, pullback = rnn.vjp(x)
    for value in (rnn.trace(x, lengths=[T, 2, 0]), pullback(y)):
        other = again(value)
        assert_same_results(other, value)
        for one, array in zip(*(arrays_of(v).values() for v in (other, value)), strict=True):
            assert not np.shares_memory(one, array)


@pytest.mark.parametrize("time", [0, 1, 4])
def test_what_comes_out_shares_no_memory(engine_name, time):
    """Neither two results of a call with each other, nor one with what was given or is kept, which is left alone."""
    x, h, c = draw(B, time, I), draw(B, H), draw(B, H, seed=1)
    masks = {"dropout_mask": draw(B, I), "recurrent_dropout_mask": draw(4, B, H)}
    for sequences in (False, True):
        rnn = LSTM(H, return_sequences=sequences, return_state=True, stateful=True, engine=engine_name).build(I, 0)
        dy, dstate = draw(*((B, time, H) if sequences else (B, H))), (draw(B, H), draw(B, H))
        y, pullback = rnn.vjp(x, (h, c), **masks)
        given = [x, h, c, dy, dstate, masks, rnn.cell.weights]
        before = copy.deepcopy(given)
        traced = rnn.trace(x, (h, c)).asdict()
        traced.pop("mask", None)
        results = [
            rnn(x, (h, c), **masks),
            y,
            pullback(dy, dstate),
            pullback(None, dstate),
            traced,
            rnn.state,
            rnn.state,
        ]
        results += [rnn.cell(x[:, 0], (h, c)) if time else None, rnn.cell.get_weights()]
        out, given_arrays = ([*arrays_of(value).values()] for value in (results, given))
        for k, array in enumerate(out):
            for other in (*out[:k], *given_arrays):
                assert not np.shares_memory(array, other)
        assert_same_results(given, before)


def test_the_state_of_a_layer(engine_name):
    """A state is copied when it is read and when it is set."""
    rnn, x = layer(engine=engine_name, stateful=True), draw(B, T, I)
    assert rnn.state is None
    y = layer(engine=engine_name)(x)
    rnn(x[:, :3])
    middle = rnn.state
    spoil(rnn.state)
    assert_same_bits(rnn(x[:, 3:]), y[:, 3:])
    rnn.state = kept = tuple(s.copy() for s in middle)
    spoil(kept)
    assert_same_bits(rnn(x[:, 3:]), y[:, 3:])
    rnn.state = None
    assert_same_bits(rnn(x), y)


def test_configurations_are_their_own():
    """A configuration may be written into, given or taken: no cell follows."""
    penalty = {"class_name": "L2", "config": {"l2": 0.5}}
    initializer = {"class_name": "RandomNormal", "config": {"mean": 0.0, "stddev": 1.0}}
    cell = LSTMCell(H, kernel_regularizer=penalty, kernel_initializer=initializer)
    before = copy.deepcopy(cell.get_config())
    penalty["config"]["l2"], initializer["config"]["stddev"] = 9, 9
    taken = cell.get_config()
    taken["kernel_regularizer"]["config"]["l2"], taken["kernel_initializer"]["config"]["stddev"] = 8, 8
    assert cell.get_config() == before
    again = copy.copy(cell)
    again.penalties["kernel_regularizer"] = None
