"""`glasscell train`: a short run, what it writes, and that the model does what the equations say."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from rich.console import Console

import glasscell as gc
from glasscell._training import model as models
from glasscell._training import train as training
from glasscell._training.train import FILES, check_arguments, split, train
from glasscell.data import load_japanese_vowels
from quiet import train_quietly
from report_pages import data_of

SHORT = {"units": 24, "epochs": 20, "learning_rate": 0.02, "batch_size": 27}  # equal batches: fewer compilations


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run into a folder that holds an older run and a file of somebody else. Gives: folder, metrics, print."""
    folder = tmp_path_factory.mktemp("runs") / "short"
    folder.mkdir()
    (folder / "metrics.json").write_text("old")
    (folder / "notes.txt").write_text("mine")
    return folder, *train_quietly(folder, **SHORT)


@pytest.fixture(scope="module")
def vowels():
    return load_japanese_vowels()


def test_files(run):
    folder, metrics, _ = run
    assert {path.name for path in folder.iterdir()} == {*FILES, "notes.txt"}
    assert (folder / "notes.txt").read_text() == "mine"
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8")) == metrics
    html = (folder / "report.html").read_text(encoding="utf-8")
    (cell,) = data_of(folder / "report.html")["cells"]
    assert [re.sub(r"\d+", "N", name) for name in cell["rows"]] == [
        "recording N, N frames of speaker N, named rightly",
        "recording N, N frames of speaker N, taken for N",
    ]
    assert cell["answer"]["classes"] == metrics["speakers"]
    assert f"{metrics['accuracy']:.1%}" in html
    assert f"{metrics['correct']} of 370 recordings" in html


