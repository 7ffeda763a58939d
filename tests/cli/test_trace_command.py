"""`glasscell trace`: a page of what a saved model's LSTM did, and one line for whatever is wrong."""

import zipfile

import keras
import numpy as np
import pytest

import glasscell.keras
from commands import stopped
from report_pages import data_of

T, I = 6, 3
DENSE = ("one", "graph")  # models of five units with a Dense layer behind them


def save(path, *layers, shape=(None, I), dtype="float32"):
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *layers])
    model.save(path)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models, and data for them."""
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(3)
    layers = keras.layers
    save(folder / "one.keras", layers.Masking(), layers.LSTM(5, name="lstm"), layers.Dense(2, name="out"))
    save(folder / "ours.keras", glasscell.keras.LSTM(4))
    save(folder / "two.keras", layers.LSTM(5, return_sequences=True, name="first"), layers.LSTM(4, name="second"))
    save(folder / "both.keras", layers.Bidirectional(layers.LSTM(4), name="both"))
    save(folder / "words.keras", layers.Embedding(9, 3), layers.LSTM(4), shape=(None,), dtype="int32")
    save(folder / "none.keras", layers.Dense(2))
    entry = keras.Input((None, I))
    keras.Model(entry, layers.Dense(2)(layers.LSTM(5)(entry))).save(folder / "graph.keras")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, T, I)).astype("float32")
    np.save(folder / "x.npy", x)
    np.savez(folder / "x.npz", x=x, y=np.zeros(2))
    np.savez(folder / "several.npz", a=x, b=x)
    np.save(folder / "wide.npy", rng.standard_normal((2, T, 7)))
    np.save(folder / "objects.npy", np.array([{}, 3], object), allow_pickle=True)
    lines = [",".join(map(str, step)) for step in x[0]]
    (folder / "x.csv").write_text("\n".join(["rain,<b>melt</b>,wind", *lines]))
    (folder / "plain.csv").write_text("\n".join(lines))
    (folder / "ragged.csv").write_text("1,2,3\n4,5")
    (folder / "text.csv").write_text("a,b,c\n1,2,3\n4,five,6")
    (folder / "words.csv").write_text("1,2,3,4\n5,6,7,8")
    (folder / "not.npz").write_text("not an archive")
    (folder / "not.npy").write_text("not an array")
    (folder / "not.keras").write_text("not a model")
    (folder / "empty.csv").write_text("")
    (folder / "x.txt").write_text("1")
    with zipfile.ZipFile(folder / "bomb.npz", "w") as archive:
        archive.writestr("x.npy", b"")
        archive.infolist()[0].file_size = 2**40
    return folder


@pytest.mark.parametrize(
    ("model", "data", "cells", "rows"),
    [
        ("one", "x.npy", [""], 2),
        ("graph", "x.npz", [""], 2),
        ("one", "plain.csv", [""], 1),
        ("ours", "x.csv", [""], 1),
        ("both", "x.npy", ["forward", "backward"], 2),
        ("words", "words.csv", [""], 2),
    ],
)
def test_page(folder, tmp_path, capsys, model, data, cells, rows):
    page = tmp_path / "page.html"
    code, said, wrong = stopped(capsys, "trace", f"{folder / model}.keras", str(folder / data), "-o", str(page))
    assert (code, said, wrong) == (None, f"Written to {page}\n", "")
    found = data_of(page)
    assert [cell["name"] for cell in found["cells"]] == cells
    assert found["cells"][0]["arrays"]["f"]["shape"] == [
        rows,
        4 if data == "words.csv" else T,
        5 if model in DENSE else 4,
    ]
    assert found["cells"][0]["featureNames"] == (["rain", "<b>melt</b>", "wind"] if data == "x.csv" else None)
    assert (found["cells"][0]["answer"] is not None) == (model in DENSE)
    assert "<b>melt" not in page.read_text(encoding="utf-8")


def test_the_numbers_are_those_of_the_trace(folder, tmp_path, capsys):
    page = tmp_path / "page.html"
    given = "trace", str(folder / "two.keras"), str(folder / "x.npy"), "--layer", "second", "--output", str(page)
    assert not stopped(capsys, *given)[0]
    model = keras.models.load_model(folder / "two.keras")
    trace = glasscell.keras.trace(model, np.load(folder / "x.npy"), layer="second")
    np.testing.assert_array_equal(data_of(page, "c"), trace.c)


@pytest.mark.parametrize(
    ("model", "data", "more", "line"),
    [
        ("one.keras", "x.txt", "", "DATA: expected a file .npy, .npz or .csv, got"),
        ("one.keras", "gone.npy", "", "DATA: expected a file, got"),
        ("one.keras", "objects.npy", "", "DATA: "),
        ("one.keras", "not.npy", "", "DATA: "),
        ("one.keras", "not.npz", "", "DATA: "),
        ("one.keras", "several.npz", "", "DATA: expected one array, or one named x, got ['a', 'b']"),
        ("one.keras", "bomb.npz", "", "DATA: "),
        ("one.keras", "empty.csv", "", "DATA: expected numbers, got none"),
        ("one.keras", "ragged.csv", "", "DATA: expected 3 numbers in each line, got 2 of them in line 2"),
        ("one.keras", "text.csv", "", "DATA: expected 3 numbers in each line, got 'five' in line 3"),
        ("one.keras", "wide.npy", "", "DATA: the model"),
        ("words.keras", "x.npy", "", "DATA: expected 2 axes, as the model takes (None, None), got shape (2, 6, 3)"),
        ("x.npy", "x.npy", "", "MODEL: expected a .keras file"),
        ("gone.keras", "x.npy", "", "MODEL: expected a file, got"),
        ("not.keras", "x.npy", "", "MODEL: Keras cannot load"),
        ("none.keras", "x.npy", "", "MODEL: expected a model with an LSTM in it"),
        ("two.keras", "x.npy", "", "--layer: expected the name of one LSTM"),
        ("two.keras", "x.npy", "--layer third", "--layer: expected one of 'first', 'second', got 'third'"),
        ("one.keras", "x.npy", "-o /no/such/folder/page.html", "--output: expected a file in a folder that is there"),
    ],
)
def test_what_is_wrong_gets_one_line(folder, tmp_path, capsys, monkeypatch, model, data, more, line):
    monkeypatch.chdir(tmp_path)
    code, said, wrong = stopped(capsys, "trace", str(folder / model), str(folder / data), *more.split())
    assert (code, said, wrong.count("\n")) == (1, "", 1), wrong
    assert wrong.startswith(f"glasscell trace: {line}")
    assert not list(tmp_path.iterdir())


class Evil:
    def __reduce__(self):
        return print, ("it ran",)


def test_a_file_is_never_executed(folder, tmp_path, capsys):
    """Neither a pickled array nor a Lambda layer that a model brings."""
    np.save(tmp_path / "evil.npy", np.array([Evil()], object), allow_pickle=True)
    code, said, wrong = stopped(capsys, "trace", str(folder / "one.keras"), str(tmp_path / "evil.npy"))
    assert (code, said, wrong.count("\n")) == (1, "", 1)
    save(tmp_path / "evil.keras", keras.layers.Lambda(lambda x: print("it ran") or x), keras.layers.LSTM(2))
    capsys.readouterr()
    code, said, wrong = stopped(capsys, "trace", str(tmp_path / "evil.keras"), str(folder / "x.npy"))
    assert (code, said, wrong.count("\n")) == (1, "", 1)
    assert "it ran" not in wrong
