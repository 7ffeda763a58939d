"""What the Keras layers take and refuse, and where they run.

On the backend of this process; tests/keras/test_keras_backends.py runs this file on the others.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from beside import BACKEND, LIBRARIES, assert_agree, assert_runs, draw, framework, number, twins
from keras import layers, ops

import glasscell
import glasscell.keras as ours
from compare import assert_close, assert_same_bits


def test_public_names():
    names = {"LSTM", "LSTMCell", "RNN", "StackedRNNCells", "Bidirectional", "GateMonitor"}
    assert set(ours.__all__) == names | {"accelerate", "restore", "trace"}
    assert all(getattr(ours, name).__doc__ for name in ours.__all__)
    layer = ours.LSTM(3)
    layer.build((2, 5, 4))
    np.testing.assert_array_equal(ours.trace(layer, draw(2, 5, 4)).h, layer.trace(draw(2, 5, 4)).h)


def test_float64_is_native_and_right_to_the_last_digits():
    """Held against our reference: Keras's own float64 loop on JAX keeps only about 1e-8."""
    with framework.enable_x64(True) if BACKEND == "jax" else contextlib.nullcontext():
        layer, plain = ours.LSTM(5, dtype="float64", engine="native"), glasscell.LSTM(5, engine="reference")
        x = draw(3, 7, 4).astype("float64")
        layer.build(x.shape)
        plain.cell.set_weights(layer.get_weights())
        assert_close(number(layer(x)), plain(x), 1e-13)


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("activation is a callable", {"activation": ops.sin}),
        ("dtype policy is mixed_bfloat16", {"dtype": "mixed_bfloat16"}),
        ("dtype policy is mixed_float16", {"dtype": "mixed_float16"}),
        (None, {"engine": "framework"}),
    ],
)
def test_what_runs_in_the_framework_has_its_number(reason, options):
    x, ours_alone = draw(2, 5, 3), ("engine",)
    theirs, mine = twins(
        lambda kind: kind.LSTM(4, **{k: v for k, v in options.items() if kind is ours or k not in ours_alone}), x.shape
    )
    got, expected = (number(ops.cast(layer(x), "float32")) for layer in (mine, theirs))
    np.testing.assert_array_equal(got, expected)
    assert mine.engine_used == "framework"
    mine.engine = "native"
    if reason is not None:
        with pytest.raises(ValueError, match=reason):
            mine(x)


def test_engines_and_cells_that_are_refused():
    with pytest.raises(ValueError, match="not an LSTMCell"):
        ours.RNN(layers.GRUCell(4), engine="native")(draw(2, 5, 3))
    with pytest.raises(ValueError, match="engine: expected one of auto, native, framework, got 'fast'"):
        ours.LSTM(4, engine="fast")


def test_config_is_keras_config():
    mine, theirs = (kind.LSTM(4, dropout=0.1, name="a") for kind in (ours, layers))
    assert mine.get_config() == theirs.get_config()
    assert layers.LSTM.from_config(mine.get_config()).units == 4
    chosen = ours.LSTM.from_config(ours.LSTM(4, engine="framework").get_config())
    assert chosen.engine == "framework"
    assert ours.LSTMCell(4, name="c").get_config() == layers.LSTMCell(4, name="c").get_config()


def small_model(kind):
    keras.utils.set_random_seed(1)
    rnn = kind.RNN(kind.LSTMCell(8, recurrent_dropout=0.1), return_sequences=True)
    return keras.Sequential([keras.Input((None, 3)), rnn, kind.LSTM(5, go_backwards=True), layers.Dense(2)])


def test_model_loads_in_a_fresh_process(tmp_path):
    model, x = small_model(ours), draw(4, 6, 3)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, numpy as np, keras, glasscell.keras\n"
        "folder = sys.argv[1]\n"
        "model = keras.models.load_model(folder + '/model.keras')\n"
        "np.save(folder + '/y.npy', model.predict(np.load(folder + '/x.npy'), verbose=0))\n"
        "assert [l.engine_used for l in model.layers[:2]] == ['native', 'native']\n"
    )
    assert_runs(code, tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model.predict(x, verbose=0))


def test_weight_files_go_both_ways(tmp_path):
    for source, target in (LIBRARIES, LIBRARIES[::-1]):
        a, b = small_model(source), small_model(target)
        a.set_weights([w + 0.1 for w in a.get_weights()])
        a.save_weights(tmp_path / "model.weights.h5")
        b.load_weights(tmp_path / "model.weights.h5")
        assert_agree(*(model.predict(draw(4, 6, 3), verbose=0) for model in (a, b)))


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
                expected = number(layer(x, **options))
                assert_same_bits(number(part), expected[:, ::-1] if k else expected)
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
    assert calls == [2] * 3  # nothing is computed in vain, and nothing twice


