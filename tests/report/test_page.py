"""The page as a whole: safe and quiet, in light and dark, narrow, wide and printed; and that of a training run."""

import re

import numpy as np
import pytest

import glasscell as gc
from browsers import Window
from glasscell._report import Answer, training_report
from report_pages import data_of

HOSTILE = [
    "<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "<!--<script>", "\"'><svg onload=alert(3)>",
    "{{7*7}}$title${x}", "\u2028\u202e\x00",
]  # fmt: skip
METRICS = {
    "accuracy": 0.75,
    "correct": 3,
    "validation_accuracy": 0.5,
    "baselines": {"majority": 0.5, "linear": 0.25},
    "utterances": {"train": 6, "validation": 2, "held_out": 4},
    "parameters": 12345,
    "engine": "native",
    "seconds": 1.25,
    "settings": {
        "units": 5, "epochs": 3, "batch_size": 2, "learning_rate": 0.005, "dropout": 0.2, "recurrent_dropout": 0.1,
        "seed": 7, "engine": "auto",
    },
    "versions": {"glasscell": "0", "keras": "3.0", "backend": "jax", "numpy": "2", "python": "3"},
    "speakers": ["speaker 1", "speaker 2"],
    "history": {"loss": [2.0, 1.0, 0.5], "val_loss": [2.5, None, 0.75]},
    "confusion": [[2, 1], [0, 1]],
}  # fmt: skip
SAID = [
    "75.0%", "50.0%", "25.0%", "3 of 4 recordings", "12,345", "3 epochs in 1.2 s", "native, Keras 3.0 on jax",
    "6 for training, 2 for validation, 4 held out", "speaker 1 taken for 2, 1 time.", "0.500, validation 0.750",
    "recording 7, 6 frames of speaker 1, named rightly", "recording 9, 4 frames of speaker 2, taken for 1",
]  # fmt: skip
ROWS = SAID[-2:]


def make_trace(lengths, units=5, seed=0):
    x = 3 * np.random.default_rng(seed).standard_normal((len(lengths), max(lengths), 3)).astype(np.float32)
    return gc.LSTM(units, return_sequences=True).build(3, seed=seed).trace(x, lengths=lengths)


def write_training_report(path, metrics=METRICS):
    rng = np.random.default_rng(5)
    answer = Answer(rng.standard_normal((5, 2)), rng.standard_normal(2), metrics["speakers"], "softmax", [0, 1])
    return training_report(path, metrics, make_trace([6, 4]), ROWS, answer)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return write_training_report(tmp_path_factory.mktemp("trained") / "page.html")


GROUNDS = """() => {
  const places = document.querySelectorAll("body, .card, .panel, .inside, #choices, #definitions, pre, select");
  const colours = [...places].map((place) => getComputedStyle(place).backgroundColor.match(/\\d+/g).map(Number));
  return colours.map(([red, green, blue]) => (red + green + blue) / 3);
}"""  # how bright each is


@pytest.mark.parametrize(("width", "scheme"), [(420, "dark"), (1400, "light")])
def test_everything_fits_and_takes_the_colours_of_its_scheme(window, trained, width, scheme):
    seen = window(trained, width=width, scheme=scheme)
    assert seen.run("document.documentElement.scrollWidth - innerWidth") <= 0
    seen.select("other", "1")
    assert seen.run("document.documentElement.scrollWidth - innerWidth") <= 0
    grounds = [value for value in seen.run(GROUNDS) if value]
    assert len(grounds) > 10
    assert max(grounds) < 80 if scheme == "dark" else min(grounds) > 200


def test_paper_is_light_and_shows_no_choices(window, trained):
    seen = window(trained, scheme="dark")
    seen.run("dispatchEvent(new Event('beforeprint'))")
    seen.page.emulate_media(media="print")
    assert seen.run("getComputedStyle(document.documentElement).getPropertyValue('--surface').trim()") == "#ffffff"
    assert seen.run("[...document.querySelectorAll('#choices select, #play')].every(e => !e.offsetParent)")
    assert len(seen.page.pdf()) > 20_000
    seen.page.emulate_media(media="screen")
    seen.run("dispatchEvent(new Event('afterprint'))")
    assert seen.run("getComputedStyle(document.documentElement).getPropertyValue('--surface').trim()") != "#ffffff"


def test_every_picture_has_words(window, trained):
    seen = window(trained)
    pictures = "[...document.querySelectorAll('canvas:not([aria-hidden]), svg:not([aria-hidden])')]"
    words = seen.run(f"{pictures}.map(e => [e.getAttribute('role'), e.getAttribute('aria-label') ?? ''])")
    assert len(words) > 12
    assert all(role == "img" and len(label) > 20 for role, label in words)
    unnamed = "[...document.querySelectorAll('select, input, button')].filter(e => !e.labels?.length && !e.textContent)"
    assert seen.run(f"{unnamed}.length") == 0
    assert seen.page.get_attribute("#place", "aria-live") == "polite"


