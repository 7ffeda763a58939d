"""The live cell of docs/cell.md in a browser: its numbers are those of `glasscell.LSTMCell`; keys alone move it."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import glasscell as gc
from glasscell._cells import lstm

DOCS = Path(__file__).parents[2] / "docs"
# Sums of at most 21 products in double precision, in another order; the widget's functions are within an ulp or two.
FLOAT64 = 1e-13


@pytest.fixture(scope="module")
def live_cell():
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        import live_cell
    finally:
        sys.path.remove(str(DOCS / "_ext"))
    return live_cell


@pytest.fixture
def page(browser, live_cell, tmp_path):
    """The live cell alone in a page; nothing may be said on its console."""
    fragment = live_cell.html(DOCS, (DOCS / "_static" / "cell").as_uri())
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8><body>{fragment}", encoding="utf-8")
    context = browser.new_context(offline=True, viewport={"width": 420, "height": 900})
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    yield page
    context.close()
    assert said == []


def shown(page):
    return json.loads(page.evaluate("JSON.stringify(document.getElementById('live-cell').shown)"))


def assert_is_the_cell(page):
    """Every gate and state of every step, as computed and as written, against the cell with the same weights."""
    found = shown(page)
    weights = [np.array(found["weights"][name], float) for name in ("kernel", "recurrent_kernel", "bias")]
    units, unit = len(weights[1]), found["unit"]
    cell = gc.LSTMCell(units, dtype="float64")
    cell.set_weights(weights)
    h = c = np.zeros((1, units))
    rows = page.eval_on_selector_all(
        ".steps tbody tr", "rows => rows.map(r => [...r.querySelectorAll('td')].map(c => c.textContent))"
    )
    assert len(rows) == len(found["inputs"]) == len(found["run"])
    for x, step, row in zip(found["inputs"], found["run"], rows, strict=True):
        gates = cell.gates([[*map(float, x)]], (h, c))
        h, (h, c) = cell([[*map(float, x)]], (h, c))
        expected = np.vstack([*gates, c, h])
        theirs = np.array([[one[name] for one in step] for name in "ifgoch"])
        np.testing.assert_allclose(theirs, expected, rtol=0, atol=FLOAT64)
        written = [*(x if len(x) == 1 else []), *theirs[:, unit]]
        assert [text.replace("-0.0000", "0.0000") for text in row] == [f"{v + 0.0:.4f}" for v in np.round(written, 4)]
    return found


def set_slider(page, label, value):
    page.get_by_label(label, exact=True).fill(str(value))


def test_the_weights_that_one_can_choose(page):
    names = page.eval_on_selector_all("#live-preset option", "options => options.map(o => o.value)")
    assert len(names) > 5
    for name in names[:-1]:
        page.select_option("#live-preset", name)
        assert_is_the_cell(page)
    assert names[-1] == ""  # "your own", which choosing changes nothing in
    page.select_option("#live-preset", "")
    assert_is_the_cell(page)


def test_sliders(page):
    rng = np.random.default_rng(0)
    labels = page.eval_on_selector_all("input[type=range][aria-label]", "all => all.map(i => i.ariaLabel)")
    assert len(labels) == 12 + 8
    for _ in range(4):
        for label in labels:
            set_slider(page, label, round(rng.integers(-40, 41) * 0.05, 2))
        found = assert_is_the_cell(page)
    values = {label: page.get_by_label(label, exact=True).input_value() for label in labels}
    assert found["weights"]["bias"][1] == float(values["b of the forget gate f"])
    assert found["inputs"][7] == [float(values["x at step 8"])]
    assert page.input_value("#live-preset") == ""


def test_the_trained_cell(page):
    page.get_by_text("trained on speech").click()
    for recording in page.eval_on_selector_all("#live-recording option", "options => options.map(o => o.value)"):
        page.select_option("#live-recording", recording)
        for unit in ("0", "7"):
            page.select_option("#live-unit", unit)
            found = assert_is_the_cell(page)
            assert (len(found["inputs"][0]), found["unit"]) == (12, int(unit))


def test_a_step_as_it_is_written_and_the_keyboard(page):
    """The worked example of the page, reached with the keys alone."""
    page.focus("#live-preset")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "live-step":
            break
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".time output") == "2 of 8"
    text = page.inner_text(".arithmetic")
    assert "z_i = 0·2 + 0.3696·1 + (-1) = -0.6304" in text
    assert "c' = f·c + i·g = 0.6526·0.5568 + 0.3474·0.3536 = 0.4862" in text
    assert "h' = o·tanh(c') = 0.5000·tanh(0.4862) = 0.2256" in text
    slots = page.eval_on_selector_all("[data-slot]", "slots => slots.map(s => s.textContent)")
    assert slots == ["0.65", "0.35", "0.35", "0.50"]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # one step on
    assert page.inner_text(".time output") == "3 of 8"
    assert page.get_attribute(".steps tr:nth-child(3)", "aria-current") == "step"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.wait_for_function("document.getElementById('live-cell').shown.step === 4", timeout=10_000)
    page.keyboard.press("Space")
    assert page.inner_text(".play") == "Play"


def test_what_has_no_label_and_what_is_too_wide(page):
    nameless = page.evaluate(
        "[...document.querySelectorAll('input,select,button,svg,pre')].filter(e => !e.ariaLabel"
        " && !(e.labels && e.labels.length) && !e.textContent.trim()).map(e => e.outerHTML)"
    )
    assert nameless == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_the_equations_are_those_of_the_cell(live_cell, monkeypatch):
    text = live_cell.equations()
    assert [line.strip() for line in text.splitlines()[5:7]] == [
        "const c_next = f * c + i * g;",
        "const h_next = o * a(c_next, xp);",
    ]
    assert not re.search(r"\* *c\b", "".join(path.read_text() for path in (DOCS / "_static/cell").glob("*.js")))
    monkeypatch.setattr(lstm, "step", lstm.raw_gates)
    with pytest.raises(ValueError, match="expected one line for each of i f g o c_next h_next, got"):
        live_cell.equations()