def test_metrics(run, vowels):
    _, metrics, _ = run
    confusion = np.array(metrics["confusion"])
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(vowels.test.labels))
    assert metrics["correct"] == np.trace(confusion)
    assert metrics["accuracy"] == np.trace(confusion) / 370
    assert metrics["baselines"]["majority"] == 88 / 370
    assert metrics["utterances"] == {"train": 243, "validation": 27, "held_out": 370}
    assert metrics["parameters"] == 4 * 24 * (12 + 24 + 1) + 9 * (24 + 1)
    assert metrics["engine"] == "native"
    assert metrics["settings"] == SHORT | {"dropout": 0.2, "recurrent_dropout": 0.2, "seed": 0, "engine": "auto"}
    assert set(metrics["versions"]) == {"glasscell", "keras", "backend", "numpy", "python"}
    assert set(metrics["history"]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert {len(curve) for curve in metrics["history"].values()} == {20}
    assert metrics["validation_accuracy"] == pytest.approx(metrics["history"]["val_accuracy"][-1], abs=1e-6)
    assert metrics["seconds"] > 0
    # Even a quarter of the width for a third of the epochs is far from chance, and the loss has fallen.
    assert metrics["accuracy"] > 0.9
    assert 0.9 < metrics["baselines"]["linear"] < 1
    assert metrics["history"]["loss"][-1] < 0.5 < 1 < metrics["history"]["loss"][0]


def test_print(run):
    """Where there is no terminal: one line for each tenth of the way, then the table."""
    folder, metrics, said = run
    assert re.findall(r"^epoch +(\d+)/20: loss \d", said, re.MULTILINE) == [str(k) for k in range(2, 21, 2)]
    shares = metrics["accuracy"], metrics["baselines"]["linear"], 88 / 370
    names = "LSTM, 24 units", "linear model on mean and spread", "always the most frequent speaker"
    for name, share in zip(names, shares, strict=True):
        assert re.search(rf"{name} +\S +{share:.1%}", said)
    assert f"Written to {folder}" in said


FRESH = """
import sys, keras, glasscell.keras, numpy as np
from glasscell.data import load_japanese_vowels
model = keras.models.load_model(sys.argv[1])
x = load_japanese_vowels().test.x
longer = np.concatenate([x, np.zeros((370, 11, 12), np.float32)], axis=1)
lstm, speaker, scale = (model.get_layer(name) for name in ("lstm", "speaker", "scale"))
np.savez(
    sys.argv[2],
    probabilities=model.predict(x, batch_size=370, verbose=0),
    longer=model.predict(longer, batch_size=370, verbose=0),
    alone=model.predict(x[:1, :19], verbose=0),
    mean=keras.ops.convert_to_numpy(scale.mean), variance=keras.ops.convert_to_numpy(scale.variance),
    **dict(zip("WRbwv", lstm.cell.get_weights() + speaker.get_weights())),
)
"""


def test_model_loads_in_a_fresh_process(run, vowels, tmp_path):
    """Raw padded recordings in; the same answers as in training, and the ones NumPy computes from the weights."""
    folder, metrics, _ = run
    kept = tmp_path / "kept.npz"
    subprocess.run([sys.executable, "-c", FRESH, folder / "model.keras", kept], check=True, capture_output=True)
    with np.load(kept) as arrays:
        fresh = dict(arrays)

    answers = list(zip(vowels.test.labels, fresh["probabilities"].argmax(axis=1), strict=True))
    assert [[answers.count((k, n)) for n in range(9)] for k in range(9)] == metrics["confusion"]

    cell = gc.LSTMCell(24)
    cell.build(12)
    cell.set_weights([fresh[name] for name in "WRb"])
    scaled = (vowels.test.x - fresh["mean"].reshape(12)) / np.sqrt(fresh["variance"].reshape(12))
    h = gc.RNN(cell)(scaled.astype(np.float32), lengths=vowels.test.lengths)
    powers = np.exp((h @ fresh["w"] + fresh["v"]).astype(np.float64))
    # float32 sums of two dozen terms: a few units in the last place of probabilities below one.
    np.testing.assert_allclose(fresh["probabilities"], powers / powers.sum(1, keepdims=True), rtol=0, atol=5e-6)
    np.testing.assert_allclose(fresh["longer"], fresh["probabilities"], rtol=0, atol=1e-6)
    assert vowels.test.lengths[0] == 19
    np.testing.assert_allclose(fresh["alone"], fresh["probabilities"][:1], rtol=0, atol=1e-6)


def test_same_seed_same_run(run, vowels):
    """The same split, weights, order and dropout, bit for bit; another seed gives other weights."""
    _, metrics, _ = run
    parts, kernels = split(vowels.train, 3, seed=0), []
    for seed in (1, 0):
        keras.utils.set_random_seed(seed)
        model = models.build_model(parts[0], 9, metrics["settings"])
        kernels.append(model.get_layer("lstm").cell.get_weights()[0])
    assert not np.array_equal(*kernels)
    assert models.fit(model, *parts, metrics["settings"], Console(file=io.StringIO())) == metrics["history"]


def test_a_run_that_fails_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "build_model", lambda *_: 1 / 0)
    old = tmp_path / "old"
    old.mkdir()
    (old / "model.keras").write_text("old")
    for folder in (old, tmp_path / "new"):
        with pytest.raises(ZeroDivisionError):
            train_quietly(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert [(path.name, path.read_text()) for path in old.iterdir()] == [("model.keras", "old")]


def test_the_native_engine_by_name(vowels, monkeypatch):
    settings = check_arguments(output="x", **{**DEFAULTS, "engine": "native"})
    model = models.build_model(vowels.train, 9, settings)
    model.predict(vowels.train.x[:2], verbose=0)
    assert model.get_layer("lstm").engine_used == "native"
    monkeypatch.setattr("glasscell.keras._eligibility.eligible", lambda *_, **__: "it rains")
    with pytest.raises(ValueError, match=r"engine: 'native' cannot serve here: it rains"):
        models.build_model(vowels.train, 9, settings)


def test_split_takes_the_same_number_of_each_speaker(vowels):
    first, again, other = (split(vowels.train, 3, seed) for seed in (5, 5, 6))
    for part, expected in zip(first, (27, 3), strict=True):
        np.testing.assert_array_equal(np.bincount(part.labels), [expected] * 9)
    train_rows, first_rows = (
        sorted((x.tobytes(), n, k) for part in parts for x, n, k in zip(part.x, part.lengths, part.labels, strict=True))
        for parts in ([vowels.train], first)
    )
    assert first_rows == train_rows
    np.testing.assert_array_equal(first[1].x, again[1].x)
    assert not np.array_equal(first[1].x, other[1].x)


DEFAULTS = {
    "units": 1, "epochs": 1, "batch_size": 1, "learning_rate": 0.1, "dropout": 0.0, "recurrent_dropout": 0.0,
    "seed": 0, "engine": "auto",
}  # fmt: skip


BAD = {
    "a positive integer": [("units", 0), ("units", 2.0), ("units", "3"), ("epochs", -1), ("batch_size", True)],
    "a positive number": [("learning_rate", value) for value in (0, float("nan"), float("inf"), "fast")],
    "a number from 0 to below 1": [("dropout", 1.0), ("dropout", -0.1), ("recurrent_dropout", None)],
    "an integer from 0 to 4294967295": [("seed", -1), ("seed", 2**32)],
    "one of auto, native, framework": [("engine", "gpu")],
}


@pytest.mark.parametrize(
    ("name", "value", "expected"), [(*case, expected) for expected, cases in BAD.items() for case in cases]
)
def test_bad_arguments(tmp_path, name, value, expected):
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name}: expected {expected}, got {value!r}')}$"):
        train(tmp_path / "run", **{name: value})
    assert not list(tmp_path.iterdir())


