"""The pages of docs/guide, and docs/gradient.md: each block of code runs, and prints what stands below it."""

import re
from pathlib import Path

import numpy as np
import pytest

from glasscell._cells.layouts import to_onnx

GUIDE = Path(__file__).parents[2] / "docs" / "guide"
PAGES = sorted(GUIDE.glob("*.md"))
PYTHON, PRINTED = r"```python\n(.*?)```", r"\n+```text\n(.*?)```"


def run_page(page, capsys):
    """Runs the blocks of a page one after the other, and compares what each prints. Returns their names."""
    text, names = page.read_text(encoding="utf-8"), {}
    pairs = re.findall(PYTHON + PRINTED, text, re.S)
    assert len(pairs) == len(re.findall(PYTHON, text, re.S)) > 0, "a block without its output"
    for code, printed in pairs:
        exec(compile(code, page.name, "exec"), names)
        assert capsys.readouterr().out == printed, code
    return names


@pytest.mark.parametrize("page", [*PAGES, GUIDE.parent / "gradient.md"], ids=lambda page: page.stem)
def test_the_page_prints_what_it_shows(page, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    names = run_page(page, capsys)
    if page.stem == "weights":  # and its ONNX is right, not only undone again
        right = to_onnx(names["ours"].cell.weights)
        for name in ("W", "R", "B"):
            np.testing.assert_array_equal(names[name], right[name])


def test_the_pages_are_short():
    assert len(PAGES) == 7
    for page in PAGES:
        lines = page.read_text(encoding="utf-8").splitlines()
        assert max(map(len, lines)) <= 130, page.name
