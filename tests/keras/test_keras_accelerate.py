"""`accelerate` and `restore`: the same model, other layers. Runs on the backend of this process."""

import warnings

import keras
import numpy as np
import pytest
from beside import BACKEND, number
from keras import layers

import glasscell.keras as ours
from glasscell.keras import accelerate, restore
from glasscell.keras._accelerate import OURS


class Own(keras.layers.LSTM):
    """A subclass of somebody's."""


class InAttributes(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = layers.LSTM(3, return_sequences=True)
        self.others = [layers.RNN([layers.LSTMCell(4), layers.LSTMCell(2)]), {"last": layers.Dense(1)}]

    def call(self, x):
        return self.others[1]["last"](self.others[0](self.first(x)))


def nested():
    inner = keras.Sequential([keras.Input((None, 4)), layers.LSTM(5, return_sequences=True, name="inside")])
    x = keras.Input((None, 4))
    h = layers.Bidirectional(layers.LSTM(3, return_sequences=True, dropout=0.1, seed=1), name="both")(inner(x))
    h = layers.TimeDistributed(layers.Dense(2))(layers.RNN(layers.LSTMCell(3), return_sequences=True, name="rnn")(h))
    return keras.Model(x, layers.Dense(1)(layers.GlobalAveragePooling1D()(layers.Concatenate()([h, h]))))


def data(n=16):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 5, 4)).astype("float32"), rng.standard_normal((n, 1)).astype("float32")


def assert_near(got, expected):
    np.testing.assert_allclose(number(got), number(expected), rtol=0, atol=1e-5)


def recurrent(model):
    kinds = (layers.RNN, layers.LSTMCell, layers.StackedRNNCells, layers.Bidirectional)
    return [layer for layer in model._flatten_layers() if isinstance(layer, kinds)]


@pytest.mark.parametrize("make", [nested, InAttributes])
def test_a_model_comes_back_the_same_and_native(make):
    model, (x, _) = make(), data()
    before = model.predict(x, verbose=0)  # its step function is traced, and must be forgotten
    names, weights = [layer.name for layer in model._flatten_layers()], model.get_weights()
    frozen = recurrent(model)[-1]
    frozen.trainable = False
    assert accelerate(model) is model
    assert all(type(layer) in OURS.values() for layer in recurrent(model))
    assert [layer.name for layer in model._flatten_layers()] == names
    assert not frozen.trainable
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))
    assert_near(model.predict(x, verbose=0), before)
    assert {layer.engine_used for layer in recurrent(model) if isinstance(layer, layers.RNN)} == {"native"}
    restore(model)
    assert {type(layer).__module__.split(".")[0] for layer in recurrent(model)} == {"keras"}
    assert_near(model(x), before)


def test_training_goes_on_as_keras_would():
    (x, y), losses = data(32), []
    for changed in (False, True):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((5, 4)), layers.LSTM(8, recurrent_dropout=0.2, seed=2), layers.Dense(1)])
        model.compile("adam", "mse")
        losses.append([float(model.train_on_batch(x, y)) for _ in range(3)])
        if changed:
            optimizer = model.optimizer
            accelerate(model)
            assert model.optimizer is optimizer
        losses[-1] += [float(model.train_on_batch(x, y)) for _ in range(10)]
    assert model.layers[0].engine_used == "native"
    assert np.isfinite(restore(model).train_on_batch(x, y))
    np.testing.assert_allclose(losses[1], losses[0], rtol=0, atol=1e-4)


