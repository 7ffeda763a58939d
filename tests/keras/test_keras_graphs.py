"""TensorFlow's graphs: what may be saved runs anywhere without glasscell, and what Keras trains with is native.

Runs where TensorFlow is Keras's backend: tests/keras/test_keras_backends.py runs this file there.
"""

import keras
import numpy as np
import pytest
from beside import BACKEND, LIBRARIES, RELATIVE, assert_agree, assert_runs, draw, run_code, twins
from beside import framework as tf
from keras import layers

import glasscell.keras as ours
from compare import assert_close

pytestmark = [
    pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's graphs"),
    pytest.mark.filterwarnings("default"),  # TensorFlow and its exporters warn of themselves
]
B, T, F, H = 2, 4, 3, 5


def models(dropout=0.3):
    """The same model of Keras's layers and of ours."""
    made = []
    for kind in LIBRARIES:
        keras.utils.set_random_seed(0)
        both = kind.Bidirectional(kind.LSTM(H, return_sequences=True, dropout=dropout, seed=4))
        top = kind.RNN([kind.LSTMCell(4), kind.LSTMCell(2)])
        made.append(keras.Sequential([keras.Input((T, F)), both, top, layers.Dense(1)]))
    return made


def used(model):
    return {layer.engine_used for layer in model._flatten_layers() if hasattr(layer, "engine_used")}


