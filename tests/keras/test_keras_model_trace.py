"""`trace(model, x)`: what a layer of a model receives, the model finds by itself.

On the backend of this process; tests/keras/test_keras_backends.py runs this file on the others.
"""

import keras
import numpy as np
import pytest
from beside import BACKEND, LIBRARIES, draw, framework, number
from keras import layers, ops

import glasscell.keras as ours
from glasscell.keras import trace

B, T, I = 3, 6, 4
# Float32 steps, summed in another order by Keras's loops.
TOLERANCE = {"rtol": 0, "atol": 2e-6}
WORDS = np.array([[1, 2, 0, 3, 0, 0], [4, 1, 2, 3, 4, 1], [0, 2, 2, 0, 0, 0]])


def words_model(kind):
    inputs = keras.Input((T,), dtype="int32")
    y = layers.Embedding(5, I, mask_zero=True)(inputs)
    return keras.Model(inputs, kind.LSTM(3, return_sequences=True, zero_output_for_mask=False, name="memory")(y)), WORDS


def masking_model(kind):
    x = draw(B, T, I)
    x[0, 4:], x[1, 0] = 0, 0
    cells = [kind.LSTMCell(3), kind.LSTMCell(2)]
    parts = [layers.Masking(), kind.RNN(cells, return_sequences=True, name="memory")]
    return keras.Sequential([keras.Input((T, I)), *parts]), x


def nested_model(kind):
    inner = keras.Sequential([keras.Input((None, 2)), kind.LSTM(3, go_backwards=True, return_sequences=True)])
    outer = keras.Sequential([keras.Input((None, I)), layers.Dense(2), inner])
    outer.compile("sgd", "mse")
    return outer, draw(B, T, I)


class Subclassed(keras.Model):
    """A model with its layers in lists and dicts, and arguments by name."""

    def __init__(self, kind):
        super().__init__()
        self.parts = {"first": [layers.Dense(2)], "lstm": [kind.LSTM(3, return_sequences=True)]}

    def call(self, inputs):
        x = self.parts["first"][0](inputs["x"])
        return self.parts["lstm"][0](x, mask=inputs["kept"], initial_state=[inputs["h"], inputs["c"]])


def subclassed_model(kind):
    kept = np.arange(T) < [[6], [4], [5]]
    x = {"x": draw(B, T, I), "kept": kept, "h": draw(B, 3), "c": draw(B, 3, seed=1)}
    x = keras.tree.map_structure(ops.convert_to_tensor, x)
    model = Subclassed(kind)
    model(x)
    return model, x


MODELS = [words_model, masking_model, nested_model, subclassed_model]


def snapshot(model):
    """Everything in a model that a trace might change."""
    values = [number(v).copy() for v in model.variables]
    return values, [(type(p), sorted(vars(p))) for p in model._flatten_layers() if isinstance(p, layers.RNN)]


def assert_unchanged(model, before):
    values, parts = snapshot(model)
    for value, expected in zip(values, before[0], strict=True):
        np.testing.assert_array_equal(value, expected)
    assert parts == before[1]


@pytest.mark.parametrize("kind", LIBRARIES, ids=["keras", "ours"])
@pytest.mark.parametrize("make", MODELS)
def test_the_h_of_the_trace_is_what_the_model_puts_out(make, kind):
    keras.utils.set_random_seed(1)
    model, x = make(kind)
    expected = number(model(x, training=False))
    before = snapshot(model)
    found = trace(model, x)
    last = found[-1] if isinstance(found, list) else found
    kept = np.ones(last.h.shape[:2], bool) if last.mask is None else last.mask
    assert (last.mask is not None) == (make is not nested_model)
    np.testing.assert_allclose(last.h[kept], expected[kept], **TOLERANCE)
    assert_unchanged(model, before)


@pytest.mark.parametrize("kind", LIBRARIES, ids=["keras", "ours"])
def test_wrappers_shared_layers_and_names(kind):
    keras.utils.set_random_seed(1)
    frames = keras.Input((2, T, I))
    shared = kind.LSTM(3, return_sequences=True, name="shared")
    y = layers.TimeDistributed(shared, name="frames")(frames)
    y = kind.Bidirectional(kind.LSTM(2, return_sequences=True), name="both")(y[:, 0])
    last = layers.GRU(2, name="gate")(y)
    model, x = keras.Model(frames, [y, last]), draw(B, 2, T, I)
    expected, inside = number(model(x)[0]), trace(shared, x[:, 1])
    calls = trace(model, x, layer="shared")
    assert calls.names == ["call 0", "call 1"]
    np.testing.assert_allclose(calls[1].h, inside.h, **TOLERANCE)
    np.testing.assert_array_equal(trace(model, x, layer="frames")[1].h, calls[1].h)  # by what it is in
    np.testing.assert_array_equal(trace(model, x, layer=shared)[1].h, calls[1].h)
    both = trace(model, x, layer="both")
    there, back = both
    np.testing.assert_allclose(np.concatenate([there.h, back.h[:, ::-1]], 2), expected, **TOLERANCE)
    alone = trace(model, x, layer=model.get_layer("both").backward_layer)
    np.testing.assert_array_equal(alone.h, back.h)
    assert list(both.named()) == ["forward", "backward"]
    with pytest.raises(ValueError, match=r"layer: expected the name of one LSTM, .* has several: 'shared', 'both'"):
        trace(model, x)
    with pytest.raises(ValueError, match="layer: expected one of 'shared', 'both', got 'memory'"):
        trace(model, x, layer="memory")
    with pytest.raises(TypeError, match=r"every cell of 'gate' to be an LSTMCell .* got GRUCell"):
        trace(model, x, layer="gate")
    with pytest.raises(ValueError, match=r"a layer of the model .*, got LSTM 'other', which is not in it"):
        trace(model, x, layer=kind.LSTM(3, name="other"))
    with pytest.raises(TypeError, match="layer: expected the name of a layer, or the layer itself, got int 0"):
        trace(model, x, layer=0)


