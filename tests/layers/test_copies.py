"""Copies by `copy` and `pickle`, and arrays that are written into: nothing that was given or taken is shared unseen."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from cases import GRADIENTS, make_case
from compare import assert_same_bits
from glasscell import LSTM, RNN, LSTMCell, Stream

B, T, I, H = 3, 8, 4, 5

WAYS = {
    "copy.copy": copy.copy,
    "Stream.copy": lambda value: value.copy(),
    "deepcopy": copy.deepcopy,
    **{f"pickle {p}": lambda value, p=p: pickle.loads(pickle.dumps(value, p)) for p in range(6)},
}  # fmt: skip


def draw(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def layer(engine="native", dtype=np.float32, **arguments):
    return LSTM(H, return_sequences=True, engine=engine, **arguments).build(I, 0, dtype)


def twice_tanh(x):
    return 2 * np.tanh(x)


def twice_tanh_derivative(x):
    return 2 - 2 * np.tanh(x) ** 2


twice_tanh.derivative = twice_tanh_derivative


class Named(Stream):
    """A stream with something of its own."""

    def __init__(self, rnn, batch, name):
        super().__init__(rnn, batch)
        self.name, self.seen = name, [1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, B])
def test_a_copied_stream_goes_its_own_way(engine_name, batch, dtype, way):
    """It goes on with the same bits, and neither moves the other."""
    rnn, x = layer(engine_name, dtype), draw(batch, T, I, dtype=dtype)
    y, stream = rnn(x), Stream(rnn, batch)
    for t in range(3):
        stream.step(x[:, t])
    other = WAYS[way](stream)
    assert (type(other), other.batch, other.engine_used) == (Stream, batch, engine_name)
    assert (other.rnn is rnn) == (way in ("copy.copy", "Stream.copy"))
    for t in range(3, T):
        assert_same_bits(other.step(x[:, t]), y[:, t])
    for t in range(3, T):
        assert_same_bits(stream.step(x[:, t]), y[:, t])
    other.reset()
    assert_same_bits(stream.state.h, y[:, -1])
    assert_same_bits(other.push(x), y)
    with pytest.raises(ValueError, match="read-only"):
        other.step(x[:, 0])[0] = 1


@pytest.mark.parametrize("way", WAYS)
def test_a_copied_stream_keeps_what_the_first_was_made_with(engine_name, way):
    """Its weights, activations and engine, whatever has become of the cell and the layer."""
    rnn, x = layer(engine_name), draw(B, T, I)
    y, stream = rnn(x), Stream(rnn, B)
    stream.push(x[:, :3])
    rnn.cell.set_weights([2 * w for w in rnn.cell.get_weights()])
    rnn.cell.activation, rnn.engine = LSTMCell(1, "relu").activation, "reference" if engine_name == "native" else "auto"
    other = WAYS[way](stream)
    rnn.cell.build(I, 7, np.float64)
    assert other.engine_used == engine_name
    assert_same_bits(other.push(x[:, 3:]), y[:, 3:])
    assert_same_bits(WAYS[way](other).state.h, y[:, -1])


@pytest.mark.parametrize("way", WAYS)
def test_a_copied_stream_of_a_class_of_its_own(engine_name, way):
    rnn, x = layer(engine_name), draw(2, T, I)
    stream = Named(rnn, 2, "mine")
    y = stream.push(x)
    other = WAYS[way](stream)
    assert (type(other), other.name, other.seen) == (Named, "mine", [1])
    assert_same_bits(other.state.h, y[:, -1])
    other.step(x[:, 0])
    assert_same_bits(stream.state.h, y[:, -1])


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
    rnn, x = layer(engine_name), draw(B, T, I)
    y, stream = rnn(x), Stream(rnn, B)
    stream.push(x[:, :3])
    script = (
        "import pickle, sys; stream, x = pickle.load(sys.stdin.buffer);"
        "sys.stdout.buffer.write(pickle.dumps((stream.push(x), stream)))"
    )
    given = pickle.dumps((stream, x[:, 3:6]))
    done = subprocess.run([sys.executable, "-c", script], input=given, capture_output=True, check=True)
    pushed, back = pickle.loads(done.stdout)
    assert_same_bits(pushed, y[:, 3:6])
    assert_same_bits(back.push(x[:, 6:]), y[:, 6:])


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, WAYS["pickle 2"], WAYS["pickle 5"]])
def test_copies_of_cells_and_layers(again):
    """Each computes the same; a stateful one stands where the first stands, and neither moves the other."""
    x = draw(B, T, I)
    for engine, arguments in (
        ("native", {}),
        ("reference", {}),
        ("auto", {"activation": twice_tanh}),
    ):
        rnn = layer(engine, stateful=True, **arguments)
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
    dstate = rnn.state
    for name in GRADIENTS:  # the derivative of the callable too
        assert_same_bits(*(getattr(one.vjp(x, dstate)[1](dstate=dstate), name) for one in (again(rnn), rnn)), name)


@pytest.mark.parametrize("again", [copy.deepcopy, WAYS["pickle 5"]])
def test_copies_of_traces_and_gradients(again):
    """They hold arrays of their own."""
    rnn, x = layer(), draw(B, T, I)
    y, pullback = rnn.vjp(x)
    for value in (rnn.trace(x, lengths=[T, 2, 0]), pullback(y)):
        other = again(value)
        for name, array in vars(value).items():
            assert_same_bits(getattr(other, name).astype(np.float32), array.astype(np.float32), name)
            assert not np.shares_memory(getattr(other, name), array)


def arrays_of(value):
    """Every array in a result: of tuples, lists, traces and gradients."""
    if isinstance(value, np.ndarray):
        return [value]
    parts = value if isinstance(value, (tuple, list)) else vars(value).values()
    return [array for part in parts if part is not None for array in arrays_of(part)]


@pytest.mark.parametrize("time", [0, 1, 4])
def test_what_comes_out_shares_no_memory(engine_name, time):
    """Neither two results of a call with each other, nor one with what was given or is kept."""
    x, h, c = draw(B, time, I), draw(B, H), draw(B, H, seed=1)
    masks = {"dropout_mask": draw(B, I), "recurrent_dropout_mask": draw(4, B, H)}
    for sequences in (False, True):
        rnn = LSTM(H, return_sequences=sequences, return_state=True, stateful=True, engine=engine_name).build(I, 0)
        dy, dstate = draw(*((B, time, H) if sequences else (B, H))), (draw(B, H), draw(B, H))
        y, pullback = rnn.vjp(x, (h, c), **masks)
        step = rnn.cell(x[:, 0], (h, c)) if time else (np.empty(0), ())
        traced = [array for name, array in rnn.trace(x, (h, c)).asdict().items() if name != "mask"]
        out = [*arrays_of(rnn(x, (h, c), **masks)), y, *arrays_of(pullback(dy, dstate)), *step[:1], *step[1], *traced]
        out += [*arrays_of(pullback(None, dstate)), *rnn.state, *rnn.state, *rnn.cell.get_weights()]
        given = [x, h, c, dy, *dstate, *masks.values(), *rnn.cell.weights]
        for k, array in enumerate(out):
            for other in (*out[:k], *given):
                assert not np.shares_memory(array, other)


def spoil(*arrays):
    for array in arrays:
        if array is not None and array.flags.writeable:
            array[...] = ~array if array.dtype == bool else 0 if array.dtype.kind == "i" else np.nan


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_gradients_are_those_of_the_call(engine_name, seed, recompute):
    """Whatever is written into its arguments and results afterwards, and however the layer is set."""
    case = make_case(seed, largest=(5, 6, 7, 8))
    rnn, arguments = case.layer(engine_name, np.float64), case.arguments(np.float64)
    expected = case.layer(engine_name, np.float64).vjp(**arguments, recompute=recompute)[1](
        *case.cotangents(np.float64)
    )
    output, pullback = rnn.vjp(**arguments, recompute=recompute)
    spoil(output, arguments["x"], *(arguments["initial_state"] or ()), *map(arguments.get, (
        "mask", "lengths", "reset", "dropout_mask", "recurrent_dropout_mask")))  # fmt: skip
    rnn.return_sequences, rnn.go_backwards = not rnn.return_sequences, not rnn.go_backwards
    rnn.zero_output_for_mask = not rnn.zero_output_for_mask
    rnn.cell.set_weights([np.full_like(w, np.nan) for w in rnn.cell.get_weights()])
    for _ in range(2):
        dy, dstate = case.cotangents(np.float64)
        got = pullback(dy, dstate)
        for name in GRADIENTS:
            if getattr(expected, name) is not None:
                assert_same_bits(getattr(got, name), getattr(expected, name), f"{name} of {case}")
        spoil(dy, *(dstate or ()), *arrays_of(got))


def test_the_state_of_a_layer(engine_name):
    """A copy each time; what is set is copied too, and checked."""
    rnn, x = layer(engine_name, stateful=True), draw(B, T, I)
    assert rnn.state is None
    y = layer(engine_name)(x)
    rnn(x[:, :3])
    middle = rnn.state
    spoil(*rnn.state)
    assert_same_bits(rnn(x[:, 3:]), y[:, 3:])
    rnn.state = kept = tuple(s.copy() for s in middle)
    spoil(*kept)
    assert_same_bits(rnn(x[:, 3:]), y[:, 3:])
    rnn.state = None
    assert_same_bits(rnn(x), y)
    for wrong, error, message in (
        (middle.h, ValueError, r"^state: expected a pair \(h, c\), got ndarray$"),
        ((), ValueError, r"^state: expected a pair \(h, c\), got tuple$"),
        ((middle.h, middle.c[:2]), ValueError, r"^state\.c: expected shape \(B, H\) = \(3, 5\), got \(2, 5\)$"),
        ((middle.h, middle.c.astype(float)), TypeError, r"^state\.c: expected dtype float32, got float64"),
        ((1.0, middle.c), ValueError, r"^state\.h: expected shape"),
    ):
        with pytest.raises(error, match=message):
            rnn.state = wrong
    assert_same_bits(rnn.state.h, y[:, -1])


def test_configurations_are_their_own():
    """What is written into a configuration, given or taken, reaches no cell."""
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