def test_what_is_left_is_listed_with_its_reason():
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            Own(3, return_sequences=True, name="own"),
            layers.LSTM(3, return_sequences=True, name="mixed", dtype="mixed_bfloat16"),
            layers.RNN(layers.GRUCell(3), return_sequences=True, name="other"),
            layers.LSTM(3, return_sequences=True, name="sine", activation=keras.ops.sin),
            layers.GRU(3, return_sequences=True, name="gru"),
            layers.LSTM(3, name="good"),
        ]
    )
    with pytest.warns(UserWarning, match="left as Keras's own") as caught:
        accelerate(model)
    text = str(caught[0].message)
    reasons = {"own": "Own is a subclass", "mixed": "the dtype policy is mixed_bfloat16"}
    reasons |= {"other": "the cell is GRUCell", "sine": "activation is a callable"}
    for name, reason in reasons.items():
        assert f"'{name}' ({reason}" in text
    assert not any(f"'{name}'" in text for name in ("good", "gru"))
    assert [type(layer).__module__.startswith("glasscell") for layer in model.layers] == [False] * 5 + [True]


class Wrapper(keras.layers.Layer):
    """A layer of somebody's around others."""

    def __init__(self, layer):
        super().__init__()
        self.inside = {"a": [layer]}

    def call(self, x):
        return self.inside["a"][0](x)


class Peephole(layers.LSTMCell):
    """A cell with other equations."""

    def call(self, inputs, states, training=False):
        return super().call(inputs, states, training)


class OwnStack(layers.StackedRNNCells):
    """A stack that does more than run its cells."""

    def call(self, inputs, states, training=False, **kwargs):
        return super().call(inputs, states, training, **kwargs)


class OwnRNN(layers.RNN):
    """A recurrent layer of somebody's, which may hold any cell."""


class OneStep(keras.layers.Layer):
    """Runs a cell without an RNN."""

    def __init__(self):
        super().__init__()
        self.cell = layers.LSTMCell(3, name="alone")


OWN_ENGINE = "its engine is 'framework'"
LEFT = {  # what is left, in whatever it is wrapped: a layer by name, and how its reason begins
    "own": (lambda: Own(3, name="own"), "Own is a subclass, and may differ: derive it from glasscell.keras.LSTM"),
    "peephole": (lambda: layers.RNN(Peephole(3), name="peephole"), "Peephole is a subclass, and may differ"),
    "mixed": (lambda: layers.LSTM(3, dtype="mixed_float16", name="mixed"), "the dtype policy is mixed_float16"),
    "callable": (lambda: layers.LSTM(3, activation=keras.ops.sin, name="callable"), "activation is "),
    "stack": (lambda: layers.RNN(OwnStack([layers.LSTMCell(3)]), name="stack"), "OwnStack is a subclass"),
    "rnn": (lambda: OwnRNN(Peephole(3), name="rnn"), "OwnRNN is a subclass"),
    "rnn_of_stack": (lambda: OwnRNN(OwnStack([layers.LSTMCell(3)]), name="rnn_of_stack"), "OwnRNN is a subclass"),
    "alone": (OneStep, "a cell on its own, which runs step by step: put it in RNN"),
    "chosen": (lambda: ours.LSTM(3, engine="framework", name="chosen"), OWN_ENGINE),
}
WRAPS = {
    "plain": lambda layer: layer,
    "TimeDistributed": layers.TimeDistributed,
    "nested": lambda layer: keras.Sequential([keras.Sequential([layer])]),
    "wrapper": Wrapper,
}


@pytest.mark.parametrize("name", LEFT)
def test_every_layer_that_is_left_is_named(name):
    make, reason = LEFT[name]
    for wrap in WRAPS.values():
        with pytest.warns(UserWarning, match=f"^accelerate: left as Keras's own: '{name}' .{reason}") as caught:
            accelerate(wrap(make()))
        assert len(caught) == 1


def test_a_direction_that_is_left_is_named():
    with keras.saving.custom_object_scope({"Own": Own}), pytest.warns(UserWarning, match="left as") as caught:
        accelerate(keras.Sequential([layers.Bidirectional(Own(3, name="own"))]))
    assert all(f"'{name}_own' (Own is a subclass" in str(caught[0].message) for name in ("forward", "backward"))