def test_hostile_names_do_nothing(window, tmp_path):
    """In features, units, steps, classes, the title and the cell's own name: they are shown, letter by letter."""
    trace = make_trace([6, 6], units=6)
    named = trace.with_names(features=HOSTILE[:3], units=HOSTILE, steps=HOSTILE)
    dense = np.ones((6, 6)), np.zeros(6)
    path = named.report(tmp_path / "page.html", "<b onclick=alert(4)>&amp;</b>", dense=dense, classes=HOSTILE)
    seen = window(path)
    assert seen.page.locator("img, b[onclick], svg[onload]").count() == 0
    assert seen.page.locator("script").count() == 2
    for name in HOSTILE[:3]:
        seen.select("unit", str(HOSTILE.index(name)))
        assert name in seen.text("#inside h3")
        assert name in seen.text("#inside .votes")
    seen.select("way", "number")
    assert seen.text("h1") == "<b onclick=alert(4)>&amp;</b>"
    assert HOSTILE[0] in seen.text("#steps")
    twice = gc.Bidirectional(gc.LSTM(2)).build(3).trace(np.ones((1, 2, 3), "f4"))
    twice.names = HOSTILE[:2]
    seen = window(twice.report(tmp_path / "twice.html"))
    assert HOSTILE[1] in seen.run("document.querySelector('[data-choice=cell]').textContent")


def test_the_page_forbids_other_scripts_and_the_network(tab, trained):
    """Even a script that had found its way into the page would not run, and nothing could be sent."""
    seen = Window(tab, trained)
    smuggle = """() => {
      const script = document.createElement("script");
      script.textContent = "globalThis.smuggled = true";
      document.body.append(script);
      const image = "<img src='https://example.com/x.png' onerror='globalThis.smuggled = true'>";
      document.body.insertAdjacentHTML("beforeend", image);
      return fetch("https://example.com/").then(() => "sent", () => "refused");
    }"""
    assert seen.run(smuggle) == "refused"
    assert seen.run("globalThis.smuggled === undefined")
    assert len([text for text in seen.said if "Content Security Policy" in text]) >= 3
    seen.leave()


def test_the_browser_tests_can_fail(tab, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>x</title><script>nothing()</script>")
    seen = Window(tab, page)
    assert "nothing is not defined" in seen.said[0]
    seen.leave()


def test_the_page_of_a_training_run(window, trained):
    seen = window(trained)
    text = seen.text("body")
    assert [words for words in SAID if words not in text] == []
    cells = seen.run("[...document.querySelectorAll('#confusion td')].map(e => e.textContent)")
    assert cells == ["2", "1", "·", "1"]
    curves = seen.run("[...document.querySelectorAll('#curves .curve')].map(e => e.getAttribute('d'))")
    assert [d.count("M") for d in curves] == [1, 2]  # the second has a gap
    assert (
        re.findall(
            r"\d+: (.*)", "\n".join(f"{k}: {name}" for k, name in enumerate(data_of(trained)["cells"][0]["rows"]))
        )
        == ROWS
    )
    trace = make_trace([6, 4])
    answer = data_of(trained)["cells"][0]["answer"]
    assert (answer["activation"], answer["truth"]) == ("softmax", [0, 1])
    first = seen.now()
    assert (first["row"], first["other"], first["time"]) == (0, 1, 3)  # the last step of both
    seen.select("row", "1")
    assert seen.now()["label"] == 1  # the right one, not the one that was answered
    rng = np.random.default_rng(5)
    logits = trace.h[1, 3] @ rng.standard_normal((5, 2)).astype("f4") + rng.standard_normal(2).astype("f4")
    powers = np.exp(logits - logits.max())
    np.testing.assert_allclose(seen.numbers()["answer 1"], (powers / powers.sum())[1], rtol=1e-5)


def test_a_run_that_diverged(window, tmp_path):
    lost = {**METRICS, "history": {name: [None] * 3 for name in ("loss", "val_loss")}, "confusion": [[1, 0], [0, 1]]}
    seen = window(write_training_report(tmp_path / "page.html", lost))
    assert "training not finite, validation not finite" in seen.text("body")
    assert "No mistake at all." in seen.text("body")


@pytest.mark.parametrize("odd", ["zeros", "nan", "inf", "one"])
def test_odd_values(window, tmp_path, odd):
    """A page of a cell that has lost its numbers, of one that says nothing, and of the smallest there is."""
    trace = make_trace([1] if odd == "one" else [4, 4], units=1 if odd == "one" else 3)
    fill = {"zeros": 0.0, "nan": np.nan, "inf": np.inf}
    if odd in fill:
        trace = gc.Trace(**{name: np.full_like(array, fill[odd]) for name, array in trace.asdict().items()})
    seen = window(trace.report(tmp_path / "page.html"))
    seen.press("Home", "ArrowRight")
    assert seen.page.locator("#view-c canvas").count() == 2