def test_threads_do_not_mix_up_their_calls():
    both, x = ours.Bidirectional(ours.LSTM(6, return_sequences=True)), draw(8, 2, 12, 5)
    mask, state = np.arange(12) >= np.array([[3], [0]]), [draw(2, 6)] * 4
    calls = [{"mask": ops.convert_to_tensor(mask)}, {"mask": ops.convert_to_tensor(mask), "initial_state": state}]
    both(x[0])
    expected = [number(both(part, **calls[k % 2])) for k, part in enumerate(x)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            got = list(pool.map(lambda k: number(both(x[k], **calls[k % 2])), range(8)))
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
        np.testing.assert_array_equal(got, number(model.layers[-1](x)))


def test_masks_come_from_an_embedding():
    words = np.array([[0, 4, 0, 2, 1], [0, 0, 0, 0, 0], [3, 1, 0, 0, 0]])  # gaps, an empty row, right-padded
    made = []
    for kind in LIBRARIES:
        keras.utils.set_random_seed(0)
        recurrent = kind.Bidirectional(kind.LSTM(3, return_sequences=True))
        embedding = layers.Embedding(5, 4, mask_zero=True)
        model = keras.Sequential([keras.Input((5,)), embedding, recurrent, layers.Dense(1)])
        model.compile("sgd", "mse")
        losses = [float(model.train_on_batch(words, np.ones((3, 5, 1)))) for _ in range(4)]
        made.append([*losses, model.predict(words, verbose=0), recurrent.supports_masking])
    assert_agree(*made)
    assert recurrent.engine_used == "native"


def test_losses_follow_keras_for_fifty_steps():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((32, 12, 6)).astype("float32"), rng.integers(0, 5, 32)
    x[rng.random((32, 12)) < 0.2] = 0
    curves = []
    for kind in LIBRARIES:
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
    assert (number(layer.cell.recurrent_kernel) >= 0).all()


def test_stateful_layers_carry_the_state():
    x = draw(2, 5, 3)
    theirs, mine = twins(lambda kind: kind.LSTM(4, stateful=True), x.shape)
    mine.engine = "native"
    for _ in range(3):
        assert_agree(mine(x), theirs(x))
    model = keras.Sequential([keras.Input(batch_shape=(2, 5, 3)), mine])
    model.compile("sgd", "mse")
    model.train_on_batch(x, draw(2, 4))
    mine.reset_state()
    once = number(mine(x))
    assert_same_bits(number(mine.states[0]), once)
    assert np.abs(number(mine(x)) - once).max() > 1e-3
    mine.reset_state()
    assert_same_bits(number(mine(x)), once)


def test_compiled_by_xla_on_tensorflow():
    if BACKEND != "tensorflow":
        pytest.skip("TensorFlow's own switch")
    tf = framework
    layer, x = ours.LSTM(3), tf.constant(draw(2, 4, 3))
    expected = layer(x)
    got = tf.function(layer, jit_compile=True)(x)
    assert layer.engine_used == "framework"
    assert_agree(got, expected)
    model = keras.Sequential([keras.Input((4, 3)), layer])
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        model.compile("sgd", "mse", jit_compile=True)
    model.train_on_batch(x, expected)
    assert layer.engine_used == "native"


def test_compiled_by_torch():
    if BACKEND != "torch":
        pytest.skip("PyTorch's own switch")
    torch = framework
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
        assert_same_bits(number(g), number(e))
    inputs = [W, R, b, zero, zero, x.new_empty(0), x.new_empty(0)]
    torch.library.opcheck(op.forward, (x, torch.empty(0, dtype=torch.uint8), inputs, [0, 1, 0, 0], True, True))


def test_a_fall_back_is_logged_once(caplog):
    """By its reason, beside `engine_used`; not where the user has chosen the framework."""
    x = ops.convert_to_tensor(draw(2, 3, 4))
    for engine, count in (("auto", 1), ("framework", 0)):
        layer = ours.LSTM(3, activation=lambda z: z, engine=engine, name="mine")
        caplog.clear()
        with caplog.at_level("INFO", "glasscell"):
            layer(x)
            layer(x)
        assert [record.message for record in caplog.records if record.name == "glasscell"] == count * [
            "mine runs in Keras's own loop: activation is a callable outside the built-in activations"
        ]


def test_each_reason_is_logged_once_however_often_the_engine_changes(caplog):
    x, layer = ops.convert_to_tensor(draw(2, 3, 4)), ours.LSTM(3, name="mine")
    layer(x)
    with caplog.at_level("INFO", "glasscell"):
        for activation in [layer.activation, ops.sin] * 3:
            layer.cell.activation = activation
            layer(x)
        layer.cell.activation, layer.cell.call = layers.LSTMCell(3).activation, layer.cell.call
        layer(x)
    used = [r.message.partition(": ")[2] for r in caplog.records if r.name == "glasscell"]
    assert [reason.split(" is ")[0] for reason in used] == ["activation", "the cell"]
