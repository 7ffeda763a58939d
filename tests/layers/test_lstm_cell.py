"""`LSTMCell` on NumPy: one step, weights, initialisers and configuration, against `keras.layers.LSTMCell`."""

import keras
import numpy as np
import pytest

from compare import assert_close, assert_same_bits, assert_same_results
from drawn import spoil, twice_tanh
from glasscell import LSTM, LSTMCell
from glasscell._cells.layouts import LSTMWeights

FLOAT32 = 1e-6  # 8 epsilons of the array's scale: the rounding of a sum of eight products and some operations on it


def pair(**arguments):
    """Our cell and Keras's, of the same arguments and weights."""
    cell = LSTMCell(5, **arguments).build(3, seed=0)
    cell.set_weights([w + np.float32(0.1) for w in cell.get_weights()])
    theirs = keras.layers.LSTMCell(5, **arguments)
    theirs.build((None, 3))
    theirs.set_weights(cell.get_weights())
    return cell, theirs


@pytest.mark.parametrize(
    "arguments", [{}, {"use_bias": False}, {"activation": "relu", "recurrent_activation": "hard_sigmoid"}]
)
def test_one_step_as_keras(rng, engine_name, arguments):
    cell, theirs = pair(**arguments)
    cell.engine = engine_name
    x, h, c = (rng.standard_normal((4, n)).astype(np.float32) for n in (3, 5, 5))
    output, (h_next, c_next) = cell(x, (h, c))
    expected, (_, c_expected) = theirs(x, [h, c])
    assert cell.engine_used == engine_name
    assert_close(output, expected, FLOAT32)
    assert_close(c_next, c_expected, FLOAT32)
    assert_same_bits(h_next, output)
    gates = cell.gates(x, (h, c))
    assert_close(gates.f * c + gates.i * gates.g, c_next, FLOAT32)
    assert_close(gates.o * cell.activation(c_next), output, FLOAT32)


def test_no_state_is_zeros(rng):
    cell, _ = pair()
    x = rng.standard_normal((4, 3)).astype(np.float32)
    zeros = cell.get_initial_state(4)
    assert [(s.shape, s.dtype, s.any()) for s in zeros] == [((4, 5), np.float32, False)] * 2
    assert_same_bits(cell(x)[0], cell(x, zeros)[0])


def test_glorot_and_orthogonal():
    """Keras's defaults: of the whole matrix, not of each gate."""
    kernel, recurrent_kernel, bias = LSTMCell(40).build(30, seed=0, dtype="float64").weights
    limit = np.sqrt(6 / (30 + 160))
    assert 0.99 * limit < np.abs(kernel).max() <= limit  # 4800 draws come close to the limit
    assert abs(kernel.mean()) < 4 * limit / np.sqrt(3 * kernel.size)  # four standard errors
    np.testing.assert_allclose(recurrent_kernel @ recurrent_kernel.T, np.eye(40), atol=1e-13)  # 40 products
    np.testing.assert_array_equal(bias, np.repeat([0.0, 1.0, 0.0, 0.0], 40))


def test_unit_forget_bias_leaves_the_others_to_the_initialiser():
    kept = LSTMCell(6, bias_initializer="random_normal").build(2, seed=0).weights.bias
    np.testing.assert_array_equal(kept[6:12], 1)
    others = np.concatenate([kept[:6], kept[12:]])
    assert len(np.unique(others)) == 18
    assert np.abs(others).max() < 0.3  # six standard deviations of 0.05
    constant = {"class_name": "Constant", "config": {"value": 7.0}}
    np.testing.assert_array_equal(
        LSTMCell(1, bias_initializer=constant).build(1, seed=0).weights.bias, np.float32([7, 1, 7, 7])
    )
    plain = LSTMCell(6, bias_initializer="ones", unit_forget_bias=False).build(2, seed=0).weights.bias
    np.testing.assert_array_equal(plain, np.ones(24))
    assert LSTMCell(6, use_bias=False).build(2, seed=0).weights.bias is None