def module_of(model):
    class Served(tf.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        @tf.function(input_signature=[tf.TensorSpec((B, T, F))])
        def __call__(self, x):
            return self.model(x)

    return Served()


def freeze(served):
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(served.__call__.get_concrete_function())


def save_keras(model, folder):
    tf.saved_model.save(model, folder / "keras")
    return "y = list(tf.saved_model.load(folder + '/keras').signatures['serving_default'](tf.constant(x)).values())[0]"


def save_module(model, folder):
    tf.saved_model.save(module_of(model), folder / "module")
    return "y = tf.saved_model.load(folder + '/module')(tf.constant(x))"


def save_frozen(model, folder):
    frozen = freeze(module_of(model))
    (folder / "frozen.pb").write_bytes(frozen.graph.as_graph_def().SerializeToString())
    names = [frozen.inputs[0].name, frozen.outputs[0].name]
    return (
        "g = tf.compat.v1.GraphDef(); g.ParseFromString(open(folder + '/frozen.pb', 'rb').read())\n"
        "f = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(g, name=''), [])\n"
        f"y = f.prune(*[f.graph.get_tensor_by_name(n) for n in {names}])(tf.constant(x))"
    )


def save_tflite(model, folder):
    served = module_of(model)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([freeze(served)], served)
    (folder / "model.tflite").write_bytes(converter.convert())
    return (
        "i = tf.lite.Interpreter(folder + '/model.tflite'); i.allocate_tensors()\n"
        "i.set_tensor(i.get_input_details()[0]['index'], x); i.invoke()\n"
        "y = i.get_tensor(i.get_output_details()[0]['index'])"
    )


def save_onnx(model, folder):
    import onnx
    import tf2onnx

    served = module_of(model)
    made, _ = tf2onnx.convert.from_function(served.__call__, input_signature=[tf.TensorSpec((B, T, F))])
    onnx.save(made, folder / "model.onnx")
    return (
        "import onnxruntime; s = onnxruntime.InferenceSession(folder + '/model.onnx')\n"
        "y = s.run(None, {s.get_inputs()[0].name: x})[0]"
    )


SAVED = [save_keras, save_module, save_frozen, save_tflite, save_onnx]
ALONE = "import sys, numpy as np, tensorflow as tf\nfolder = sys.argv[1]; x = np.load(folder + '/x.npy')\n"
ANOTHER = (  # a process that has run another of our layers, in graphs too, before it loads what was saved
    ALONE + "import keras, glasscell.keras as ours\n"
    "for engine in ('auto', 'native'):\n"
    "    m = keras.Sequential([keras.Input((4, 3)), ours.LSTM(2, engine=engine), keras.layers.Dense(1)])\n"
    "    m.compile('sgd', 'mse'); m.fit(np.ones((2, 4, 3)), np.ones((2, 1)), verbose=0)\n"
    "    tf.function(m)(tf.ones((2, 4, 3)))\n"
)


def test_what_is_saved_runs_in_any_process(tmp_path):
    theirs, mine = models(dropout=0)  # TensorFlow saves no Keras model that draws
    x = draw(B, T, F)
    expected = theirs(x).numpy()
    mine.compile("sgd", "mse")
    mine.predict(x, verbose=0)  # with graphs of its own, which are not saved
    assert used(mine) == {"native"}
    loads = [save(mine, tmp_path) for save in SAVED]
    np.save(tmp_path / "x.npy", x)
    load = "".join(f"{load}\nnp.save(folder + '/{k}.npy', np.asarray(y))\n" for k, load in enumerate(loads))
    for code in (ALONE + load + "assert not any(m.startswith('glasscell') for m in sys.modules)", ANOTHER + load):
        assert_runs(code, tmp_path)
        for k, save in enumerate(SAVED):
            assert_close(np.load(tmp_path / f"{k}.npy"), expected, RELATIVE, save.__name__)
            (tmp_path / f"{k}.npy").unlink()
    assert_close(mine.predict(x, verbose=0), expected, RELATIVE)
    mine(x)
    assert used(mine) == {"native"}


def test_a_graph_with_the_native_call_refuses_to_be_saved(tmp_path):
    layer, x = ours.LSTM(H, engine="native"), tf.constant(draw(B, T, F))
    expected = layer(x)
    served = module_of(layer)
    assert_close(served(x), expected, 1e-7)
    assert layer.engine_used == "native"
    with pytest.raises(AssertionError, match="to save this graph, trace it with engine='framework' or 'auto'"):
        tf.saved_model.save(served, tmp_path / "saved")
    with pytest.raises(AssertionError, match="to save this graph, trace it with engine='framework' or 'auto'"):
        keras.Sequential([keras.Input((T, F)), layer]).export(tmp_path / "exported", verbose=False)


def test_a_native_call_that_was_saved_all_the_same_fails_in_words(tmp_path):
    layer = ours.LSTM(H, engine="native")
    layer.build((B, T, F))
    np.save(tmp_path / "x.npy", draw(B, T, F))
    run = run_code(ANOTHER + save_frozen(layer, tmp_path), tmp_path)
    assert run.returncode != 0
    assert "in the process that traced this graph" in run.stderr
    assert "trace it with engine='framework'" in run.stderr


class Custom(keras.Model):
    """A step of one's own, with the layer in a loop of TensorFlow's."""

    def __init__(self, inner, looped=False):
        super().__init__()
        self.inner, self.looped = inner, looped

    def call(self, x, training=None):
        return self.inner(x, training=training)

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            if self.looped:
                predicted = tf.map_fn(lambda row: self(row[None], training=True)[0], x)
            else:
                predicted = self(x, training=True)
            loss = tf.reduce_mean((predicted - y) ** 2)
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables, strict=True)
        )
        return {"loss": loss}


class Decorated(Custom):
    """The same behind a `tf.function`, which the model would save."""

    def __init__(self, inner):
        super().__init__(inner)
        self.train_step = tf.function(self.train_step)


WAYS = {
    "plain": (lambda model: model, {}, "native"),
    "eagerly": (lambda model: model, {"run_eagerly": True}, "native"),
    "several steps": (lambda model: model, {"steps_per_execution": 2}, "native"),
    "a step of one's own": (Custom, {}, "native"),
    "in a loop": (lambda model: Custom(model, looped=True), {}, "native"),
    "behind a tf.function": (Decorated, {}, "framework"),
}


@pytest.mark.parametrize("way", WAYS)
def test_keras_trains_natively(way):
    wrap, options, engine = WAYS[way]
    histories = []
    for model in models():
        wrapped = wrap(model)
        wrapped.compile(keras.optimizers.SGD(0.1), "mse", **options)
        history = wrapped.fit(draw(4 * B, T, F), draw(4 * B, 1), batch_size=B, epochs=2, shuffle=False, verbose=0)
        histories.append(history.history["loss"])
    np.testing.assert_allclose(histories[1], histories[0], rtol=1e-4)
    assert used(model) == {engine}
    x = draw(B, T, F)
    wrapped.evaluate(x, draw(B, 1), verbose=0)
    assert used(model) == {"native"}
    wrapped.train_on_batch(x, draw(B, 1))
    predicted = wrapped.predict_on_batch(x)
    assert_close(wrapped.predict(x, verbose=0), predicted, RELATIVE)
    assert used(model) == {"native"}


