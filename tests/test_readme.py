"""The code in README and in docs/, run as it stands there, its links, and the tables of docs/benchmarks.md."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

import glasscell.keras
from benchmarks.shapes import VARIANTS
from benchmarks.tables import frame, replaced

ROOT = Path(__file__).parent.parent
BUILT = "docs/_build"  # by `make docs`
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in page.parts]
BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def blocks(title):
    section = README.partition(f"## In {title}: one line")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.S)


def test_the_lines_of_the_numpy_section_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(r"## In NumPy\n.*?```python\n(.*?)```", README, re.S)
    exec(lines, {})
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_the_lines_of_the_numpy_page_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "numpy.md").read_text(encoding="utf-8"), re.S)
    exec(lines, {})
    assert "(3, 32) (3, 29, 128)" in capsys.readouterr().out
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    # Without titles, and without anchors, which tests/docs/test_pages.py follows.
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)", text) if "://" not in link]
    paths = re.findall(r"`((?:src|native|tests|tools|docs|examples|benchmarks|\.ci)/[\w./-]*\w)`", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [path for path in paths if not (ROOT / path).exists() and path != BUILT] == []


def test_readme_is_read_in_a_minute_and_a_half():
    assert len(README.splitlines()) <= 150
    (table,) = re.findall(r"\|---.*\n((?:\|.*\n)+)", README)
    assert table.count("\n") <= 12
    rows = BENCHMARKS.splitlines()
    for row in table.splitlines():  # columns 5 and 10, the share of the roofline and Keras on torch, are left out
        cells = row.strip("|").split("|")
        like = [r for r in rows if r.startswith("|" + "|".join(cells[:4]))]
        assert len(like) == 1, row
        full = like[0].strip("|").split("|")
        assert [c.strip().replace("\N{EN DASH}", "") for c in cells] == [c.strip() for c in (*full[:4], *full[5:10])], (
            row
        )


def test_the_lines_of_the_keras_section_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    swap, finished, look = blocks("Keras")
    names = {"keras": keras, "glasscell": glasscell}
    exec(swap, names)
    assert {names[n].__module__ for n in ("LSTM", "LSTMCell", "RNN")} == {"glasscell.keras._layers"}
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
    assert [layer.__class__.__module__ for layer in model.layers[:2]] == ["glasscell.keras._layers"] * 2
    np.testing.assert_allclose(model.predict(x, verbose=0), predictions[0], rtol=0, atol=1e-6)
    model.compile("adam", "mse")
    names |= {"x": x, "y": y}
    exec(look, names)
    assert "lstm/forget_mean" in model.history.history
    assert Path("report.html").stat().st_size > 10_000


def test_the_lines_of_the_pytorch_section_run():
    names = {}
    for block in blocks("PyTorch"):
        exec(block, names)
    assert names["LSTM"].__module__ == "glasscell.torch._lstm"
    assert names["forget"].shape == (8, 50, 128)
    assert names["lstm"].engine_used == "native"


def test_the_tables_come_from_the_benchmarks_file():
    """Heads that the page has, in their places; what was not timed stays as it is."""

    def row(mode, **seconds):
        common = {"shape": "tiny", "mode": mode, "floor_seconds": 0.125, "engine": None, "left_out": None}
        return [{**common, "contestant": n.replace("_", " "), "seconds": s} for n, s in seconds.items()]

    ours = {"glasscell": 0.5}
    for records, line in (
        (row("train", torch=1.0, loop=2.0, **ours), "| tiny | 8,32,16,32 | train | 500 | 25% | 2.00 |  |  |  |  |  |"),
        (
            row("trace", torch=1.0, loop=2.0, **ours, **{"glasscell, own base": 1 / 3}),
            "| tiny | 8,32,16,32 | trace | 500 | 1.50 | 2.00 torch |  |",
        ),
        (row("torch padded", torch=1.0, **ours), "| tiny | 8,32,16,32 | 2.00 |" + "  |" * 7),
        (row("torch recurrent-dropout", loop=15.0, **ours), "| tiny | 8,32,16,32 |" + "  |" * 6 + " 30 |  |"),
        (
            [r for v in VARIANTS for b, s in (("JAX", {"Keras": 1.0}), ("TensorFlow", {}), ("torch", {"Keras": 15.0}))
             for r in row(f"keras {b} {v}-train", **ours, **s)],
            "| tiny | 8,32,16,32 |" + " 2.00 / \N{EN DASH} / 30 |" * 4,
        ),
    ):  # fmt: skip
        page = replaced(BENCHMARKS, frame(records))
        assert line in page.splitlines()
        kept = set(BENCHMARKS.splitlines())
        new = [text for text in page.splitlines() if text not in BENCHMARKS]
        assert new == [line]
        assert sum(text not in page.splitlines() for text in kept if text.startswith("| ")) > 5
