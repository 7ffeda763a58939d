"""`layer.trace` and `GateMonitor` on the backend of this process.

tests/keras/test_keras_backends.py runs this file on the others. What does not depend on the backend is in
test_keras_trace.py and test_keras_monitor.py.
"""

import keras
import numpy as np
import pytest
from beside import BACKEND, number
from keras import layers, ops
from test_keras_monitor import keys

import glasscell.keras as ours
from glasscell.keras import trace

# Keras's own loop over cells, or with a mask, multiplies float64 in float32 on torch
PRECISIONS = [("float32", 1e-6, True)] + [("float64", 1e-13, False)] * (BACKEND != "jax")


def same(got, expected, atol):
    np.testing.assert_allclose(got, number(expected), rtol=0, atol=atol)


@pytest.mark.parametrize(("dtype", "atol", "masked"), PRECISIONS)
def test_the_h_of_a_trace_is_what_the_layer_puts_out(dtype, atol, masked):
    rng = np.random.default_rng(0)
    x, mask = rng.standard_normal((3, 7, 4)), rng.random((3, 7)) < 0.7
    mask[:, 0] = mask[:, -1] = True  # what is put out before the first kept step is each backend's own
    a, *begin = (ops.convert_to_tensor(v, dtype) for v in (x, *rng.standard_normal((2, 3, 5))))
    m = ops.convert_to_tensor(mask) if masked else None
    options = {"return_sequences": True, "dtype": dtype, "dropout": 0.5}
    for layer in (
        ours.LSTM(5, **options),
        ours.LSTM(5, go_backwards=True, activation=ops.sin, **options),
        ours.LSTM(5, stateful=True, activation=keras.layers.PReLU(dtype=dtype), **options),
    ):
        layer.build(a.shape)
        for call in ({}, {"mask": m, "initial_state": begin}):
            found = layer.trace(a, **call)
            assert found.f.dtype == dtype
            same(found.h, layer(a, **call), atol)
    cells = [ours.LSTMCell(5, dtype=dtype), ours.LSTMCell(2, dtype=dtype)]
    stack = ours.RNN(keras.layers.StackedRNNCells(cells, dtype=dtype), return_sequences=True, dtype=dtype)
    expected = stack(a, mask=m)
    same(stack.trace(a, mask=m)[1].h, expected, 1e-6)
    both = keras.layers.Bidirectional(ours.LSTM(5, **options), merge_mode="concat", dtype=dtype)
    expected = both(a)
    forward, backward = trace(both, a)
    same(np.concatenate([forward.h, backward.h[:, ::-1]], axis=2), expected, atol)


def test_a_trace_of_lower_precision():
    x = ops.convert_to_tensor(np.random.default_rng(0).standard_normal((3, 7, 4)), "bfloat16")
    low = ours.LSTM(5, dtype="mixed_bfloat16", return_sequences=True)
    expected = ops.cast(low(x), "float32")
    same(low.trace(x).h, expected, 0.02)


def learn(*callbacks):
    """The history of a small model with everything that moves in training, always from the same start."""
    keras.utils.set_random_seed(1)
    x = np.random.default_rng(0).standard_normal((8, 5, 3)).astype("float32")
    x[:4, 3:] = 0
    memory = ours.LSTM(3, name="memory", dropout=0.2, stateful=True, return_sequences=True)
    top = ours.LSTM(2, name="top", go_backwards=True)
    model = keras.Sequential(
        [keras.Input((5, 3), batch_size=4), layers.Masking(), memory, layers.BatchNormalization(), top, layers.Dense(1)]
    )
    model.compile("adam", "mse", jit_compile=False)
    made = [make(x[:4]) for make in callbacks]
    return model.fit(x, x[:, 0, :1], batch_size=4, epochs=3, verbose=0, callbacks=made).history


def test_a_monitor_does_not_move_the_training_and_tensorboard_hears_it(tmp_path):
    others = []
    if BACKEND == "tensorflow":  # what Keras writes for TensorBoard it writes with TensorFlow
        others = [lambda x: keras.callbacks.TensorBoard(tmp_path)]
    plain, watched = learn(), learn(lambda x: ours.GateMonitor(x, every=2, metrics="all"), *others)
    assert watched["loss"] == plain["loss"]
    names = keys("memory", "top")
    assert set(watched) == names | {"loss"}
    assert all(np.isfinite(v) for values in watched.values() for v in values)
    if BACKEND != "tensorflow":
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    written = EventAccumulator(str(tmp_path / "train")).Reload()
    for name in names:
        values = [float(make_ndarray(event.tensor_proto)) for event in written.Tensors(f"epoch_{name}")]
        np.testing.assert_allclose(values, watched[name], rtol=1e-6)  # it keeps float32