def test_a_strategy_of_one_device():
    histories = []
    for strategy in (tf.distribute.OneDeviceStrategy("/cpu:0"), tf.distribute.MirroredStrategy(["/cpu:0"])):
        with strategy.scope():
            for model in models():
                model.compile(keras.optimizers.SGD(0.1), "mse")
                histories.append(model.fit(draw(8, T, F), draw(8, 1), batch_size=4, shuffle=False, verbose=0).history)
        np.testing.assert_allclose(histories[-1]["loss"], histories[-2]["loss"], rtol=1e-4)


LAYERS = {
    "LSTM": lambda kind: kind.LSTM(H),
    "Bidirectional": lambda kind: kind.Bidirectional(kind.LSTM(H, return_sequences=True)),
    "stack": lambda kind: kind.RNN([kind.LSTMCell(H), kind.LSTMCell(2)]),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_functions_around_the_layer(kind):
    x = tf.constant(draw(6, T, F))
    theirs, mine = twins(LAYERS[kind], x.shape)

    def of_a_row(layer):
        return lambda row: layer(row[None])[0]

    for run in (
        lambda layer: tf.function(layer)(x),
        lambda layer: tf.map_fn(of_a_row(layer), x),
        lambda layer: tf.function(lambda: tf.map_fn(of_a_row(layer), x))(),
        lambda layer: tf.vectorized_map(of_a_row(layer), x),
        lambda layer: next(iter(tf.data.Dataset.from_tensors(x).map(layer))),
        lambda layer: tf.recompute_grad(layer)(x),
        lambda layer: tf.while_loop(lambda k, y: k < 2, lambda k, y: (k + 1, layer(x) + 0 * y), [0, layer(x)])[1],
    ):
        assert_agree(run(mine), run(theirs))


def test_derivatives_are_right_or_refused_in_words():
    x = tf.constant(draw(B, T, F))
    theirs, mine = twins(LAYERS["LSTM"], x.shape)

    def taped(differentiate, **options):
        def derivative(layer):
            with tf.GradientTape(**options) as tape:
                tape.watch(x)
                y = layer(x)
                loss = tf.reduce_sum(y**2)
            return differentiate(tape, y, loss)

        return derivative

    derivatives = (
        taped(lambda tape, y, _: tape.jacobian(y, x)),
        taped(lambda tape, y, _: tape.jacobian(y, x, experimental_use_pfor=False), persistent=True),
        taped(lambda tape, y, _: tape.batch_jacobian(y, x)),
        taped(lambda tape, y, loss: tape.gradient(y, x) + tape.gradient(loss, x), persistent=True),
    )
    for derivative in derivatives:
        expected = derivative(theirs)
        mine.engine = "native"  # in the function too
        for run in (derivative, tf.function(derivative)):
            assert_agree(run(mine), expected)

    def penalty(layer):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(layer(x, training=True) ** 2)
            slope = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return outer.gradient(slope, [v.value for v in layer.trainable_variables])

    def forward_mode(layer):
        with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
            y = layer(x)
        return accumulator.jvp(y)

    words = "first derivatives only, by tapes; second ones and forward mode need engine='framework'"
    for derivative in (penalty, forward_mode):
        for run in (derivative, tf.function(derivative)):
            with pytest.raises(NotImplementedError, match=words):
                run(mine)
        mine.engine = "framework"
        assert_agree(derivative(mine), derivative(theirs))
        mine.engine = "native"

    class Penalized(Custom):
        def train_step(self, data):
            penalty(self.inner)
            return {}

    model = Penalized(mine)
    model.compile("sgd")
    with pytest.raises(NotImplementedError, match=words):
        model.fit(x, draw(B, H), verbose=0)
