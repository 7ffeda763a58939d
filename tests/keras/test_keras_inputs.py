"""What the Keras layers are called with: masks of more axes, variables, arrays of other dtypes and layouts.

The framework's layers say what is right, errors included. On the backend of this process;
tests/keras/test_keras_backends.py runs this file on the others.
"""

import keras
import numpy as np
import pytest
from beside import BACKEND, LIBRARIES, assert_agree, draw, numbers, twins
from beside import framework as tf
from keras import layers, ops

B, T, F, H = 2, 4, 3, 3  # F is H: PyTorch and TensorFlow take a mask of (B, T, H) for one of each unit

LAYERS = {
    "LSTM": lambda kind: kind.LSTM(H, return_sequences=True, return_state=True),
    "last": lambda kind: kind.LSTM(H, go_backwards=True),
    "zeroed": lambda kind: kind.LSTM(H, zero_output_for_mask=True, return_sequences=True),
    "unrolled": lambda kind: kind.LSTM(H, unroll=True, return_sequences=True),
    "Bidirectional": lambda kind: kind.Bidirectional(kind.LSTM(H, return_sequences=True)),
    "stack": lambda kind: kind.RNN([kind.LSTMCell(H), kind.LSTMCell(H)], return_sequences=True),
}


def kept(*shape):
    mask = np.random.default_rng(3).random(shape) < 0.6
    mask[0, 0] = False
    return mask


def check(kind, run, used=None):
    """`run(layer)` gives with our layer what it gives with Keras's, or an error where that gives one."""
    theirs, mine = twins(LAYERS[kind], (B, T, F))
    try:
        expected = numbers(run(theirs))
    except Exception as error:  # Keras's own layers raise whatever their backend does
        kinds = (type(error), ValueError)
        with pytest.raises(kinds) as caught:
            numbers(run(mine))
        assert caught.type in kinds  # no subclass
        return
    assert_agree(run(mine), expected)
    assert used is None or mine.engine_used == used


@pytest.mark.parametrize("kind", LAYERS)
def test_masks_of_other_shapes_and_dtypes(kind):
    x, mask = ops.convert_to_tensor(draw(B, T, F)), kept(B, T)
    for given in (mask.astype("int32"), mask.astype("float32"), mask[:, :, None]):
        check(kind, lambda layer, given=given: layer(x, mask=ops.convert_to_tensor(given)), "native")
    scan = BACKEND == "jax" and kind != "unrolled"
    for shape in ((B, T, H), (B, T, H + 2)):
        given = ops.convert_to_tensor(kept(*shape))
        check(kind, lambda layer, given=given: layer(x, mask=given), "native" if scan else "framework")
    for shape in ((B, T, 2, 2), (1, T), (B, T + 1), (B, 1)):
        given = ops.convert_to_tensor(kept(*shape))
        check(kind, lambda layer, given=given: layer(x, mask=given))


def test_words_in_sentences_in_documents():
    """An Embedding's mask of (B, S, W) passes through TimeDistributed, and comes to the outer layer with all axes."""
    words = np.array([[[0, 0], [1, 2], [3, 0]], [[4, 1], [0, 0], [0, 0]]])
    for outer in (lambda kind: kind.LSTM(2), lambda kind: kind.Bidirectional(kind.LSTM(2))):
        made = []
        for kind in LIBRARIES:
            keras.utils.set_random_seed(0)
            inner = [layers.Embedding(5, 3, mask_zero=True), layers.TimeDistributed(kind.LSTM(2))]
            model = keras.Sequential([keras.Input((3, 2)), *inner, outer(kind)])
            model.compile("sgd", "mse")
            loss = [float(model.train_on_batch(words, np.ones((2, model.output_shape[1])))) for _ in range(3)]
            made.append([np.array(loss), model(words), model.predict(words, verbose=0)])
        assert_agree(*made)


@pytest.mark.parametrize("kind", LAYERS)
def test_arrays_of_other_dtypes_and_layouts(kind):
    x, mask = draw(B, T, F), kept(B, T)
    turned = np.ascontiguousarray(x.transpose(2, 1, 0)).transpose(2, 1, 0)
    for given in (x, x.astype("float64"), (x * 3).astype("int64"), turned, x.tolist(), x[:, :, :2], x[0]):
        check(kind, lambda layer, given=given: layer(given))
    for given in (x.astype("float16"), (x * 3).astype("int32"), turned):
        tensor = ops.convert_to_tensor(given)
        check(kind, lambda layer, tensor=tensor: layer(tensor))
        check(kind, lambda layer, tensor=tensor: layer(tensor, mask=ops.convert_to_tensor(mask)))
    if kind != "unrolled" or BACKEND != "torch":  # where Keras takes NumPy's masks
        check(kind, lambda layer: layer(x, mask=mask))


def states(kind):
    if kind == "stack":
        return [[draw(B, H, seed=1), draw(B, H, seed=2)], [draw(B, H, seed=3), draw(B, H, seed=4)]]
    return [draw(B, H, seed=k) for k in range(4 if kind == "Bidirectional" else 2)]


@pytest.mark.parametrize("kind", LAYERS)
def test_initial_states_of_numpy_and_of_other_dtypes(kind):
    x, given = draw(B, T, F), states(kind)
    for state in (given, keras.tree.map_structure(lambda s: s.astype("float64"), given)):
        check(kind, lambda layer, state=state: layer(x, initial_state=state), "native")


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's kinds of tensors")
@pytest.mark.parametrize("kind", LAYERS)
def test_variables_and_tensors_that_are_not_dense(kind):
    x, mask = tf.Variable(draw(B, T, F)), tf.Variable(kept(B, T))
    state = keras.tree.map_structure(tf.Variable, states(kind))

    def gradients(layer):
        begin = [tf.convert_to_tensor(s) for s in keras.tree.flatten(state)]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(keras.tree.flatten(layer(x))[0] ** 2)
        return [tape.gradient(loss, x), *begin]

    for run in (
        lambda layer: layer(x),
        lambda layer: layer(x, mask=mask),
        lambda layer: layer(tf.constant(draw(B, T, F)), mask=mask),
        lambda layer: layer(tf.constant(draw(B, T, F)), initial_state=state),
        lambda layer: layer(x, mask=mask, initial_state=state),
        lambda layer: keras.Sequential([layer])(x) if kind != "LSTM" else layer(x, training=True),
        gradients,
    ):
        check(kind, run, "native")
    check(kind, lambda layer: tf.function(lambda: layer(x))(), "framework")
    for given in (tf.RaggedTensor.from_tensor(draw(B, T, F)), tf.sparse.from_dense(draw(B, T, F))):
        check(kind, lambda layer, given=given: layer(given))
