"""Bad input gets an error that names the argument, what was expected and what came; never a crash or a guess."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from compare import assert_same_results
from glasscell import LSTM, RNN, LSTMCell, Stream
from glasscell._cells import activations
from glasscell._cells.initializers import get_initializer
from glasscell._cells.layouts import LSTMWeights

B, T, I, H = 2, 3, 4, 5


def layer(engine="auto", **arguments):
    return LSTM(H, engine=engine, **arguments).build(I, seed=0)


def floats(*shape, dtype="f4"):
    return np.ones(shape, dtype)


X, STATE = floats(B, T, I), (floats(B, H), floats(B, H))
BOOLS, INTEGERS = np.ones((B, T), bool), np.ones((B, T), int)
V, E = ValueError, TypeError

# Argument of a call, a bad value, the error, and how its message goes on after the argument.
CALLS = [
    ("x", floats(T, I), V, r"expected shape \(B, T, I\) = \(B, T, 4\), got \(3, 4\)"),
    ("x", None, E, r"expected an array of shape \(B, T, I\), got None$"),
    ("x", floats(B, T, 6), V, r"expected .* = \(2, 3, 4\), got \(2, 3, 6\)"),
    ("x", floats(B, T, I, dtype="f8"), E, r"expected dtype float32, got float64; convert"),
    ("mask", BOOLS[:1], V, r"expected shape .*\(2, 3\), got \(1, 3\)"),
    ("mask", floats(B, T), E, r"expected bool, got float32"),
    ("mask", INTEGERS, E, r"expected bool, got int64"),
    ("reset", INTEGERS, E, r"expected bool, got int64"),
    ("reset", BOOLS[:, 0], V, r"expected shape .*\(2, 3\), got \(2,\)"),
    ("lengths", [3, 4], V, r"expected 0\.\.T = 0\.\.3, got 3\.\.4"),
    ("lengths", [-1, 2], V, r"expected 0\.\.T = 0\.\.3, got -1\.\.2"),
    ("lengths", [1.0, 2.0], E, r"expected integers, got float64"),
    ("lengths", [True, False], E, r"expected integers, got bool"),
    ("lengths", [1, 2, 3], V, r"expected shape \(B,\) = \(2,\), got \(3,\)"),
    ("lengths", 3, V, r"expected shape \(B,\) = \(2,\), got \(\)"),
    ("dropout_mask", floats(I), V, r"expected .*, got \(4,\)"),
    ("dropout_mask", floats(B, H), V, r"expected .*\(2, 4\), got \(2, 5\)"),
    ("dropout_mask", floats(3, B, I), V, r"expected .* = \(4, 2, 4\), got \(3, 2, 4\)"),
    ("dropout_mask", np.ones((B, I), bool), E, r"expected dtype float32, got bool"),
    ("recurrent_dropout_mask", floats(B, I), V, r"expected shape .* = \(2, 5\), got \(2, 4\)"),
]


@pytest.mark.parametrize("method", ["__call__", "vjp", "trace"])
@pytest.mark.parametrize(("name", "value", "error", "message"), CALLS)
def test_calls(name, value, error, message, method):
    with pytest.raises(error, match=f"^{name}: {message}"):
        getattr(layer(), method)(**{"x": X, name: value})


def set_state(owner, state):
    owner.state = STATE
    try:
        owner.state = state
    finally:
        assert_same_results(owner.state, STATE)


STATE_DOORS = {
    "call": ("initial_state", lambda state: layer()(X, state)),
    "vjp": ("initial_state", lambda state: layer().vjp(X, state)),
    "trace": ("initial_state", lambda state: layer().trace(X, state)),
    "pullback": ("dstate", lambda state: layer().vjp(X)[1](None, state)),
    "cell": ("state", lambda state: layer().cell(X[:, 0], state)),
    "gates": ("state", lambda state: layer().cell.gates(X[:, 0], state)),
    "layer": ("state", lambda state: set_state(layer(), state)),
    "stream": ("state", lambda state: set_state(Stream(layer(), B), state)),
}


@pytest.mark.parametrize("door", STATE_DOORS)
@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (floats(B, H), V, r": expected a pair \(h, c\), got ndarray$"),
        ([*STATE, 0], V, r": expected a pair \(h, c\), got list$"),
        ((), V, r": expected a pair \(h, c\), got tuple$"),
        ((floats(1, H), STATE[1]), V, r"\.[hc]: expected shape \(B, H\) = \([12], 5\), got \([12], 5\)$"),
        ((STATE[0], floats(B, 1)), V, r"\.c: expected shape \(B, H\) = \(2, 5\), got \(2, 1\)$"),
        ((1.0, STATE[1]), V, r"\.h: expected shape \(B, H\) = \([02], 5\), got \(\)$"),
        ((floats(B, H, dtype="f8"), STATE[1]), E, r"\.h: expected dtype float32, got float64; convert"),
        ((STATE[0], floats(B, H, dtype="f8")), E, r"\.c: expected dtype float32, got float64; convert"),
    ],
)
def test_states(door, state, error, message):
    name, take = STATE_DOORS[door]
    with pytest.raises(error, match=f"^{name}{message}"):
        take(state)


@pytest.mark.parametrize(
    ("dy", "error", "message"),
    [
        (floats(B, T, H), V, r"expected shape \(B, H\) = \(2, 5\), got \(2, 3, 5\)"),
        (floats(B, H, dtype="f8"), E, r"expected dtype float32, got float64"),
    ],
)
def test_pullback(dy, error, message):
    with pytest.raises(error, match=f"^dy: {message}"):
        layer().vjp(X)[1](dy)


def test_stateful_batch():
    stateful = layer(stateful=True)
    stateful(X)
    for rows in (1, 3):
        message = rf"x: expected the batch size of the stateful state, 2, got {rows}; reset_state"
        with pytest.raises(V, match=message):
            stateful(floats(rows, T, I))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (floats(I), V, r"expected shape \(B, I\) = \(B, 4\), got \(4,\)"),
        (floats(B, 1, I), V, r"expected shape \(B, I\) = \(B, 4\), got \(2, 1, 4\)"),
        (floats(B, I, dtype="f8"), E, r"expected dtype float32, got float64"),
    ],
)
def test_one_step(x, error, message):
    for method in (layer().cell, layer().cell.gates):
        with pytest.raises(error, match=f"^x: {message}"):
            method(x)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        *(({"units": n}, V, rf"units: expected a positive integer, got {n}") for n in (0, -3, 2.0, True)),
        ({"activation": "tanhh"}, V, r"activation: expected one of tanh, .*; got 'tanhh'"),
        ({"recurrent_activation": "sigmoidal"}, V, r"recurrent_activation: expected one of .*'sigmoidal'"),
        ({"activation": "ReLU"}, V, r"activation: expected one of tanh, .*, tanh_shrink, swish, .*; got 'ReLU'"),
        *(({"activation": name}, V, f"^activation: {name} {reason}$") for name, reason in activations.REFUSED.items()),
        ({"recurrent_activation": "softmax"}, V, "^recurrent_activation: softmax acts on all units together; "),
        ({"activation": 3}, E, r"activation: expected a name, a callable or None; got 3"),
        ({"kernel_initializer": "glorot"}, V, r"kernel_initializer: expected one of zeros, .*; got 'glorot'"),
        ({"recurrent_initializer": None}, E, r"recurrent_initializer: expected .*, got None"),
        ({"bias_initializer": {"class_name": "os.system"}}, V, r"bias_initializer: .*; got 'os\.system'"),
        *(({name: rate}, V, rf"{name}: expected a fraction in 0\.\.1, got {rate!r}")
          for name in ("dropout", "recurrent_dropout") for rate in (1.5, float("nan"), -0.1, "half")),
        ({"implementation": 3}, V, r"implementation: expected 1 or 2 .*, got 3"),
        *(({"dtype": dtype}, V, rf"dtype: expected a NumPy float dtype, such as float32, got {dtype!r}")
          for dtype in ("int32", "bfloat17", None, ">f4")),
        ({"dtype": {"config": {"name": "bfloat16"}}}, V, r"dtype: .*, got 'bfloat16'"),
        ({"wings": 2}, E, r"wings"),
    ],
)  # fmt: skip
def test_cell_arguments(arguments, error, message):
    for make in (LSTMCell, LSTM):
        with pytest.raises(error, match=message):
            make(**{"units": H, **arguments})


def test_unbuilt():
    cell = LSTMCell(H)
    uses = (
        lambda: cell.weights,
        cell.get_weights,
        lambda: cell(X[:, 0]),
        lambda: RNN(cell)(X),
        lambda: Stream(RNN(cell)),
    )
    for use in uses:
        with pytest.raises(V, match=r"^weights: the cell has none yet; call build\(I\)"):
            use()
    for wrong in (0, -1, 2.5, True, None):
        with pytest.raises(V, match=rf"input_dim: expected a positive integer, got {wrong}"):
            cell.build(wrong)
    with pytest.raises(V, match="dtype: expected a NumPy float dtype"):
        cell.build(I, dtype="int8")


def test_rnn_of_something_else():
    with pytest.raises(E, match=r"cell: expected a glasscell\.LSTMCell or StackedRNNCells, got int"):
        RNN(3)


def weights_of(kernel=(I, 20), recurrent_kernel=(H, 20), bias=(20,), dtype="f4", recurrent_dtype=None):
    return [
        floats(*kernel, dtype=dtype),
        floats(*recurrent_kernel, dtype=recurrent_dtype or dtype),
        floats(*bias, dtype=dtype),
    ]


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([floats(I, 20)], V, r"weights: expected 3 arrays \(use_bias=True\), got 1"),
        (weights_of(recurrent_kernel=(H, 15)), V, r"recurrent_kernel: expected shape \(H, 4H\), got"),
        (weights_of(recurrent_kernel=(6, 24), bias=(24,)), V, r"kernel: expected .* = \(4, 24\), got \(4, 20\)"),
        (weights_of((I, 24), (6, 24), (24,)), V, r"recurrent_kernel: expected H = 5, got 6"),
        (weights_of((20,)), V, r"kernel: expected shape \(I, 4H\), got \(20,\)"),
        (weights_of((7, 20)), V, r"kernel: expected shape \(4, 20\), got \(7, 20\)"),
        (weights_of(bias=(1,)), V, r"bias: expected shape \(4H,\) = \(20,\), got \(1,\)"),
        (weights_of(recurrent_dtype="f8"), E, r"kernel: expected dtype float64, got"),
        (weights_of(dtype="f8"), E, r"weights: expected dtype float32, got float64"),
        ([floats(I, 20, dtype=int)] * 3, V, r"recurrent_kernel: expected shape \(H, 4H\), got \(4, 20\)"),
        (weights_of(recurrent_dtype=int), E, r"recurrent_kernel: expected a float dtype"),
    ],
)
def test_set_weights(weights, error, message):
    cell = layer().cell
    before = cell.get_weights()
    with pytest.raises(error, match=f"^{message}"):
        cell.set_weights(weights)
    assert_same_results(cell.get_weights(), before)


def test_from_torch_one_bias():
    with pytest.raises(V, match="bias_ih, bias_hh: expected both or neither"):
        LSTMWeights.from_torch(floats(20, I), floats(20, H), floats(20))


def test_engines():
    callable_ = r"activation: the native engine runs .* callable 'sin'.*reference"
    for arguments, message in (
        ({"engine": "native", "activation": np.sin}, f"^{callable_}"),
        ({"engine": "native", "recurrent_activation": np.sin}, f"^recurrent_{callable_}"),
        ({"engine": "native", "dtype": "f2"}, "x: the native engine runs float32 and float64, got float16"),
    ):
        rnn = layer(**arguments)
        for use in (rnn, rnn.vjp, lambda _, rnn=rnn: Stream(rnn)):
            with pytest.raises(V, match=message):
                use(X.astype(rnn.cell.dtype))


def test_unknown_engines():
    for make in (LSTM, LSTMCell, lambda n, **flags: RNN(LSTMCell(n), **flags)):
        with pytest.raises(V, match="engine: expected one of 'auto', 'native', 'reference', got 'cuda'"):
            make(H, engine="cuda")
    rnn = layer()
    rnn.engine = "cuda"
    for use in (rnn, rnn.vjp, lambda _: Stream(rnn)):
        with pytest.raises(V, match='engine: expected "auto", "native" or "reference", got \'cuda\''):
            use(X)


def test_a_callable_without_derivative_has_no_gradient():
    _, pullback = layer(activation=np.sin).vjp(X)
    with pytest.raises(V, match="activation: 'sin' has no derivative"):
        pullback(floats(B, H))


def test_configurations_of_keras():
    """What a configuration of Keras's holds as activation that has no name of its own."""
    slope = {"module": "keras.layers", "class_name": "LeakyReLU", "config": {"negative_slope": 0.3}}
    mine = {"module": "builtins", "class_name": "function", "config": "mine", "registered_name": "function"}
    for given, name in ((slope, "LeakyReLU"), (mine, "mine")):
        config = {**LSTM(H).get_config(), "recurrent_activation": given}
        with pytest.raises(E, match=f"^recurrent_activation: .*; got the configuration of '{name}', in whose place a "):
            LSTM.from_config(config)
    with pytest.raises(V, match=r"^activation: softmax acts on all units together"):
        LSTM.from_config({**LSTM(H).get_config(), "activation": "softmax"})


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda x: x[:, :1], r"ndarray of shape \(2, 1\)"),
        (lambda x: x.tolist(), "list"),
        (lambda x: torch.from_numpy(x), r"Tensor of shape \(2, 5\)"),
        (jnp.tanh, r"ArrayImpl of shape \(2, 5\)"),
    ],
)
def test_a_callable_gives_arrays_of_the_same_shape(function, got):
    with pytest.raises(E, match=rf"^the activation '.*': expected a NumPy array of the shape .*\(2, 5\), got {got}$"):
        layer(activation=function)(X)