def test_a_seed_repeats():
    def weights(seed, **arguments):
        return np.concatenate([w.ravel() for w in LSTMCell(6, **arguments).build(2, seed=seed).get_weights()])

    assert_same_bits(weights(1), weights(1))
    assert not np.array_equal(weights(1), weights(2))
    assert not np.array_equal(weights(None), weights(None))
    seeded = {
        name: {"class_name": "GlorotUniform", "config": {"seed": 3}}
        for name in ("kernel_initializer", "recurrent_initializer")
    }
    assert_same_bits(weights(1, **seeded), weights(2, **seeded))  # the initialiser's own seed wins


def test_set_weights_takes_copies():
    cell, _ = pair()
    for given in (cell.get_weights(), cell.get_weights()):
        cell.set_weights(given)
        spoil(given, cell.get_weights())
    assert all(np.isfinite(w).all() for w in cell.weights)


def test_set_weights_builds(rng):
    cell = LSTMCell(2)
    assert not cell.built
    cell.set_weights([rng.standard_normal(shape) for shape in ((3, 8), (2, 8), (8,))])
    assert cell.built
    assert cell.dtype == np.float64


def test_from_torch_adds_the_biases(rng):
    w_ih, w_hh, b_ih, b_hh = (rng.standard_normal(shape) for shape in ((8, 3), (8, 2), (8,), (8,)))
    kernel, recurrent_kernel, bias = LSTMWeights.from_torch(w_ih, w_hh, b_ih, b_hh)
    np.testing.assert_array_equal(kernel, w_ih.T)
    np.testing.assert_array_equal(recurrent_kernel, w_hh.T)
    np.testing.assert_array_equal(bias, b_ih + b_hh)
    assert kernel.flags.c_contiguous
    assert LSTMWeights.from_torch(w_ih, w_hh).bias is None


ARGUMENTS = {
    "units": 5, "activation": "softsign", "recurrent_activation": "hard_sigmoid", "use_bias": False,
    "kernel_initializer": "he_normal", "recurrent_initializer": "glorot_uniform", "bias_initializer": "ones",
    "unit_forget_bias": False, "dropout": 0.25, "recurrent_dropout": 0.5, "seed": 3,
    "kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.5}, "module": "keras.regularizers",
                           "registered_name": None},
}  # fmt: skip


@pytest.mark.parametrize("rate", [0, 1, 1.0, np.float32(0.5)])
def test_every_rate_that_keras_takes(rate):
    arguments = {"units": 5, "dropout": rate, "recurrent_dropout": rate}
    ours, theirs = LSTMCell(**arguments), keras.layers.LSTMCell(**arguments)
    assert (ours.dropout, ours.recurrent_dropout) == (theirs.dropout, theirs.recurrent_dropout) == (rate, rate)


@pytest.mark.parametrize("arguments", [{"units": 5}, ARGUMENTS], ids=["defaults", "all"])
def test_config_is_that_of_keras(arguments):
    """A configuration goes from ours to ours, from Keras to ours and from ours to Keras unchanged."""
    theirs = keras.layers.LSTMCell(**arguments)
    config, expected = LSTMCell(**arguments).get_config(), theirs.get_config()
    assert config.keys() == expected.keys()
    for name, value in expected.items():
        if name == "dtype":  # Keras writes a policy around it
            assert config[name] == value["config"]["name"]
        elif name == "name":
            assert value.startswith(config[name])
        elif name == "kernel_regularizer" and value:
            assert config[name]["config"] == pytest.approx(value["config"])
        else:
            assert config[name] == value, name
    assert LSTMCell.from_config(config).get_config() == config
    taken = LSTMCell.from_config(expected).get_config()
    given = keras.layers.LSTMCell.from_config(taken).get_config()
    assert {**given, "dtype": 0} == {**expected, "dtype": 0}
    assert given["dtype"]["config"]["name"] == "float32"


def tanh(x):
    """Bears the name of another function."""
    return 2 * np.tanh(x)


