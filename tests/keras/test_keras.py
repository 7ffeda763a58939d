"""`glasscell.keras` against `keras.layers`: numbers, gradients, dropout draws, files, engines."""

import subprocess
import sys

import jax
import keras
import numpy as np
import pytest

import glasscell.keras as ours
import pages

# Both sides sum in float32, in another order: a few roundings of the largest value, grown over up to a dozen steps.
RELATIVE = 1e-5


def close(got, expected, what=""):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, what
    scale = max(1e-3, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=RELATIVE * scale, err_msg=what)


def small_model(kind):
    keras.utils.set_random_seed(1)
    rnn = kind.RNN(kind.LSTMCell(8, recurrent_dropout=0.1), return_sequences=True)
    return keras.Sequential([keras.Input((None, 3)), rnn, kind.LSTM(5, go_backwards=True), keras.layers.Dense(2)])


def test_model_loads_in_a_fresh_process(tmp_path):
    model, x = small_model(ours), np.random.default_rng(0).standard_normal((4, 6, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, numpy as np, keras, glasscell.keras\n"
        "folder = sys.argv[1]\n"
        "model = keras.models.load_model(folder + '/model.keras')\n"
        "np.save(folder + '/y.npy', model.predict(np.load(folder + '/x.npy'), verbose=0))\n"
        "assert [l.engine_used for l in model.layers[:2]] == ['native', 'native']\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model.predict(x, verbose=0))


def test_weight_files_go_both_ways(tmp_path):
    x = np.random.default_rng(0).standard_normal((4, 6, 3)).astype("float32")
    for source, target in ((ours, keras.layers), (keras.layers, ours)):
        a, b = small_model(source), small_model(target)
        a.set_weights([w + 0.1 for w in a.get_weights()])
        a.save_weights(tmp_path / "model.weights.h5")
        b.load_weights(tmp_path / "model.weights.h5")
        close(b.predict(x, verbose=0), a.predict(x, verbose=0))


def test_config_is_keras_config():
    mine, theirs = ours.LSTM(4, dropout=0.1, name="a"), keras.layers.LSTM(4, dropout=0.1, name="a")
    assert mine.get_config() == theirs.get_config()
    assert keras.layers.LSTM.from_config(mine.get_config()).units == 4
    chosen = ours.LSTM.from_config(ours.LSTM(4, engine="framework").get_config())
    assert chosen.engine == "framework"
    cell = ours.LSTMCell(4, name="c")
    assert cell.get_config() == keras.layers.LSTMCell(4, name="c").get_config()


def test_engine_native_names_the_reason():
    x = np.zeros((2, 3, 4), "float32")
    with pytest.raises(ValueError, match="activation is a callable"):
        ours.LSTM(4, activation=lambda x: x, engine="native")(x)
    with pytest.raises(ValueError, match="mixed_bfloat16"):
        ours.LSTM(4, dtype="mixed_bfloat16", engine="native")(x)
    with pytest.raises(ValueError, match="not an LSTMCell"):
        ours.RNN(keras.layers.GRUCell(4), engine="native")(x)
    with pytest.raises(ValueError, match="engine: expected one of auto, native, framework, got 'fast'"):
        ours.LSTM(4, engine="fast")


@pytest.mark.parametrize(
    "options", [{"activation": keras.ops.sin}, {"dtype": "mixed_bfloat16"}, {"engine": "framework"}]
)
def test_what_the_engine_cannot_do_runs_in_the_framework(options):
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    mine = ours.LSTM(4, **options)
    plain = {k: v for k, v in options.items() if k != "engine"}
    theirs = keras.layers.LSTM(4, **plain)
    theirs.build(x.shape), mine.build(x.shape)
    mine.set_weights(theirs.get_weights())
    np.testing.assert_array_equal(np.asarray(mine(x), "float32"), np.asarray(theirs(x), "float32"))
    assert mine.engine_used == "framework"


def test_float64_runs_natively_under_x64():
    # held against our reference: Keras's own float64 loop on JAX keeps only about 1e-8
    code = (
        "import jax; jax.config.update('jax_enable_x64', True)\n"
        "import glasscell, numpy as np, glasscell.keras as ours\n"
        "x = np.random.default_rng(0).standard_normal((3, 7, 4))\n"
        "layer, plain = ours.LSTM(5, dtype='float64', engine='native'), glasscell.LSTM(5, engine='reference')\n"
        "layer.build(x.shape); plain.cell.set_weights(layer.get_weights())\n"
        "np.testing.assert_allclose(np.asarray(layer(x)), plain(x), rtol=1e-13)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stateful_carries_the_state():
    x = np.random.default_rng(0).standard_normal((2, 6, 3)).astype("float32")
    mine, theirs = ours.LSTM(4, stateful=True), keras.layers.LSTM(4, stateful=True)
    theirs.build(x.shape), mine.build(x.shape)
    mine.set_weights(theirs.get_weights())
    for _ in range(3):
        close(mine(x), theirs(x))
    mine.reset_state(), theirs.reset_state()
    close(mine(x), theirs(x))


def test_vmap_and_jit():
    layer = ours.LSTM(4, engine="native")
    x = np.random.default_rng(0).standard_normal((3, 2, 6, 5)).astype("float32")
    layer.build(x.shape[1:])
    rows = np.stack([np.asarray(layer(one)) for one in x])
    np.testing.assert_array_equal(np.asarray(jax.jit(jax.vmap(layer))(x)), rows)


def test_gradients_of_weights_alone_and_with_x_have_the_same_bits():
    layer = ours.Bidirectional(ours.LSTM(4, return_sequences=True, engine="native"))
    x = np.random.default_rng(0).standard_normal((3, 6, 5)).astype("float32")
    layer.build(x.shape)
    weights, others = ([w.value for w in ws] for ws in (layer.trainable_variables, layer.non_trainable_variables))

    def loss(weights, x):
        return (layer.stateless_call(weights, others, x)[0] ** 2).sum()

    def repeated(weights, x):  # here x depends on what is differentiated from the second round on
        step = lambda x, _: (x + loss(weights, x) * 1e-3, None)  # noqa: E731
        return jax.lax.scan(step, x, None, length=3)[0].sum()

    jaxpr = jax.make_jaxpr(jax.grad(loss))(weights, x)
    (dx,) = (e.outvars[0].aval for e in jaxpr.eqns if e.primitive.name == "glasscell_backward")
    assert dx.shape == (0,)
    for of in (loss, repeated, jax.checkpoint(loss)):
        alone = jax.jit(jax.grad(of))(weights, x)
        both = jax.jit(jax.grad(of, argnums=(0, 1)))(weights, x)[0]
        for one, other in zip(alone, both, strict=True):
            np.testing.assert_array_equal(one, other)
    each = jax.vmap(jax.grad(loss), in_axes=(None, 0))(weights, x[:, None])
    for total, parts in zip(jax.grad(loss)(weights, x), each, strict=True):
        close(parts.sum(0), total)


@pages.needed
def test_large_results_ask_for_large_pages():
    """XLA maps what an execution needs anew where it is large; the pages of a result were asked for by us alone."""
    layer = ours.LSTM(64, return_sequences=True, engine="native")
    y = layer(np.ones((2048, 80, 1), "float32"))
    assert y.nbytes == 40 << 20
    middle = y.unsafe_buffer_pointer() + y.nbytes // 2
    assert any(middle in span for span in pages.advised())
