"""What the Keras layers take and refuse, and where they run.

On the backend of this process; tests/keras/test_keras_backends.py runs this file on the others.
"""

from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers, ops

import glasscell
import glasscell.keras as ours
from compare import assert_close, assert_same_bits

BACKEND = keras.backend.backend()


def numbers(value):
    return np.asarray(ops.convert_to_numpy(value))


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def test_float64_is_native_and_right_to_the_last_digits():
    if BACKEND == "jax":
        pytest.skip("needs JAX's own switch for 64 bits: test_keras.py sets it in a process of its own")
    layer, plain = ours.LSTM(5, dtype="float64", engine="native"), glasscell.LSTM(5, engine="reference")
    x = draw(3, 7, 4).astype("float64")
    layer.build(x.shape)
    plain.cell.set_weights(layer.get_weights())
    assert_close(numbers(layer(x)), plain(x), 1e-13)


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("activation is a callable", {"activation": ops.sin}),
        ("dtype policy is mixed_bfloat16", {"dtype": "mixed_bfloat16"}),
        ("dtype policy is mixed_float16", {"dtype": "mixed_float16"}),
    ],
)
def test_what_runs_in_the_framework_has_its_numbers(reason, options):
    x = draw(2, 5, 3)
    mine, theirs = ours.LSTM(4, **options), layers.LSTM(4, **options)
    theirs.build(x.shape), mine.build(x.shape)
    mine.set_weights(theirs.get_weights())
    got, expected = (numbers(ops.cast(layer(x), "float32")) for layer in (mine, theirs))
    np.testing.assert_array_equal(got, expected)
    assert mine.engine_used == "framework"
    mine.engine = "native"
    with pytest.raises(ValueError, match=reason):
        mine(x)


def test_directions_side_by_side_have_the_bits_of_each_alone():
    """Alone they are called outside of the Bidirectional layer, which remembers nothing of its own call."""
    for B, T, H in ((1, 40, 64), (4, 7, 5), (32, 20, 48)):
        both = ours.Bidirectional(ours.LSTM(H, return_sequences=True), merge_mode=None)
        x, mask = draw(B, T, 9), np.random.default_rng(1).random((B, T)) < 0.8
        both.build(x.shape)
        alone = []
        for layer in (both.forward_layer, both.backward_layer):
            options = {**layer.get_config(), "name": None}
            alone.append(ours.LSTM.from_config(options))
            alone[-1].build(x.shape)
            alone[-1].set_weights(layer.get_weights())
        for options in ({}, {"mask": ops.convert_to_tensor(mask)}):
            for k, (part, layer) in enumerate(zip(both(x, **options), alone, strict=True)):
                expected = numbers(layer(x, **options))
                assert_same_bits(numbers(part), expected[:, ::-1] if k else expected)
    assert both.engine_used == "native"


@pytest.mark.parametrize("masked", [False, True])
def test_directions_run_in_one_call(masked, monkeypatch):
    both, x = ours.Bidirectional(ours.LSTM(4, return_sequences=True, dropout=0.2)), draw(3, 5, 2)
    both.build(x.shape)
    calls = []
    run = ours._bidirectional.run_native
    monkeypatch.setattr(
        ours._bidirectional, "run_native", lambda passes, *rest: calls.append(len(passes)) or run(passes, *rest)
    )
    mask = {"mask": ops.convert_to_tensor(np.arange(5) < [[5], [2], [3]])} if masked else {}
    state = [ops.convert_to_tensor(draw(3, 4))] * 4
    for options in ({}, {"training": True}, {"initial_state": state}):
        both(ops.convert_to_tensor(x), **options, **mask)
    assert calls == [2] * 3  # nothing is run ahead in vain, and nothing twice


