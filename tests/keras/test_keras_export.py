"""`model.export` of models with our layers: what comes out needs no glasscell and gives the same numbers.

On the backend of this process; tests/keras/test_keras_backends.py runs this file on the others.
"""

import keras
import numpy as np
import pytest
from beside import BACKEND, assert_runs

import glasscell.keras as ours

pytestmark = pytest.mark.filterwarnings("default")  # the frameworks warn their own exporters

FORMATS = {"tensorflow": ["tf_saved_model", "onnx"], "jax": ["tf_saved_model"], "torch": ["torch", "onnx"]}
FORMATS = FORMATS[BACKEND]
FILES = {"tf_saved_model": "model", "torch": "model.pt2", "onnx": "model.onnx"}
LOAD = {
    "tf_saved_model": "import tensorflow as tf; m = tf.saved_model.load(folder + '/model'); y = m.serve(x).numpy()",
    "torch": "import torch; y = torch.export.load(folder + '/model.pt2').module()(torch.tensor(x)).detach().numpy()",
    "onnx": (
        "import onnxruntime as ort; s = ort.InferenceSession(folder + '/model.onnx');"
        "y = s.run(None, {s.get_inputs()[0].name: x})[0]"
    ),
}


def test_exported_models_give_the_same_numbers(tmp_path):
    keras.utils.set_random_seed(0)
    layers = [
        ours.Bidirectional(ours.LSTM(4, return_sequences=True)),
        ours.RNN([ours.LSTMCell(3), ours.LSTMCell(2)]),
    ]
    model = keras.Sequential([keras.Input(batch_shape=(1, 5, 3)), keras.layers.Masking(), *layers])
    x = np.random.default_rng(0).standard_normal((1, 5, 3)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    expected = model.predict(x, verbose=0)
    assert [layer.engine_used for layer in layers] == ["native", "native"]
    for name in FORMATS:
        model.export(tmp_path / FILES[name], format=name, verbose=False)
        assert [layer.engine_used for layer in layers] == ["framework", "framework"]
    load = "import sys, numpy as np; folder = sys.argv[1]; x = np.load(folder + '/x.npy')\n"
    load += "".join(f"{LOAD[name]}; np.save(folder + '/{name}.npy', y)\n" for name in FORMATS)
    load += "assert not any(m.startswith('glasscell') for m in sys.modules)"
    assert_runs(load, tmp_path)
    for name in FORMATS:
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected, rtol=0, atol=1e-5)
