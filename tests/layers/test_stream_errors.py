"""What `Stream` refuses: the error names the argument, what was expected and what came, and nothing has changed."""

import numpy as np
import pytest

from compare import assert_same_bits
from glasscell import LSTM, LSTMCell, Stream

B, T, I, H = 3, 6, 4, 5


def layer(**arguments):
    return LSTM(H, **arguments).build(I, seed=0)


def floats(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def assert_same_state(stream, state):
    for now, before in zip(stream.state, state, strict=True):
        assert_same_bits(now, before)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((LSTMCell(2),), TypeError, r"^rnn: expected a glasscell.RNN, such as LSTM\(64\), got LSTMCell$"),
        ((None,), TypeError, r"^rnn: expected a glasscell.RNN, .*, got NoneType$"),
        ((LSTM(2),), ValueError, r"^weights: the cell has none yet; call build"),
        ((layer(go_backwards=True),), ValueError, r"^rnn: expected a layer that goes forwards, got go_backwards=True"),
        ((layer(engine="fast"),), ValueError, r"^engine: expected .*, got 'fast'$"),
        *(((layer(), batch), ValueError, rf"^batch: expected a positive integer, got {batch!r}$")
          for batch in (0, -1, 2.0, True, None, "2")),
    ],
)  # fmt: skip
def test_bad_streams(arguments, error, message):
    with pytest.raises(error, match=message):
        Stream(*arguments)
    assert Stream(layer(), np.int64(2)).batch == 2


WRONG = {
    "one row for two": (2, "step", floats(I), ValueError, r"^x: expected shape \(B, I\) = \(2, 4\), got \(4,\)$"),
    "two rows for one": (1, "step", floats(2, I), ValueError, r"^x: expected shape \(B, I\) = \(1, 4\), got \(2, 4\)$"),
    "other features": (2, "step", floats(2, 5), ValueError, r"^x: expected shape \(B, I\) = \(2, 4\), got \(2, 5\)$"),
    "a row of others": (1, "step", floats(5), ValueError, r"^x: expected shape \(I,\) = \(4,\), got \(5,\)$"),
    "rank 3": (2, "step", floats(2, 1, I), ValueError, r"^x: expected shape \(B, I\) = .*, got \(2, 1, 4\)$"),
    "nothing": (2, "step", None, ValueError, r"^x: expected shape \(B, I\) = \(2, 4\), got \(\)$"),
    "a number": (2, "step", 1.0, ValueError, r"^x: expected shape \(B, I\) = \(2, 4\), got \(\)$"),
    "a string": (2, "step", "x", ValueError, r"^x: expected shape \(B, I\) = \(2, 4\), got \(\)$"),
    "bytes": (1, "step", b"1234", ValueError, r"^x: expected shape .*, got \(\)$"),
    "float64": (2, "step", floats(2, I, dtype="f8"), TypeError, r"^x: expected dtype float32, got float64; convert"),
    "integers": (2, "step", floats(2, I, dtype="i4"), TypeError, r"^x: expected dtype float32, got int32; convert"),
    "swapped": (2, "step", floats(2, I, dtype=">f4"), TypeError, r"^x: expected dtype float32, got >f4; convert"),
    "a list": (1, "step", [1.0] * I, TypeError, r"^x: expected dtype float32, got float64; convert"),
    "a ragged list": (2, "step", [[1.0], [1.0, 2.0]], ValueError, r"inhomogeneous"),
    "a step pushed": (
        2,
        "push",
        floats(2, I),
        ValueError,
        r"^x: expected shape \(B, T, I\) = \(B, T, 4\), got \(2, 4\)",
    ),
    "another batch": (2, "push", floats(3, T, I), ValueError, r"^x: expected the batch of the stream, 2, got 3$"),
    "a batch for one": (1, "push", floats(2, T, I), ValueError, r"^x: expected the batch of the stream, 1, got 2$"),
    "others pushed": (2, "push", floats(2, T, 5), ValueError, r"^x: expected shape \(B, T, I\) = .*, got \(2, 6, 5\)$"),
    "float64 pushed": (2, "push", floats(2, T, I, dtype="f8"), TypeError, r"^x: expected dtype float32, got float64"),
    "rows too high": (2, "reset", [0, 2], ValueError, r"^rows: expected 0\.\.1, got 0\.\.2$"),
    "rows negative": (2, "reset", -1, ValueError, r"^rows: expected 0\.\.1, got -1\.\.-1$"),
    "rows of floats": (2, "reset", [1.0], TypeError, r"^rows: expected row numbers or bools, got float64$"),
    "rows of text": (2, "reset", "all", TypeError, r"^rows: expected row numbers or bools, got <U3$"),
    "three bools": (2, "reset", [True] * 3, ValueError, r"^rows: expected bools of shape \(B,\) = \(2,\), got \(3,\)$"),
    "one bool": (2, "reset", True, ValueError, r"^rows: expected bools of shape \(B,\) = \(2,\), got \(\)$"),
    "no bools": (2, "reset", np.zeros(0, bool), ValueError, r"^rows: expected bools of .* = \(2,\), got \(0,\)$"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input(engine_name, name):
    batch, method, argument, error, message = WRONG[name]
    stream = Stream(layer(engine=engine_name), batch)
    stream.push(floats(batch, T, I))
    before = stream.state
    with pytest.raises(error, match=message):
        getattr(stream, method)(argument)
    assert_same_state(stream, before)


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (floats(B, H), ValueError, r"^state: expected a pair \(h, c\), got ndarray$"),
        ((floats(B, H),) * 3, ValueError, r"^state: expected a pair \(h, c\), got tuple$"),
        ((floats(B, H), floats(1, H)), ValueError, r"^state\.c: expected shape \(B, H\) = \(3, 5\), got \(1, 5\)$"),
        ((floats(B, H), floats(B, H, dtype="f8")), TypeError, r"^state\.c: expected dtype float32, got float64"),
    ],
)
def test_bad_state(state, error, message):
    stream = Stream(layer(), B)
    stream.push(floats(B, T, I))
    before = stream.state
    with pytest.raises(error, match=message):
        stream.state = state
    assert_same_state(stream, before)