def test_config_of_a_callable(rng):
    cell = LSTMCell(3, tanh).build(2, seed=0)
    again = LSTMCell.from_config(cell.get_config())
    again.set_weights(cell.get_weights())
    x = rng.standard_normal((2, 2)).astype(np.float32)
    assert_same_bits(again(x)[0], cell(x)[0])


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("policy", ["float32", "float16", "mixed_float16", "mixed_bfloat16"])
def test_config_of_keras_under_a_policy(policy, named):
    """The dtype is that of the variables: the weights go in as they come out; that of a layer's cell and alone."""
    arguments = {"recurrent_initializer": "glorot_uniform", "dtype": policy}  # JAX has no QR in half
    theirs, layer = keras.layers.LSTMCell(5, **arguments), keras.layers.LSTM(5, **arguments)
    theirs.build((None, 3))
    layer.build((None, 7, 3))
    for peer in (theirs, layer.cell):
        config = peer.get_config()
        assert config["dtype"]["config"]["name"] == policy
        cell = LSTMCell.from_config({**config, "dtype": policy} if named else config)
        assert cell.dtype == peer.variable_dtype == cell.get_config()["dtype"]
        cell.set_weights(peer.get_weights())
        assert_same_results(cell.get_weights(), peer.get_weights())
        x = np.random.default_rng(0).standard_normal((4, 3)).astype(cell.dtype)
        expected = np.asarray(peer(x, [np.zeros((4, 5), cell.dtype)] * 2)[0], np.float64)
        # Keras may compute in half: 3 bits fewer than half has for a sum of eight products.
        assert_close(cell(x)[0], expected, 8 * 2.0**-8 if "bfloat16" in policy else 8 * 2.0**-11)


def test_config_of_keras_under_the_global_policy():
    before = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16")
        config = keras.layers.LSTM(5).cell.get_config()
    finally:
        keras.config.set_dtype_policy(before)
    assert LSTMCell.from_config(config).dtype == np.float32


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        ("bfloat16", "bfloat16"),  # NumPy has none
        (keras.dtype_policies.QuantizedDTypePolicy("int8", "float32"), "QuantizedDTypePolicy int8"),
        (keras.dtype_policies.QuantizedFloat8DTypePolicy("float8", "float32"), "QuantizedFloat8DTypePolicy float8"),
        (keras.dtype_policies.DTypePolicyMap(), "DTypePolicyMap"),
    ],
)
def test_config_of_keras_that_cannot_be_read(policy, name):
    config = keras.layers.LSTMCell(5, dtype=policy).get_config()
    with pytest.raises(ValueError, match=rf"^dtype: expected a NumPy float dtype, such as float32, got '{name}'$"):
        LSTMCell.from_config(config)


def test_config_of_a_layer():
    message = r"^config: expected that of an LSTMCell, got that of a layer; take layer\.cell"
    for layer in (keras.layers.LSTM(5), keras.layers.RNN(keras.layers.LSTMCell(5))):
        with pytest.raises(TypeError, match=message):
            LSTMCell.from_config(layer.get_config())
        assert LSTMCell.from_config(layer.cell.get_config()).units == 5


def test_dtypes():
    assert LSTMCell(2, dtype="float64").build(1, seed=0).weights.kernel.dtype == np.float64
    cell = LSTMCell(2).build(1, seed=0, dtype=np.float64)
    assert cell.dtype == np.float64
    assert cell(np.ones((1, 1)))[0].dtype == np.float64
    policy = {"class_name": "DTypePolicy", "config": {"name": "float64"}, "module": "keras", "registered_name": None}
    assert LSTMCell(2, dtype=policy).dtype == np.float64


def test_lstm_hands_its_arguments_to_the_cell():
    layer = LSTM(5, "relu", "hard_sigmoid", use_bias=False, seed=3, engine="reference").build(2, seed=0)
    config = layer.cell.get_config()
    assert (config["activation"], config["recurrent_activation"]) == ("relu", "hard_sigmoid")
    assert (config["use_bias"], config["seed"], layer.engine, layer.cell.engine) == (False, 3, "reference", "reference")


def test_a_callable_activation(rng):
    """Runs on the reference engine, with its own derivative."""
    layer = LSTM(3, activation=twice_tanh, dtype="float64").build(2, seed=0)
    x = rng.standard_normal((2, 4, 2))
    y, pullback = layer.vjp(x)
    assert layer.engine_used == "reference"
    gradient, dy, step = pullback(np.ones_like(y)).x, np.zeros_like(x), 1e-6
    for index in np.ndindex(x.shape):
        move = np.zeros_like(x)
        move[index] = step
        dy[index] = (layer(x + move).sum() - layer(x - move).sum()) / (2 * step)
    np.testing.assert_allclose(gradient, dy, atol=1e-8)  # rounding of the difference: 1e-16 / 1e-6
