"""Activations in Keras's layers: those of single elements natively, the others in Keras's own loop."""

import functools

import keras
import numpy as np
import pytest
from beside import BACKEND, LIBRARIES, RELATIVE, assert_agree, draw, framework, learn, number, twins
from keras import layers, ops

import glasscell.keras as ours
from compare import assert_close
from glasscell._cells.activations import BUILT_IN, REFUSED

NAMES = list(BUILT_IN)
PAIRS = [(a, NAMES[(k + 7) % len(NAMES)]) for k, a in enumerate(NAMES)]  # each is in both roles
# Where the backends do not agree with one another on the derivative, ours is that of JAX. TensorFlow's is 2 for celu.
OTHERS = {
    "torch": {"leaky_relu": (0,), "hard_tanh": (-1, 1), "sparse_sigmoid": (-1, 1)},
    "tensorflow": {"leaky_relu": (0,), "selu": (0,), "celu": (0,), "sparse_sigmoid": (-1, 1)},
}


def side_by_side(library):
    """One model of a layer for each activation, all on the same input."""
    x = keras.Input((2, 4))
    return keras.Model(x, [library.LSTM(3, activation=a, recurrent_activation=s)(x) for a, s in PAIRS])


@pytest.mark.skipif(BACKEND == "jax", reason="compiles for long; tests/layers/test_rnn.py compares with Keras on JAX")
def test_every_activation_as_keras():
    """Each output and gradient; expm1, erf and the like are a few roundings more off in the frameworks."""
    theirs, mine = map(side_by_side, LIBRARIES)
    scales = [0.4 if "exponential" in pair else 1.0 for pair in PAIRS for _ in range(3)]  # it soon overflows
    weights = [s * draw(*w.shape, seed=k) for k, (s, w) in enumerate(zip(scales, theirs.weights, strict=True))]
    for model in (theirs, mine):
        model.set_weights(weights)
    x = draw(2, 2, 4)
    expected, got = (learn(model, ops.convert_to_tensor(x), {}) for model in (theirs, mine))
    for what, *parts in zip(("outputs", "gradients"), got[:2], expected[:2], strict=True):
        assert_agree(*parts, relative=4e-5, what=what)
    assert {layer.engine_used for layer in mine.layers[1:]} == {"native"}


@pytest.mark.skipif(BACKEND == "jax", reason="tests/native/test_accuracy.py holds the engine's against those on JAX")
@pytest.mark.parametrize("name", NAMES)
def test_derivatives_at_kinks(name):
    x = np.float32([-3.5, -3, -1, -0.5, 0, 0.5, 1, 3, 3.5, 6])
    expected = np.array(slopes(keras.activations.get(name), x))
    got = BUILT_IN[name].derivative(x, np)
    for kink in OTHERS[BACKEND].get(name, ()):
        assert abs(expected[x == kink] - got[x == kink]) > 0.1
        expected[x == kink] = got[x == kink]
    assert_close(got, expected, RELATIVE)


def slopes(function, x):
    """The derivatives of a function of single elements, as the backend has them."""
    x = ops.convert_to_tensor(x)
    if BACKEND == "torch":
        return framework.autograd.grad(function(x.requires_grad_()).sum(), x)[0].numpy()
    with framework.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x).numpy()


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_cell_has_not_is_refused_by_name(name, caplog):
    reason, x = f"activation: {name} {REFUSED[name]}", draw(2, 3, 4)
    layer = ours.LSTM(4, activation=name, engine="native", name="mine")
    with pytest.raises(ValueError, match=f"engine: 'native' cannot serve this layer: {reason}"):
        layer(x)
    if "all units" in reason:
        theirs, mine = twins(lambda kind: kind.LSTM(4, activation=name, name="mine"), x.shape)
        with caplog.at_level("INFO", "glasscell"):
            np.testing.assert_array_equal(number(mine(x)), number(theirs(x)))
        assert mine.engine_used == "framework"
        assert caplog.records[-1].message == f"mine runs in Keras's own loop: {reason}"


@pytest.mark.parametrize(
    "activation",
    [
        functools.partial(keras.activations.leaky_relu, negative_slope=0.3),
        layers.LeakyReLU(negative_slope=0.3),
        functools.partial(keras.activations.gelu, approximate=True),
        ops.gelu,  # approximate, where keras.activations.gelu is not
        layers.Activation("relu"),
    ],
    ids=["partial leaky_relu", "LeakyReLU", "partial gelu", "ops.gelu", "Activation"],
)
def test_other_arguments_are_never_run_with_the_defaults(activation):
    x = draw(2, 3, 4)
    theirs, mine = twins(lambda kind: kind.LSTM(4, activation=activation), x.shape)
    np.testing.assert_array_equal(number(mine(x)), number(theirs(x)))
    assert mine.engine_used == "framework"
