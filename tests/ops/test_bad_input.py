"""Bad input gets an error that names the argument, what was expected and what came; never a crash or a guess."""

import numpy as np
import pytest

from glasscell import LSTM, RNN, LSTMCell
from glasscell._cells import activations
from glasscell._cells.initializers import get_initializer
from glasscell._cells.layouts import LSTMWeights

B, T, I, H = 2, 3, 4, 5


def layer(engine="auto", **arguments):
    return LSTM(H, engine=engine, **arguments).build(I, seed=0)


def floats(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


X, STATE = floats(B, T, I), (floats(B, H), floats(B, H))

# What is wrong, the arguments of a call, the error and its message: argument, expected, got.
CALLS = {
    "x of rank 2": (dict(x=floats(T, I)), ValueError, r"x: expected shape \(B, T, I\) = \(B, T, 4\), got \(3, 4\)"),
    "x of rank 0": (dict(x=None), ValueError, r"x: expected shape .*, got \(\)"),
    "x of other features": (dict(x=floats(B, T, 6)), ValueError, r"x: expected .* = \(2, 3, 4\), got \(2, 3, 6\)"),
    "x of float64": (dict(x=floats(B, T, I, dtype="f8")), TypeError, r"x: expected dtype float32, got float64"),
    "x of integers": (dict(x=floats(B, T, I, dtype=int)), TypeError, r"x: expected dtype float32, got int64"),
    "x of objects": (dict(x=np.full((B, T, I), None)), TypeError, r"x: expected dtype float32, got object"),
    "x swapped bytes": (dict(x=floats(B, T, I, dtype=">f4")), TypeError, r"x: expected dtype float32, got >f4"),
    "state alone": (dict(initial_state=floats(B, H)), ValueError, r"initial_state: expected a pair .*, got ndarray"),
    "state of three": (dict(initial_state=[*STATE, 0]), ValueError, r"initial_state: expected a pair .*, got list"),
    "state of another batch": (
        dict(initial_state=(floats(1, H), floats(B, H))), ValueError,
        r"initial_state\.h: expected shape \(B, H\) = \(2, 5\), got \(1, 5\)",
    ),
    "state of other units": (
        dict(initial_state=(floats(B, H), floats(B, 1))), ValueError,
        r"initial_state\.c: expected shape \(B, H\) = \(2, 5\), got \(2, 1\)",
    ),
    "state of float64": (
        dict(initial_state=(floats(B, H), floats(B, H, dtype="f8"))), TypeError,
        r"initial_state\.c: expected dtype float32, got float64",
    ),
    "mask of one row": (dict(mask=np.ones((1, T), bool)), ValueError, r"mask: expected shape .*\(2, 3\), got \(1, 3\)"),
    "mask of floats": (dict(mask=floats(B, T)), TypeError, r"mask: expected bool, got float32"),
    "mask of integers": (dict(mask=np.ones((B, T), int)), TypeError, r"mask: expected bool, got int64"),
    "reset of integers": (dict(reset=np.ones((B, T), int)), TypeError, r"reset: expected bool, got int64"),
    "reset of one step": (dict(reset=np.ones(B, bool)), ValueError, r"reset: expected shape .*\(2, 3\), got \(2,\)"),
    "lengths too long": (dict(lengths=[3, 4]), ValueError, r"lengths: expected 0\.\.T = 0\.\.3, got 3\.\.4"),
    "lengths negative": (dict(lengths=[-1, 2]), ValueError, r"lengths: expected 0\.\.T = 0\.\.3, got -1\.\.2"),
    "lengths of floats": (dict(lengths=[1.0, 2.0]), TypeError, r"lengths: expected integers, got float64"),
    "lengths of bools": (dict(lengths=[True, False]), TypeError, r"lengths: expected integers, got bool"),
    "lengths of three": (dict(lengths=[1, 2, 3]), ValueError, r"lengths: expected shape \(B,\) = \(2,\), got \(3,\)"),
    "lengths alone": (dict(lengths=3), ValueError, r"lengths: expected shape \(B,\) = \(2,\), got \(\)"),
    "dropout of rank 1": (dict(dropout_mask=floats(I)), ValueError, r"dropout_mask: expected .*, got \(4,\)"),
    "dropout of H": (dict(dropout_mask=floats(B, H)), ValueError, r"dropout_mask: expected .*\(2, 4\), got \(2, 5\)"),
    "dropout of three gates": (
        dict(dropout_mask=floats(3, B, I)), ValueError, r"dropout_mask: expected .* = \(4, 2, 4\), got \(3, 2, 4\)",
    ),
    "dropout of bools": (
        dict(dropout_mask=np.ones((B, I), bool)), TypeError, r"dropout_mask: expected dtype float32, got bool",
    ),
    "recurrent dropout of I": (
        dict(recurrent_dropout_mask=floats(B, I)), ValueError,
        r"recurrent_dropout_mask: expected shape .* = \(2, 5\), got \(2, 4\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", ["__call__", "vjp", "trace"])
@pytest.mark.parametrize("name", CALLS)
def test_calls(name, method):
    arguments, error, message = CALLS[name]
    with pytest.raises(error, match=message):
        getattr(layer(), method)(**{"x": X, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((floats(B, T, H),), ValueError, r"dy: expected shape \(B, H\) = \(2, 5\), got \(2, 3, 5\)"),
        ((floats(B, H, dtype="f8"),), TypeError, r"dy: expected dtype float32, got float64"),
        ((None, floats(B, H)), ValueError, r"dstate: expected a pair \(h, c\), got ndarray"),
        ((None, (floats(B, H), floats(B, I))), ValueError, r"dstate\.c: expected shape .*\(2, 5\), got \(2, 4\)"),
        ((None, (floats(B, H, dtype="f8"), floats(B, H))), TypeError, r"dstate\.h: expected dtype float32"),
    ],
)
def test_pullback(arguments, error, message):
    _, pullback = layer().vjp(X)
    with pytest.raises(error, match=message):
        pullback(*arguments)


def test_stateful_batch():
    stateful = layer(stateful=True)
    stateful(X)
    for rows in (1, 3):
        message = rf"x: expected the batch size of the stateful state, 2, got {rows}; reset_state"
        with pytest.raises(ValueError, match=message):
            stateful(floats(rows, T, I))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": floats(I)}, ValueError, r"x: expected shape \(B, I\) = \(B, 4\), got \(4,\)"),
        ({"x": floats(B, 1, I)}, ValueError, r"x: expected shape \(B, I\) = \(B, 4\), got \(2, 1, 4\)"),
        ({"x": floats(B, I, dtype="f8")}, TypeError, r"x: expected dtype float32, got float64"),
        ({"x": floats(B, I), "state": floats(B, H)}, ValueError, r"state: expected a pair \(h, c\), got ndarray"),
        ({"x": floats(B, I), "state": (floats(1, H),) * 2}, ValueError, r"state\.h: expected shape .*, got \(1, 5\)"),
    ],
)
def test_one_step(arguments, error, message):
    cell = layer().cell
    for method in (cell, cell.gates):
        with pytest.raises(error, match=message):
            method(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"units": 0}, ValueError, r"units: expected a positive integer, got 0"),
        ({"units": -3}, ValueError, r"units: expected a positive integer, got -3"),
        ({"units": 2.0}, ValueError, r"units: expected a positive integer, got 2\.0"),
        ({"units": True}, ValueError, r"units: expected a positive integer, got True"),
        ({"activation": "tanhh"}, ValueError, r"activation: expected one of tanh, .*; got 'tanhh'"),
        ({"recurrent_activation": "sigmoidal"}, ValueError, r"recurrent_activation: expected one of .*'sigmoidal'"),
        ({"activation": 3}, TypeError, r"activation: expected a name, a callable or None; got 3"),
        ({"kernel_initializer": "glorot"}, ValueError, r"kernel_initializer: expected one of zeros, .*; got 'glorot'"),
        ({"recurrent_initializer": None}, TypeError, r"recurrent_initializer: expected .*, got None"),
        ({"bias_initializer": {"class_name": "os.system"}}, ValueError, r"bias_initializer: .*; got 'os\.system'"),
        ({"dropout": 1.5}, ValueError, r"dropout: expected a fraction in 0\.\.1, got 1\.5"),
        ({"dropout": float("nan")}, ValueError, r"dropout: expected a fraction in 0\.\.1, got nan"),
        ({"recurrent_dropout": -0.1}, ValueError, r"recurrent_dropout: expected a fraction in 0\.\.1, got -0\.1"),
        ({"recurrent_dropout": "half"}, ValueError, r"recurrent_dropout: expected a fraction in 0\.\.1, got 'half'"),
        ({"implementation": 3}, ValueError, r"implementation: expected 1 or 2 .*, got 3"),
        ({"dtype": "int32"}, ValueError, r"dtype: expected a NumPy float dtype, such as float32, got 'int32'"),
        ({"dtype": "bfloat17"}, ValueError, r"dtype: expected a NumPy float dtype, such as float32, got 'bfloat17'"),
        ({"dtype": None}, ValueError, r"dtype: expected a NumPy float dtype, such as float32, got None"),
        ({"dtype": {"config": {"name": "bfloat16"}}}, ValueError, r"dtype: .*, got 'bfloat16'"),
        ({"dtype": ">f4"}, ValueError, r"dtype: expected a NumPy float dtype, such as float32, got '>f4'"),
        ({"wings": 2}, TypeError, r"wings"),
    ],
)
def test_cell_arguments(arguments, error, message):
    for make in (LSTMCell, LSTM):
        with pytest.raises(error, match=message):
            make(**{"units": H, **arguments})