@pytest.mark.filterwarnings("ignore:Layer 'sequential.* was passed an input with a mask")
def test_a_mask_goes_to_the_model():
    model, x = keras.Sequential([keras.Input((T, I)), layers.LSTM(3, name="memory")]), draw(B, T, I)
    kept = np.arange(T) < [[6], [4], [5]]
    np.testing.assert_array_equal(trace(model, x, mask=kept).h, trace(model.layers[0], x, mask=kept).h)


class Halved(layers.LSTM):
    """Hands half of what it receives to Keras's loop, and runs it."""

    def inner_loop(self, sequences, initial_state, mask, training=False):
        return super().inner_loop(sequences * 0.5, initial_state, mask, training)


def test_a_subclass_is_traced_on_what_keras_runs():
    layer = Halved(3, return_sequences=True)
    model, x = keras.Sequential([keras.Input((T, I)), layer]), draw(B, T, I)
    found = trace(model, x)
    np.testing.assert_allclose(found.h, number(model(x)), **TOLERANCE)
    assert type(layer) is Halved
    direct = type("Direct", (layers.LSTM,), {"inner_loop": lambda self, *a, **k: layers.LSTM.inner_loop(self, *a, **k)})
    model = keras.Sequential([keras.Input((T, I)), direct(3, name="hidden")])
    with pytest.raises(
        ValueError, match=r"expected one that runs over time .*, got Direct 'hidden', which ran 0 times"
    ):
        trace(model, x)


@pytest.mark.parametrize("kind", LIBRARIES, ids=["keras", "ours"])
def test_a_model_is_as_before_whatever_happens(kind):
    memory = kind.LSTM(3, stateful=True, dropout=0.5, seed=1, name="memory")
    model = keras.Sequential([keras.Input((T, I), batch_size=B), memory, layers.Dropout(0.5), layers.Dense(1)])
    x = draw(B, T, I)
    model(x)  # the state is not zero any more
    before = snapshot(model)
    found = trace(model, x)
    np.testing.assert_array_equal(found.h, trace(memory, x).h)
    assert_unchanged(model, before)

    class Failing(layers.Layer):
        def call(self, x):
            raise RuntimeError("after the layer")

    failing = keras.Sequential([memory, Failing()])
    failing.built = True
    with pytest.raises(RuntimeError, match="after the layer"):
        trace(failing, x)
    assert_unchanged(model, before)


def test_lower_precision_is_traced_in_float32():
    keras.utils.set_random_seed(1)
    memory = layers.LSTM(3, dtype="mixed_bfloat16", return_sequences=True)
    model, x = keras.Sequential([keras.Input((T, I)), memory]), draw(B, T, I)
    found = trace(model, x)
    assert {array.dtype.name for array in found.asdict().values()} == {"float32"}
    # bfloat16 keeps 8 bits: 0.004 of 1 are lost at each rounding of each step, and some steps add up.
    np.testing.assert_allclose(found.h, number(ops.cast(model(x), "float32")), rtol=0, atol=0.02)


def test_what_cannot_be_traced_is_said():
    x = draw(B, T, I)
    with pytest.raises(ValueError, match="model: expected a built model, got 'new' without weights"):
        trace(keras.Sequential([ours.LSTM(3)], name="new"), x)
    model = keras.Sequential([keras.Input((T, I)), layers.GRU(3)], name="gates")
    with pytest.raises(ValueError, match="model: expected a model with an LSTM in it, got Sequential 'gates', which"):
        trace(model, x)
    model = keras.Sequential([keras.Input((T, I)), ours.LSTM(3)])
    with pytest.raises(ValueError, match="initial_state: expected None for a whole model, got list"):
        trace(model, x, [x, x])
    if BACKEND == "jax":

        class Compiled(layers.Layer):
            def __init__(self):
                super().__init__()
                self.memory = layers.LSTM(3, name="inside")

            def build(self, shape):
                self.memory.build(shape)

            def call(self, x):
                return framework.jit(self.memory)(x)

        with pytest.raises(ValueError, match="layer: 'inside' runs inside a function that its framework compiles"):
            trace(keras.Sequential([keras.Input((T, I)), Compiled()]), x)