def test_lookups():
    with pytest.raises(V, match="gate: expected one of"):
        activations.get("no", "gate")
    with pytest.raises(E, match="kernel_initializer: expected a Keras initialiser's name"):
        get_initializer({"config": {}}, "kernel_initializer")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((LSTMCell(2),), E, r"rnn: expected a glasscell.RNN, such as LSTM\(64\), got LSTMCell$"),
        ((None,), E, r"rnn: expected a glasscell.RNN, .*, got NoneType$"),
        ((layer(go_backwards=True),), V, r"rnn: expected a layer that goes forwards, got go_backwards=True"),
        *(((layer(), batch), V, rf"batch: expected a positive integer, got {batch!r}$")
          for batch in (0, -1, 2.0, True, None, "2")),
    ],
)  # fmt: skip
def test_streams(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Stream(*arguments)
    assert Stream(layer(), np.int64(2)).batch == 2


# Batch of the stream, a method, a bad argument, the error and its message.
STREAMED = [
    (2, "step", floats(I), V, r"x: expected shape \(B, I\) = \(2, 4\), got \(4,\)$"),
    (1, "step", floats(2, I), V, r"x: expected shape \(B, I\) = \(1, 4\), got \(2, 4\)$"),
    (2, "step", floats(2, 5), V, r"x: expected shape \(B, I\) = \(2, 4\), got \(2, 5\)$"),
    (1, "step", floats(5), V, r"x: expected shape \(I,\) = \(4,\), got \(5,\)$"),
    (2, "step", floats(2, 1, I), V, r"x: expected shape \(B, I\) = .*, got \(2, 1, 4\)$"),
    (2, "step", None, E, r"x: expected an array, got None$"),
    (2, "step", floats(2, I, dtype="f8"), E, r"x: expected dtype float32, got float64; convert"),
    (1, "step", [1.0] * I, E, r"x: expected dtype float32, got float64; convert"),
    (2, "push", floats(2, I), V, r"x: expected shape \(B, T, I\) = \(B, T, 4\), got \(2, 4\)"),
    (2, "push", floats(3, T, I), V, r"x: expected the batch of the stream, 2, got 3$"),
    (1, "push", floats(2, T, I), V, r"x: expected the batch of the stream, 1, got 2$"),
    (2, "push", floats(2, T, 5), V, r"x: expected shape \(B, T, I\) = .*, got \(2, 3, 5\)$"),
    (2, "push", floats(2, T, I, dtype="f8"), E, r"x: expected dtype float32, got float64"),
    (2, "reset", [0, 2], V, r"rows: expected 0\.\.1, got 0\.\.2$"),
    (2, "reset", -1, V, r"rows: expected 0\.\.1, got -1\.\.-1$"),
    (2, "reset", [1.0], E, r"rows: expected row numbers or bools, got float64$"),
    (2, "reset", "all", E, r"rows: expected row numbers or bools, got 'all'$"),
    (2, "reset", [True] * 3, V, r"rows: expected bools of shape \(B,\) = \(2,\), got \(3,\)$"),
    (2, "reset", True, V, r"rows: expected bools of shape \(B,\) = \(2,\), got \(\)$"),
    (2, "reset", np.zeros(0, bool), V, r"rows: expected bools of .* = \(2,\), got \(0,\)$"),
]


@pytest.mark.parametrize(("batch", "method", "argument", "error", "message"), STREAMED)
def test_a_refused_step_changes_nothing(engine_name, batch, method, argument, error, message):
    stream = Stream(layer(engine_name), batch)
    stream.push(floats(batch, T, I))
    before = stream.state
    with pytest.raises(error, match=f"^{message}"):
        getattr(stream, method)(argument)
    assert_same_results(stream.state, before)
