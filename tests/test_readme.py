"""The code in README's sections on Keras and PyTorch, run as it stands there, and its tables."""

import re
import runpy
from pathlib import Path

import keras
import numpy as np

import glasscell.keras

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


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


def test_the_tables_come_from_the_benchmarks_file():
    tool = runpy.run_path(str(ROOT / "tools" / "readme_tables.py"))
    sizes, seconds = {"B": 1, "T": 2, "I": 3, "H": 4}, {"glasscell": 0.5, "torch": 1.0, "loop": 2.0}
    row = {"shape": "here", "sizes": sizes, "seconds": seconds, "share_of_roofline": 0.25, "times_own_baseline": 1.5}
    model = {"shape": "here", "sizes": sizes, "call": "train_on_batch", "ratios": {"JAX": 2.0, "torch": 30.0}}
    for make, results, line in (
        ("whole", [{**row, "mode": "train"}], "| here | 1,2,3,4 | train | 500 | 25% | 2.00 |  |  |  |  |  |"),
        ("others", [{**row, "mode": "trace"}], "| here | 1,2,3,4 | trace | 500 | 1.50 | 2.00 torch |  |"),
        ("torch", [{**row, "mode": "torch padded"}], "| here | 1,2,3,4 | 2.00 |" + "  |" * 7),
        (
            "keras",
            [{**model, "variant": variant} for variant in tool["VARIANTS"]],
            "| here | 1,2,3,4 |" + " 2.00 / \N{EN DASH} / 30 |" * 4,
        ),
    ):
        table = tool[make](results)
        assert table[2:] == [line]
        text = tool["replaced"](README, table)
        assert line in text
        assert text.count("\n|") < README.count("\n|")