def test_unbuilt():
    cell = LSTMCell(H)
    for use in (lambda: cell.weights, cell.get_weights, lambda: cell(floats(B, I)), lambda: RNN(cell)(X)):
        with pytest.raises(ValueError, match=r"weights: the cell has none yet; call build\(I\)"):
            use()
    for wrong in (0, -1, 2.5, True, None):
        with pytest.raises(ValueError, match=rf"input_dim: expected a positive integer, got {wrong}"):
            cell.build(wrong)
    with pytest.raises(ValueError, match="dtype: expected a NumPy float dtype"):
        cell.build(I, dtype="int8")


def test_rnn_of_something_else():
    with pytest.raises(TypeError, match=r"cell: expected a glasscell\.LSTMCell, got int"):
        RNN(3)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([floats(I, 20)], ValueError, r"weights: expected 3 arrays \(use_bias=True\), got 1"),
        ([floats(I, 20), floats(H, 15), floats(20)], ValueError, r"recurrent_kernel: expected shape \(H, 4H\), got"),
        ([floats(I, 20), floats(6, 24), floats(24)], ValueError, r"kernel: expected .* = \(4, 24\), got \(4, 20\)"),
        ([floats(I, 24), floats(6, 24), floats(24)], ValueError, r"recurrent_kernel: expected H = 5, got 6"),
        ([floats(20), floats(H, 20), floats(20)], ValueError, r"kernel: expected shape \(I, 4H\), got \(20,\)"),
        ([floats(7, 20), floats(H, 20), floats(20)], ValueError, r"kernel: expected shape \(4, 20\), got \(7, 20\)"),
        ([floats(I, 20), floats(H, 20), floats(1)], ValueError, r"bias: expected shape \(4H,\) = \(20,\), got \(1,\)"),
        ([floats(I, 20), floats(H, 20, dtype="f8"), floats(20)], TypeError, r"kernel: expected dtype float64, got"),
        ([floats(I, 20, dtype="f8"), floats(H, 20, dtype="f8"), floats(20, dtype="f8")], TypeError,
         r"weights: expected dtype float32, got float64"),
        ([floats(I, 20, dtype=int)] * 3, ValueError, r"recurrent_kernel: expected shape \(H, 4H\), got \(4, 20\)"),
        ([floats(I, 20), floats(H, 20, dtype=int), floats(20)], TypeError, r"recurrent_kernel: expected a float dtype"),
    ],
)  # fmt: skip
def test_set_weights(weights, error, message):
    cell = layer().cell
    before = cell.get_weights()
    with pytest.raises(error, match=message):
        cell.set_weights(weights)
    for array, kept in zip(cell.get_weights(), before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_from_torch_one_bias():
    with pytest.raises(ValueError, match="bias_ih, bias_hh: expected both or neither"):
        LSTMWeights.from_torch(floats(20, I), floats(20, H), floats(20))


def test_engines():
    with pytest.raises(ValueError, match='engine: expected "auto", "native" or "reference", got \'cuda\''):
        layer("cuda")(X)
    with pytest.raises(ValueError, match=r"activation: the native engine runs .* callable 'sin'.*reference"):
        layer("native", activation=np.sin)(X)
    with pytest.raises(ValueError, match=r"recurrent_activation: the native engine .* callable 'sin'"):
        layer("native", recurrent_activation=np.sin)(X)
    with pytest.raises(ValueError, match="x: the native engine runs float32 and float64, got float16"):
        layer("native", dtype="float16")(X.astype("f2"))
    with pytest.raises(ValueError, match="activation: the native engine"):
        layer("native", activation=np.sin).vjp(X)


def test_a_callable_without_derivative_has_no_gradient():
    _, pullback = layer(activation=np.sin).vjp(X)
    with pytest.raises(ValueError, match="activation: 'sin' has no derivative"):
        pullback(floats(B, H))


def test_lookups():
    with pytest.raises(ValueError, match="gate: expected one of"):
        activations.get("no", "gate")
    with pytest.raises(TypeError, match="kernel_initializer: expected a Keras initialiser's name"):
        get_initializer({"config": {}}, "kernel_initializer")