def test_good_arguments_become_plain_numbers():
    given = {**DEFAULTS, "units": np.int64(7), "dropout": np.float64(0.5), "learning_rate": 1}
    settings = check_arguments(output="x", **given)
    assert settings == {**DEFAULTS, "units": 7, "dropout": 0.5, "learning_rate": 1.0}
    assert {type(settings[name]) for name in ("units", "dropout", "learning_rate")} == {int, float}


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_output_that_is_a_file(tmp_path, inside):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"^output: expected a folder, got .*file' is a file$"):
        train(tmp_path / "file" / inside)
    assert (tmp_path / "file").read_text() == "mine"


def test_output_that_is_read_only(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    message = rf"^output: expected a folder to write in, got '.*deeper', and '{re.escape(str(tmp_path))}' is read-only$"
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "new" / "deeper")


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals on Windows")
def test_a_terminal_gets_a_live_bar_and_every_step_is_said_first(tmp_path, monkeypatch):
    """What a terminal shows: each step before it begins, and a bar that grows while the model trains."""
    import pty

    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with ThreadPoolExecutor() as threads:
        reader = threads.submit(read_terminal, ours)
        with open(theirs, "w") as terminal:
            train(tmp_path / "run", units=2, epochs=40, console=Console(file=terminal, width=120))
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", reader.result().decode())
    steps = "loading Keras", "Japanese Vowels: 243", "compiling", "40/40", "testing it on", "Trained in"
    assert sorted(steps, key=shown.index) == list(steps)
    assert {int(done) for done in re.findall(r"(\d+)/40", shown)} & set(range(1, 40))


def read_terminal(descriptor):
    """All that a pseudo-terminal shows. At its end Linux raises an error."""
    shown = b""
    with contextlib.suppress(OSError):
        while part := os.read(descriptor, 4096):
            shown += part
    return shown


def test_import_is_light():
    script = "import sys, glasscell._training.train, glasscell._cli.main; print(sorted(sys.modules))"
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    loaded = {name.partition(".")[0] for name in eval(said)}
    assert "glasscell" in loaded
    assert not {"keras", "jax", "matplotlib", "jinja2", "rich", "sklearn", "typer"} & loaded
