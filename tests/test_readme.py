"""The code in README's sections on Keras and PyTorch, run as it stands there."""

import re
from pathlib import Path

import keras
import numpy as np

import glasscell.keras

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(title):
    section = README.partition(f"## In {title}: one line")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.S)


def test_the_lines_of_the_keras_section_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    swap, finished, look = blocks("Keras")
    names = {"keras": keras, "glasscell": glasscell}
    exec(swap, names)
    assert {names[n].__module__ for n in ("LSTM", "LSTMCell", "RNN")} == {"glasscell.keras.layers"}
    before = re.search(r"# was: (.*)", swap)[1]
    theirs = {}
    exec(before, theirs)
    x, y = np.random.default_rng(0).standard_normal((40, 6, 3)).astype("float32"), np.ones((40, 2), "float32")
    predictions = []
    for layers in (theirs, names):
        keras.utils.set_random_seed(0)
        rnn = layers["RNN"](layers["LSTMCell"](5), return_sequences=True)
        model = keras.Sequential([keras.Input((6, 3)), rnn, layers["LSTM"](4, name="lstm"), keras.layers.Dense(2)])
        model.compile("adam", "mse")
        model.train_on_batch(x, y)
        predictions.append(model.predict(x, verbose=0))
        if layers is theirs:
            model.save("mine.keras")
    np.testing.assert_allclose(*predictions, rtol=0, atol=1e-6)
    exec(finished, names)
    model = names["model"]
    assert [layer.__class__.__module__ for layer in model.layers[:2]] == ["glasscell.keras.layers"] * 2
    np.testing.assert_allclose(model.predict(x, verbose=0), predictions[0], rtol=0, atol=1e-6)
    model.compile("adam", "mse")
    names |= {"x": x, "y": y}
    fit, trace = look.strip().rsplit("\n", 1)
    exec(fit, names)
    assert "lstm/forget_mean" in model.history.history
    names["x"] = np.random.default_rng(0).standard_normal((3, 6, 5)).astype("float32")  # "as the layer receives it"
    exec(trace, names)
    assert Path("report.html").stat().st_size > 10_000


def test_the_lines_of_the_pytorch_section_run():
    names = {}
    for block in blocks("PyTorch"):
        exec(block, names)
    assert names["LSTM"].__module__ == "glasscell.torch.lstm"
    assert names["forget"].shape == (8, 50, 128)
    assert names["lstm"].engine_used == "native"
