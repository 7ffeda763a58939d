"""`model.export` of models with our layers: what comes out needs no glasscell and gives the same numbers."""

import subprocess
import sys

import numpy as np
import pytest

EXPORT = """
import os, sys
os.environ["KERAS_BACKEND"], folder, *formats = sys.argv[1:]
import keras, numpy as np
import glasscell.keras as ours
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input(batch_shape=(1, 5, 3)), keras.layers.Masking(), ours.Bidirectional(ours.LSTM(4, return_sequences=True)),
    ours.RNN([ours.LSTMCell(3), ours.LSTMCell(2)]),
])
x = np.random.default_rng(0).standard_normal((1, 5, 3)).astype("float32")
np.save(folder + "/x.npy", x)
np.save(folder + "/y.npy", model.predict(x, verbose=0))
assert model.layers[1].engine_used == model.layers[2].engine_used == "native"
for name in formats:
    model.export(folder + "/model" + {"onnx": ".onnx", "torch": ".pt2"}.get(name, ""), format=name, verbose=False)
    assert model.layers[1].engine_used == model.layers[2].engine_used == "framework"
"""
LOAD = {
    "tf_saved_model": "import tensorflow as tf; m = tf.saved_model.load(folder + '/model'); y = m.serve(x).numpy()",
    "torch": "import torch; y = torch.export.load(folder + '/model.pt2').module()(torch.tensor(x)).detach().numpy()",
    "onnx": (
        "import onnxruntime as ort; s = ort.InferenceSession(folder + '/model.onnx');"
        "y = s.run(None, {s.get_inputs()[0].name: x})[0]"
    ),
}


@pytest.mark.parametrize(
    ("backend", "formats"),
    [("tensorflow", ["tf_saved_model"]), ("jax", ["tf_saved_model"]), ("torch", ["torch", "onnx"])],
)
def test_exported_models_give_the_same_numbers(backend, formats, tmp_path):
    load = "import sys, numpy as np; folder = sys.argv[1]; x = np.load(folder + '/x.npy')\n"
    load += "".join(f"{LOAD[name]}; np.save(folder + '/{name}.npy', y)\n" for name in formats)
    load += "assert not any(m.startswith('glasscell') for m in sys.modules)"
    for program in ([EXPORT, backend, str(tmp_path), *formats], [load, str(tmp_path)]):
        run = subprocess.run([sys.executable, "-c", *program], capture_output=True, text=True, timeout=300, check=False)
        assert run.returncode == 0, run.stderr[-3000:]
    for name in formats:
        got, expected = np.load(tmp_path / f"{name}.npy"), np.load(tmp_path / "y.npy")
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