def test_threads_do_not_mix_up_their_calls():
    both, x = ours.Bidirectional(ours.LSTM(6, return_sequences=True)), draw(8, 2, 12, 5)
    mask, state = np.arange(12) >= np.array([[3], [0]]), [draw(2, 6)] * 4
    calls = [{"mask": ops.convert_to_tensor(mask)}, {"mask": ops.convert_to_tensor(mask), "initial_state": state}]
    both(x[0])
    expected = [numbers(both(part, **calls[k % 2])) for k, part in enumerate(x)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            got = list(pool.map(lambda k: numbers(both(x[k], **calls[k % 2])), range(8)))
            for g, e in zip(got, expected, strict=True):
                assert_same_bits(g, e)


def test_time_and_batch_may_be_unknown():
    inputs = keras.Input((None, 4))
    layer = ours.LSTM(3, return_sequences=True, zero_output_for_mask=True, engine="native")
    model = keras.Model(inputs, layer(layers.Masking()(inputs)))
    for B, T in ((2, 5), (3, 1), (1, 9)):
        x = draw(B, T, 4)
        got = model.predict(x, verbose=0)
        assert got.shape == (B, T, 3)
        np.testing.assert_array_equal(got, numbers(model.layers[-1](x)))


def test_masks_come_from_an_embedding():
    words = np.array([[0, 4, 0, 2, 1], [0, 0, 0, 0, 0], [3, 1, 0, 0, 0]])  # gaps, an empty row, right-padded
    made = []
    for kind in (layers, ours):
        keras.utils.set_random_seed(0)
        recurrent = kind.Bidirectional(kind.LSTM(3, return_sequences=True))
        model = keras.Sequential(
            [keras.Input((5,)), layers.Embedding(5, 4, mask_zero=True), recurrent, layers.Dense(1)]
        )
        model.compile("sgd", "mse")
        losses = [float(model.train_on_batch(words, np.ones((3, 5, 1)))) for _ in range(4)]
        made.append((losses, model.predict(words, verbose=0), model))
    (expected_losses, expected, theirs), (losses, got, mine) = made
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    assert_close(got, expected, 1e-5)
    assert mine.layers[1].engine_used == "native"
    assert mine.layers[1].supports_masking == theirs.layers[1].supports_masking


def test_fit_and_evaluate_run_natively():
    x, y = draw(24, 6, 3), draw(24, 2)
    model = keras.Sequential(
        [keras.Input((6, 3)), ours.RNN([ours.LSTMCell(5), ours.LSTMCell(4)], engine="native"), layers.Dense(2)]
    )
    model.compile("adam", "mse")
    history = model.fit(x, y, epochs=6, batch_size=8, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert model.evaluate(x, y, verbose=0) < history.history["loss"][0]
    assert model.layers[0].engine_used == "native"


def test_losses_follow_keras_for_fifty_steps():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((32, 12, 6)).astype("float32"), rng.integers(0, 5, 32)
    x[rng.random((32, 12)) < 0.2] = 0
    curves = []
    for kind in (layers, ours):
        keras.utils.set_random_seed(3)
        rnn = kind.RNN(kind.LSTMCell(64, dropout=0.2, recurrent_dropout=0.2, seed=5))
        model = keras.Sequential([keras.Input((None, 6)), layers.Masking(), rnn, layers.Dense(5)])
        model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        curves.append([float(model.train_on_batch(x, y)) for _ in range(50)])
    assert rnn.engine_used == "native"
    np.testing.assert_allclose(curves[1], curves[0], rtol=0, atol=1e-4)
    assert curves[1][-1] < 0.8 * curves[1][0]  # it learned, so the curves had somewhere to part


def test_regularizers_and_constraints_act():
    layer = ours.LSTM(3, kernel_regularizer="l2", activity_regularizer="l1", recurrent_constraint="non_neg")
    model = keras.Sequential([keras.Input((4, 2)), layer])
    model.compile("sgd", "mse")
    x = draw(5, 4, 2)
    layer(x)
    assert len(layer.losses) >= 2
    model.train_on_batch(x, draw(5, 3))
    assert (numbers(layer.cell.recurrent_kernel) >= 0).all()


def test_stateful_layers_carry_the_state():
    layer, x = ours.LSTM(4, stateful=True, engine="native"), draw(2, 5, 3)
    model = keras.Sequential([keras.Input(batch_shape=(2, 5, 3)), layer])
    model.compile("sgd", "mse")
    model.train_on_batch(x, draw(2, 4))
    layer.reset_state()
    once = numbers(layer(x))
    assert_same_bits(numbers(layer.states[0]), once)
    assert np.abs(numbers(layer(x)) - once).max() > 1e-3
    layer.reset_state()
    assert_same_bits(numbers(layer(x)), once)


def test_second_derivatives_are_kerass_or_refused():
    layer, x = ours.LSTM(3), draw(2, 4, 3)
    layer.build(x.shape)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x = tf.constant(x)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            first = layer(x)
            with pytest.raises(NotImplementedError, match="first derivatives only"):
                tape.gradient(tape.gradient(first, x), x)
        return
    theirs, found = layers.LSTM(3), []
    theirs.build(x.shape)
    theirs.set_weights(layer.get_weights())
    for each in (layer, theirs):
        if BACKEND == "torch":
            import torch

            source = torch.tensor(x, requires_grad=True)
            (first,) = torch.autograd.grad(each(source).sum(), source, create_graph=True)
            found.append(torch.autograd.grad(first.square().sum(), source)[0])
        else:
            import jax

            gradient = jax.grad(lambda x, each=each: each(x).sum())
            found.append(jax.grad(lambda x, gradient=gradient: (gradient(x) ** 2).sum())(x))
    assert layer.engine_used == "native"
    assert_close(*found, 1e-5)


def test_compiled_by_xla_on_tensorflow():
    if BACKEND != "tensorflow":
        pytest.skip("TensorFlow's own switch")
    import tensorflow as tf

    layer, x = ours.LSTM(3), tf.constant(draw(2, 4, 3))
    expected = layer(x)
    got = tf.function(layer, jit_compile=True)(x)
    assert layer.engine_used == "framework"
    assert_close(numbers(got), numbers(expected), 1e-5)
    model = keras.Sequential([keras.Input((4, 3)), layer])
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        model.compile("sgd", "mse", jit_compile=True)
    model.train_on_batch(x, expected)
    assert layer.engine_used == "native"


def test_compiled_by_torch():
    if BACKEND != "torch":
        pytest.skip("PyTorch's own switch")
    import torch

    from glasscell._ops import torch as op
    from glasscell._ops.operands import Operands

    cell = glasscell.LSTM(3).build(4, seed=0).cell
    W, R, b = (torch.tensor(w, requires_grad=True) for w in cell.get_weights())
    x, zero = torch.tensor(draw(2, 5, 4), requires_grad=True), torch.zeros(2, 3)

    def loss(x, W, R, b):
        ((h, hT, _),) = op.run(x, None, [Operands(cell.options(), W, R, b, zero, zero)], True, True)
        return (h * h).sum() + hT.sum()

    expected = torch.autograd.grad(loss(x, W, R, b), [x, W, R, b])
    got = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(x, W, R, b), [x, W, R, b])
    for g, e in zip(got, expected, strict=True):
        assert_same_bits(numbers(g), numbers(e))
    arguments = (
        x,
        torch.empty(0, dtype=torch.uint8),
        [W, R, b, zero, zero, x.new_empty(0), x.new_empty(0)],
        [0, 1, 0, 0],
    )
    torch.library.opcheck(op.forward, (*arguments, True, True))