def test_nothing_is_said_where_all_is_replaced():
    shared = layers.LSTM(3, return_sequences=True)
    inputs = keras.Input((4, 3))
    y = layers.Concatenate()(
        [shared(inputs), layers.Bidirectional(layers.LSTM(2, return_sequences=True))(shared(inputs))]
    )
    y = layers.GRU(2)(layers.SimpleRNN(3, return_sequences=True)(y))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accelerate(keras.Model(inputs, y))
    assert type(shared) is ours.LSTM


def test_a_model_that_is_not_built_says_so():
    with pytest.warns(UserWarning, match="has no LSTM in it, so nothing changed; it is not built yet"):
        accelerate(keras.Sequential([layers.Dense(1)]))


def test_a_model_without_an_lstm_says_so():
    with pytest.warns(UserWarning, match="has no LSTM in it"):
        accelerate(keras.Sequential([keras.Input((4,)), layers.Dense(1)]))
    with pytest.raises(TypeError, match="model: expected a Keras model or layer, got str"):
        accelerate("model.keras")


def test_saved_models_and_weights_go_both_ways(tmp_path):
    model, (x, _) = nested(), data()
    expected = number(model(x))
    model.save_weights(tmp_path / "keras.weights.h5")
    accelerate(model)
    model.save(tmp_path / "ours.keras")
    model.save_weights(tmp_path / "ours.weights.h5")
    loaded = keras.models.load_model(tmp_path / "ours.keras")
    outer = [layer for layer in recurrent(loaded) if not isinstance(layer, layers.LSTMCell)]
    assert all(type(layer) in OURS.values() for layer in outer)
    plain = nested()
    plain.load_weights(tmp_path / "ours.weights.h5")
    model.set_weights([w * 0 for w in model.get_weights()])
    model.load_weights(tmp_path / "keras.weights.h5")
    restore(loaded).save(tmp_path / "plain.keras")
    for other in (loaded, plain, model, keras.models.load_model(tmp_path / "plain.keras")):
        assert_near(other(x), expected)


def test_layers_alone_can_be_accelerated():
    layer = layers.Bidirectional(layers.LSTM(3))
    layer.build((2, 5, 4))
    assert type(accelerate(layer)) is ours.Bidirectional
    layer(data(2)[0])
    assert layer.engine_used == "native"


def test_step_functions_are_made_anew_both_ways():
    """What a model has compiled was traced with other layers, and would go on with them."""
    x, y = data(8)
    model = keras.Sequential([keras.Input((5, 4)), layers.LSTM(3), layers.Dense(1)])
    model.compile("sgd", "mse")
    names = ("train_function", "test_function", "predict_function")
    for change in (lambda model: model, accelerate, restore, accelerate):
        model.train_on_batch(x, y), model.test_on_batch(x, y), model.predict(x, verbose=0)
        functions = {name: getattr(model, name) for name in names}
        change(model)
        for name in names:
            assert (getattr(model, name) is functions[name]) == (change not in (accelerate, restore)), name
        expected = number(model(x))
        assert_near(model.predict(x, verbose=0), expected)
        if change is accelerate:
            assert model.layers[0].engine_used == "native"


def test_jit_is_asked_again():
    """On TensorFlow XLA takes no native call: accelerate switches it off and says so, restore switches it on again."""
    x, y = data(8)
    model = keras.Sequential([keras.Input((5, 4)), layers.LSTM(3, use_cudnn=False), layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=BACKEND != "torch")
    asked, before = model.jit_compile, model.predict(x, verbose=0)
    stays = asked and BACKEND != "tensorflow"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        accelerate(model)
    texts = [str(w.message) for w in caught if "jit_compile" in str(w.message)]
    assert len(texts) == (asked and not stays)
    assert all("accelerate: jit_compile=True of 'sequential" in text for text in texts)
    assert model.jit_compile == stays
    assert_near(model.predict(x, verbose=0), before)
    assert model.layers[0].engine_used == "native"
    restore(model)
    assert model.jit_compile == asked
    assert np.isfinite(model.train_on_batch(x, y))
