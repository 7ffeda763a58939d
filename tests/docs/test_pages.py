"""The pages in docs/: their code runs and prints what they show, links lead somewhere, docstrings become markup."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import glasscell as gc
from glasscell._cells.layouts import to_onnx
from glasscell.data import load_japanese_vowels

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts]


def tool(name):
    spec = importlib.util.spec_from_file_location(f"docs_{Path(name).stem}", DOCS / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


run, check_links, docstrings = tool("run.py"), tool("check_links.py"), tool("_ext/docstrings.py")
# tests/test_readme.py runs numpy.md, and looks at what it leaves.
WITH_CODE = [page for page in PAGES if run.blocks(page) and page != DOCS / "numpy.md"]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    shutil.copytree(DOCS / "_static", tmp_path / "_static")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = run.run(page)
    if page.stem == "weights":  # its ONNX is right, not only undone again
        right = to_onnx(names["ours"].cell.weights)
        for name in ("W", "R", "B"):
            np.testing.assert_array_equal(names[name], right[name])
    code = "".join(block.code for block in run.blocks(page))
    figures = re.findall(r"savefig\(\"([^\"]+)\"", code)
    shown = re.findall(r"!\[[^]]*\]\(([^) ]+)", page.read_text(encoding="utf-8"))
    assert [figure for figure in figures if not any((page.parent / s) == (DOCS / figure) for s in shown)] == []


def test_the_trained_cell_is_as_good_as_the_page_says():
    saved = json.loads((DOCS / "_static" / "cell" / "trained.json").read_text(encoding="utf-8"))
    lstm, test = gc.LSTM(8), load_japanese_vowels().test
    lstm.set_weights([np.float32(saved[name]) for name in ("kernel", "recurrent_kernel", "bias")])
    x = ((test.x - np.float32(saved["mean"])) / np.sqrt(np.float32(saved["variance"]))).astype("float32")
    answers = (lstm(x, lengths=test.lengths) @ saved["dense_kernel"] + saved["dense_bias"]).argmax(1)
    assert (answers == test.labels).mean() == pytest.approx(saved["accuracy"], abs=1e-12)
    assert f"{saved['accuracy']:.1%} of the recordings".replace("%", " %") in (DOCS / "cell.md").read_text()


def test_pages_are_found():
    names = {str(page.relative_to(DOCS)) for page in WITH_CODE}
    assert names >= {"cell.md", "gradient.md", *(f"coming_from/{n}.md" for n in ("keras", "pytorch", "onnx"))}
    guide = [page for page in WITH_CODE if page.parent.name == "guide"]
    assert len(guide) == 7
    for page in guide:
        assert all(block.printed for block in run.blocks(page)), f"{page.name}: a block without what it prints"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_between_pages_lead_somewhere(page):
    """On GitHub too: to files, and to headings of this page or of another."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)", text):
        path, _, anchor = link.partition("#")
        if ":" in path:
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)", target.read_text(encoding="utf-8"), re.M) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings], link


def page_with(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_a_page_that_shows_something_else_is_found(tmp_path):
    good = "```python\nx = 2\n```\n\nthen\n\n```python\nprint(x + 1)\n```\n\n```text\n3\n```\n"
    run.run(page_with(tmp_path, good))
    with pytest.raises(AssertionError, match=r"page.md, line 8: it prints\n3\nand the page shows\n4"):
        run.run(page_with(tmp_path, good.replace("\n3\n", "\n4\n")))
    with pytest.raises(NameError):
        run.run(page_with(tmp_path, good.replace("x = 2", "y = 2")))


def test_a_block_of_another_backend_runs_alone(tmp_path):
    code = '# KERAS_BACKEND=torch\nimport os\n\nprint(os.environ["KERAS_BACKEND"], "x" in globals())\n'
    run.run(page_with(tmp_path, f"```python\nx = 2\n```\n\n```python\n{code}```\n\n```text\ntorch False\n```\n"))


def test_broken_links_of_a_site_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<p id="one"></p><a href="b.html#two">x</a><a href="#one">x</a>')
    (tmp_path / "b.html").write_text('<p id="two"></p><a href="a.html">x</a><a href="https://example.org">x</a>')
    assert list(check_links.faults(tmp_path)) == []
    (tmp_path / "b.html").write_text('<a href="c.html">x</a><script src="https://example.org/x.js"></script>')
    assert list(check_links.faults(tmp_path)) == [
        "a.html: b.html#two leads to no anchor",
        "b.html: c.html leads to no file",
        "b.html: loads https://example.org/x.js, which needs a network",
    ]


def test_docstrings_become_markup():
    text = "Runs `f(*x)` over B_ rows.\n\n    c' = f * c\n\nx: the input. y: (B,),\n  or None.\nRaises: ValueError.\n"
    assert docstrings.to_rst(text, {"x", "y"}) == (
        "Runs \\ ``f(*x)``\\  over B\\_ rows.\n\n"
        ".. code-block:: text\n\n   c' = f * c\n\n"
        "**x:** the input.\n\n**y:** (B,), or None.\n\n**Raises:** ValueError.\n"
    )
    assert docstrings.to_rst("One.\n\n- a: b\n  c\n- d\n") == "One.\n\n- a\\: b c\n- d\n"
    assert docstrings.to_rst("One.\n\n>>> f(1)\n2\n") == "One.\n\n.. code-block:: pycon\n\n   >>> f(1)\n   2\n"
