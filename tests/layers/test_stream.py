"""`Stream`: a sequence in steps or chunks, with the bits of one call; its state; what it allocates; two threads."""

import dataclasses
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
import pytest

from cases import make_case
from compare import assert_same_bits, assert_same_results
from drawn import B, H, I, T, draw, in_steps, layer, twice_tanh
from fresh import run_python
from glasscell import RNN, Stream
from preload import run_with

DTYPES = [np.float32, np.float64]


def in_pieces(stream, x, rng):
    """Feeds each step alone or in a chunk with others, as chance has it, and returns every h."""
    outputs, t = [], 0
    while t < x.shape[1]:
        size = int(rng.integers(1, 5))
        outputs.append(in_steps(stream, x[:, t : t + 1]) if size == 1 else stream.push(x[:, t : t + size]))
        t += outputs[-1].shape[1]
    return np.concatenate(outputs, 1)


def assert_same_state(stream, h, c, what=""):
    assert_same_results(stream.state, (h, c), what)


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(24))
def test_the_bits_of_one_call(seed, dtype, engine):
    """Steps, chunks, or both in turn, from a state of their own or from zeros, with all activations."""
    case = make_case(seed, largest=(9, 12, 40, 70))
    case = dataclasses.replace(case, flags={"return_sequences": True})
    rnn, x, state = case.layer(engine, dtype), case.x.astype(dtype), case.arguments(dtype)["initial_state"]
    y, h, c = rnn(x, state)
    for run in (in_steps, Stream.push, lambda *call: in_pieces(*call, np.random.default_rng(seed))):
        stream = Stream(rnn, len(x))
        if state is not None:
            stream.state = state
        assert_same_bits(run(stream, x), y, case)
        assert_same_state(stream, h, c, case)
        assert stream.engine_used == engine


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(1, 300, 301), (1, 401, 512), (2, 130, 260), (3, 200, 255), (7, 64, 333)])
def test_the_bits_of_one_thread(threads, sizes, dtype):
    """Steps large enough for several threads, which share the units where there are few rows."""
    rows, inputs, units = sizes
    rnn, x = layer(inputs, units, dtype, return_state=True), draw(rows, 5, inputs, dtype=dtype)
    threads(1)
    y, h, c = rnn(x)
    for n in (1, 2, 3, 7):
        threads(n)
        stream = Stream(rnn, rows)
        assert_same_bits(in_steps(stream, x), y)
        assert_same_state(stream, h, c)
        stream.reset()
        threads(1)  # what the stream was made with is not too much for it
        assert_same_bits(stream.push(x[:, :2]), y[:, :2])
        assert_same_bits(in_steps(stream, x[:, 2:]), y[:, 2:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_is_a_stream(dtype):
    rnn, x = layer(dtype=dtype), draw(B, T, I, dtype=dtype)
    y = in_steps(Stream(rnn, B), x)
    for row in range(B):
        assert_same_bits(in_steps(Stream(rnn), x[row : row + 1])[0], y[row])


def test_a_single_stream_takes_rows(engine_name):
    """(I,) gives (H,), (T, I) gives (T, H): the numbers of (1, I) and (1, T, I), which it takes too."""
    rnn, x = layer(engine=engine_name), draw(1, T, I)
    y, stream, pushed = rnn(x), Stream(rnn), Stream(rnn)
    for t in range(0, T, 2):
        assert_same_bits(stream.step(x[0, t]), y[0, t])
        assert_same_bits(stream.step(x[:, t + 1]), y[:, t + 1])
    assert_same_bits(pushed.push(x[0, :2]), y[0, :2])
    assert_same_bits(pushed.push(x[:, 2:]), y[:, 2:])


def test_a_step_returns_the_state_itself(engine_name):
    """Read-only, and overwritten by the next step; what `push` returns is the caller's."""
    stream, x = Stream(layer(engine=engine_name), B), draw(B, T, I)
    y = stream.step(x[:, 0])
    first = y.copy()
    assert_same_bits(stream.state.h, first)
    with pytest.raises(ValueError, match="read-only"):
        y[0, 0] = 1
    second = stream.step(x[:, 1])
    assert np.shares_memory(second, y)
    assert_same_bits(y, second)
    assert (y != first).any()
    chunk = stream.push(x[:, 2:4])
    kept = chunk.copy()
    stream.push(x[:, 4:])
    assert_same_bits(chunk, kept)
    chunk[...] = np.nan
    assert np.isfinite(stream.step(x[:, 0])).all()


def test_what_comes_out_may_go_in(engine_name):
    rnn = layer(H, H, engine=engine_name, return_state=True)
    y = x = draw(1, H)
    stream, state = Stream(rnn), None
    for _ in range(5):
        y = stream.step(y)
        x, *state = rnn(x[:, None], state)
        x = x[:, 0]
        assert_same_bits(y, x)


@pytest.mark.parametrize("arguments", [{"activation": twice_tanh}, {"dtype": np.float16}])
def test_where_only_the_reference_can(arguments):
    dtype = arguments.pop("dtype", np.float32)
    rnn, x = layer(dtype=dtype, return_state=True, **arguments), draw(B, T, I, dtype=dtype)
    stream = Stream(rnn, B)
    assert stream.engine_used == "reference"
    y, h, c = rnn(x)
    assert_same_bits(in_pieces(stream, x, np.random.default_rng(0)), y)
    assert_same_state(stream, h, c)
    rnn.engine = "native"
    with pytest.raises(ValueError, match="native engine runs"):
        Stream(rnn)


def test_a_state_may_be_set(engine_name):
    """A state is set to any pair, or to None for zeros."""
    stream, x = Stream(layer(engine=engine_name), B), draw(B, T, I)
    assert_same_state(stream, *np.zeros((2, B, H), np.float32))
    y = in_steps(stream, x)
    stream.state = [draw(B, H), draw(B, H, seed=1)]
    assert_same_state(stream, draw(B, H), draw(B, H, seed=1))
    stream.state = None
    assert_same_bits(in_steps(stream, x), y)


@pytest.mark.parametrize(
    ("rows", "cleared"),
    [
        (None, [0, 1, 2]), ([], []), (1, [1]), ([2, 0], [0, 2]), (np.array([1, 1], np.uint8), [1]),
        ([True, False, True], [0, 2]), (np.zeros(B, bool), []), (np.ones(B, bool), [0, 1, 2]),
    ],
)  # fmt: skip
def test_reset(engine_name, rows, cleared):
    """A reset row forgets its state, NaN even; the others go on."""
    rnn, x = layer(engine=engine_name), draw(B, T, I)
    stream, untouched = Stream(rnn, B), Stream(rnn, B)
    for one in (stream, untouched):
        one.push(x)
    h, c = stream.state
    h[cleared], c[cleared] = np.nan, np.inf
    stream.state = h, c
    stream.reset(rows)
    others = [row for row in range(B) if row not in cleared]
    for state, was in zip(stream.state, untouched.state, strict=True):
        assert_same_bits(state[cleared], np.zeros((len(cleared), H), np.float32))
        assert_same_bits(state[others], was[others])
    anew, on, y = Stream(rnn, B).step(x[:, 0]), untouched.step(x[:, 0]), stream.step(x[:, 0])
    assert_same_bits(y[cleared], anew[cleared])
    assert_same_bits(y[others], on[others])


def test_the_layer_is_left_alone():
    """A stream has a state of its own, and ignores the flags of the layer for outputs."""
    cell = layer().cell
    rnn = RNN(cell, stateful=True, zero_output_for_mask=True)
    x = draw(B, T, I)
    rnn(x[:, :2])
    kept, stream = rnn.state, Stream(rnn, B)
    assert_same_bits(stream.push(x), RNN(cell, return_sequences=True)(x))
    assert_same_results(rnn.state, kept)


def test_no_steps():
    stream = Stream(layer(), B)
    stream.push(draw(B, 2, I))
    h, c = stream.state
    assert stream.push(draw(B, 0, I)).shape == (B, 0, H)
    assert_same_state(stream, h, c)
    assert Stream(layer()).push(draw(0, I)).shape == (0, H)


def test_a_step_leaves_no_objects():
    """Python counts no block more after 1000 steps, and none of the size of a state on the way."""
    stream, x = Stream(layer(8, 200), 4), draw(4, 8)
    tracemalloc.start()
    try:
        for _ in repeat(None, 10):
            stream.step(x)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for _ in repeat(None, 1000):
            stream.step(x)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after == before
    assert peak - before < 512  # NumPy describes the array it lends: some 100 bytes


ALLOCATIONS = """
import ctypes, sys
from itertools import repeat
import numpy as np
from glasscell import LSTM, Stream, _native, set_num_threads
_native.set_teams("always")  # else the threads may be made in the middle
count = ctypes.CDLL(None).allocations
count.restype = ctypes.c_long
B, I, H, threads, dtype = *map(int, sys.argv[1:5]), sys.argv[5]
set_num_threads(threads)
step, x = Stream(LSTM(H).build(I, seed=0, dtype=dtype), B).step, np.ones((B, I), dtype)
def steps(n):
    before = count()
    for _ in repeat(None, n):
        step(x)
    return count() - before
steps(100)
found = steps(1000)
before = count()
kept = np.ones(1000)
print(found, count() - before)
"""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(1, 8, 16, 1), (1, 300, 300, 2), (1, 300, 300, 3), (5, 33, 65, 1), (64, 40, 200, 2)])
def test_a_step_allocates_nothing(sizes, dtype):
    """Not one call of the system's allocator by any thread in 1000 steps, alone, in rows over threads or in a team."""
    found, made = map(int, run_with("count_allocations.cpp", "-c", ALLOCATIONS, *sizes, dtype).split())
    assert made >= 1  # it does count
    assert found == 0


@pytest.mark.parametrize("units", [8, 900])
def test_two_threads_never_mix(units):
    """A step is refused, or done as if the others were not there: after n of them the state is that of n steps."""
    rnn, x = layer(4, units, return_state=True), draw(1, 4)
    stream, refusals = Stream(rnn), set()

    def work(_):
        done = refused = 0
        for _ in range(300):
            try:
                stream.step(x)
                done += 1
            except RuntimeError as error:
                refusals.add(str(error))
                refused += 1
        return done, refused

    with ThreadPoolExecutor(3) as pool:
        done, refused = map(sum, zip(*pool.map(work, range(3)), strict=True))
    assert done >= 1
    assert done + refused == 900
    assert refusals <= {"stream: another thread is in the middle of a step"}
    if units == 900:  # so much work is done without Python's lock
        assert refused
    _, h, c = rnn(np.repeat(x[:, None], done, 1))
    assert_same_state(stream, h, c)


def test_the_end_of_the_process_is_silent():
    script = (
        "import numpy as np; from glasscell import LSTM, Stream; layer = LSTM(3).build(2, seed=0);"
        "stream = Stream(layer); y = stream.step(np.ones(2, np.float32)); copy = stream.copy()"
    )
    done = run_python("-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
