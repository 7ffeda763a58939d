"""The report pages: their pictures show the right numbers, and a browser shows the page."""

import base64
import io
import json
import pickle
import re
import shutil
import subprocess
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from markupsafe import escape
from matplotlib import image

import glasscell as gc
from glasscell._report import Example, figures, trace_page, trace_report, training_report

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
ONE_BYTE = 1.001 / 255  # colours are cut to whole bytes
PICTURE = r'xlink:href="(data:image/png;base64,[^"]+)"'

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


def make_trace(lengths, units=5, seed=0):
    rng = np.random.default_rng(seed)
    cell = gc.LSTMCell(units)
    cell.build(3, seed=seed)
    x = 3 * rng.standard_normal((len(lengths), max(max(lengths), 1), 3)).astype(np.float32)
    return gc.RNN(cell, return_sequences=True).trace(x, lengths=lengths)


SURE = np.linspace([0.2, 0.8], [0.9, 0.1], 7)


def write_training_report(path, metrics=METRICS, beliefs=SURE):
    trace, x = make_trace([len(beliefs)]).asdict(), np.zeros((len(beliefs), 3), np.float32)
    return training_report(path, metrics, Example(trace, x, beliefs, truth=0, row=2))


@pytest.fixture
def trained(tmp_path):
    """Write a training report. Gives its text."""
    return lambda *given: write_training_report(tmp_path / "page.html", *given).read_text(encoding="utf-8")


@pytest.fixture
def traced(tmp_path):
    """Write the report of a trace. Gives its text."""
    return lambda trace, *title: trace_report(tmp_path / "page.html", {"": trace.asdict()}, *title).read_text("utf-8")


def pixels(svg):
    """The heat map embedded in an SVG, before its colour bar: (rows, columns, RGB) in 0..1."""
    data = re.search(PICTURE, svg).group(1).partition(",")[2]
    return image.imread(io.BytesIO(base64.b64decode(data)), format="png")[..., :3]


def colours(values, low, high, name):
    """What each value of (T, H) should look like, laid out as in a picture: units down, time across."""
    return matplotlib.colormaps[name]((values.T - low) / (high - low))[..., :3]


@pytest.mark.parametrize(("scale", "low", "name"), [("gate", 0, "viridis"), ("signed", -1, "RdBu_r")])
def test_heat_map_shows_every_value(rng, scale, low, name):
    """One pixel a value, in the order asked for; skipped steps are grey."""
    values = rng.uniform(low, 1, (9, 5))
    values[0, 0] = 1.0
    values[5:] = np.nan
    order = np.array([3, 0, 4, 1, 2])
    expected = colours(values[:, order], low, 1, name)
    expected[:, 5:] = matplotlib.colors.to_rgb(figures.SKIPPED)
    got = pixels(figures.heat_map(values, scale, "label", order))
    assert got.shape == (5, 9, 3)
    assert np.abs(got - expected).max() <= ONE_BYTE


def test_heat_map_of_a_long_range_clips_and_says_so():
    """Two values in a hundred may lie beyond a signed scale; the colour bar then has arrows."""
    values = np.linspace(-1, 1, 400).reshape(40, 10)
    whole = figures.heat_map(values, "signed", "label", np.arange(10))
    values[0, 0] = 50
    clipped = figures.heat_map(values, "signed", "label", np.arange(10))
    assert clipped.count("<path") > whole.count("<path")
    got, end = pixels(clipped), np.percentile(np.abs(values), 98)
    assert np.abs(got - colours(values, -end, end, "RdBu_r")).max() <= ONE_BYTE


@pytest.mark.parametrize(
    "values", [np.zeros((4, 3)), np.full((4, 3), np.nan), np.full((4, 3), np.inf), np.ones((1, 1))]
)
@pytest.mark.parametrize("scale", ["gate", "signed"])
def test_heat_map_of_odd_values(values, scale):
    assert pixels(figures.heat_map(values, scale, "label", np.arange(values.shape[1]))).shape[:2] == values.T.shape


def test_confusion_matrix_shows_the_counts():
    svg = figures.confusion_matrix(np.array([[41, 0], [7, 1234]]), ["a", "b"], "label")
    shown = re.findall(r">([^<>\n]+)</text>", svg)
    assert [text for text in shown if text in ("41", "·", "7", "1234")] == ["41", "·", "7", "1234"]


def test_loss_curves_with_gaps():
    assert "<svg" in figures.loss_curves([1.0, None, 0.5], [None, None, None], "label")
    assert "<svg" in figures.loss_curves([None], [None], "label")


def test_labels_are_escaped_and_spoken():
    svg = figures.confusion_matrix(np.eye(2, dtype=int), ["<b>", "&"], 'a "label" & <more>')
    assert svg.startswith('<svg role="img" aria-label=\'a "label" &amp; &lt;more&gt;\'')
    assert "&lt;b&gt;" in svg
    assert "<b>" not in svg


def test_units_are_sorted_by_their_forget_gate(traced):
    trace = make_trace([6])
    html, order = traced(trace), np.argsort(-trace.f[0].mean(axis=0))
    first = html[html.index("<svg") : html.index("</svg>")]
    ticks = re.findall(r">(\d)</text>", first[first.index("matplotlib.axis_2") :])
    assert ticks[:5] == [str(unit) for unit in order]


def test_trace_report_holds_every_picture(traced):
    trace = make_trace([6, 4, 0])
    html = traced(trace, "<script>alert(1)</script> & more")
    assert html.count("<svg") == html.count("</svg>") == 18
    assert "5 units, 6 steps, 3 sequences." in html
    assert "4 of 6 steps ran" in html
    assert html.count("No step ran.") == 8  # four gates, in the words below and in the label
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in html
    assert "<script" not in html
    assert f"Mean {trace.f[0].mean():.2f};" in html
    assert f"From {trace.c[0].min():.2f} to {trace.c[0].max():.2f};" in html


def test_the_words_under_a_picture_count_right(traced):
    """Of a gate: its mean, and the shares above 0.9 and below 0.1, neither counted itself; of a state: its range."""
    odd = np.full((1, 5, 4), 0.5)
    odd[0, 0], odd[0, 1] = [0.91, 0.9, 0.85, 0.89], [0.95, 0.1, 0.09, 0.15]
    odd[0, 4] = np.nan  # a skipped step counts in neither
    half = np.where(np.isnan(odd), np.nan, 0.5)
    names = ("i", "f", "g", "o", "c", "h", "zi", "zf", "zg", "zo")
    html = traced(gc.Trace(**{n: odd if n in ("i", "c") else half for n in names}, mask=np.isfinite(odd[..., 0])))
    finite = odd[np.isfinite(odd)]
    assert f"Mean {finite.mean():.2f}; 12.5% above 0.9, 6.2% below 0.1." in html  # 2 and 1 of 16
    assert "Mean 0.50; 0.0% above 0.9, 0.0% below 0.1." in html
    assert f"From 0.09 to 0.95; mean size {finite.mean():.2f}." in html


def test_trace_report_method(tmp_path):
    path = make_trace([3]).report(tmp_path / "page.html")
    assert path == tmp_path / "page.html"
    assert path.read_text(encoding="utf-8").count("<svg") == 6


def test_trace_report_shows_eight_rows(traced, monkeypatch):
    monkeypatch.setattr(figures, "heat_map", lambda *_: "<svg></svg>")
    html = traced(make_trace([2] * 9))
    assert "9 sequences; the first 8 are shown." in html
    assert html.count("<svg") == 48


def test_traces_of_several_cells_have_one_report(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "heat_map", lambda *_: "<svg></svg>")
    both = gc.Bidirectional(gc.RNN(gc.StackedRNNCells([gc.LSTMCell(5), gc.LSTMCell(4)]))).build(3)
    traces = pickle.loads(pickle.dumps(both.trace(np.ones((3, 2, 3), np.float32))))
    names = ["forward, cell 0", "forward, cell 1", "backward, cell 0", "backward, cell 1"]
    assert list(traces.named()) == names
    assert repr(traces).splitlines()[3].startswith("backward, cell 1: Trace(B=3, T=2, H=4, float32")
    html = traces.report(tmp_path / "page.html").read_text("utf-8")
    assert re.findall(r"<h2[^>]*>(\w.*, row \d)</h2>", html) == [
        f"{n.capitalize()}, row {r}" for n in names for r in (0, 1)
    ]
    assert "backward, cell 0: 5 units, 2 steps, 3 sequences; the first 2 are shown; backward, cell 1: 4 units" in html


def test_trace_report_wants_a_step(traced, tmp_path):
    empty = gc.Trace(**{name: array[:, :0] for name, array in make_trace([3]).asdict().items()})
    with pytest.raises(ValueError, match=r"trace: expected at least one row, step and unit, got .* = \(1, 0, 5\)"):
        traced(empty)
    assert not list(tmp_path.iterdir())


# With SURE the answer passes one half at the third of seven steps.
SETTLED = "From step 3 on the answer stays the same."
SAID = [
    "75.0%", "50.0%", "25.0%", "3 of 4 recordings", "12,345", "3 epochs in 1.2 s", "native, Keras 3.0 on jax",
    "6 for training, 2 for validation, 4 held out", "speaker 1 taken for 2, 1 time.",
    "Held-out recording 2, 7 frames of speaker 1", "The model says speaker 1 with 90.0%.", SETTLED,
]  # fmt: skip
WRONG = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7], [0.25, 0.75]]
SAID_WRONGLY = ["5 frames of speaker 1", "The model says speaker 2 with 75.0%.", SETTLED]


@pytest.mark.parametrize(("beliefs", "texts"), [(SURE, SAID), (np.array(WRONG), SAID_WRONGLY)])
def test_training_report_says_the_numbers(trained, beliefs, texts):
    """Also of a recording that is named wrongly; the answer is settled when it changes no more."""
    html = trained(METRICS, beliefs)
    assert html.count("<svg") == 10
    assert [text for text in texts if text not in html] == []


def test_every_picture_is_explained_once(traced, trained):
    captions = [str(escape(panel.caption)) for panel in trace_page.PANELS]
    for html in (traced(make_trace([4, 3, 2])), trained()):
        assert [html.count(caption) for caption in captions] == [1] * 6


def test_training_report_of_a_run_that_diverged(trained, monkeypatch):
    monkeypatch.setattr(figures, "heat_map", lambda *_, **__: "<svg></svg>")
    html = trained({**METRICS, "history": {name: [None] * 3 for name in ("loss", "val_loss")}})
    assert "training not finite, validation not finite" in html


@pytest.mark.parametrize(
    "write", [write_training_report, lambda path: trace_report(path, {"": make_trace([4]).asdict()})]
)
def test_page_is_self_contained(tmp_path, write):
    """Nothing is loaded from elsewhere: every reference is into the page itself. Ids are unique; same bytes again."""
    html = write(tmp_path / "page.html").read_text(encoding="utf-8")
    loaded = [*re.findall(r'(?:src|xlink:href)="([^"]*)"', html), *re.findall(r'<link[^>]*href="([^"]*)"', html)]
    loaded += re.findall(r"url\(([^)]*)\)", html)
    assert loaded
    assert all(reference.startswith(("data:", "#")) for reference in loaded)
    assert "@import" not in html
    identifiers = re.findall(r'\bid="([^"]*)"', html)
    assert len(identifiers) == len(set(identifiers))
    inside = {reference[1:] for reference in loaded if reference.startswith("#")}
    assert inside <= set(identifiers)
    assert write(tmp_path / "again.html").read_text(encoding="utf-8") == html


def test_a_failed_page_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trace_report(path, {"": make_trace([3]).asdict()})
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def browse(page: Path, profile: Path, width: int) -> tuple[str, list[str]]:
    """Open a page in a headless browser. Returns: the document after loading, and what the console said."""
    done = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={profile}", f"--window-size={width},1200", "--virtual-time-budget=3000",
            "--enable-logging=stderr", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


# The title, which the dumped document holds, tells what was drawn: how large each heat map came out, the pixels of a
# second copy of each picture (the load event waits for those), and by how much the page is wider than the window.
PROBE = """<script>addEventListener("load", () => {
  const drawn = [...document.querySelectorAll("svg image")].map(picture => picture.getBoundingClientRect());
  const copies = [...document.querySelectorAll("img")].map(copy => [copy.naturalWidth, copy.naturalHeight]);
  const seen = drawn.filter(box => box.width > 10 && box.height > 100).length;
  document.title = JSON.stringify([seen, copies, document.documentElement.scrollWidth - innerWidth]);
});</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
@pytest.mark.parametrize("width", [500, 1280])
def test_page_in_a_browser(tmp_path, width):
    """All pictures render, nothing is wider than the window, and the console stays silent, without the probe too."""
    page = write_training_report(tmp_path / "page.html")
    html, probed = page.read_text(encoding="utf-8"), tmp_path / "probed.html"
    copies = "".join(f'<img src="{picture}" width="1" height="1">' for picture in re.findall(PICTURE, html))
    probed.write_text(html.replace("</body>", copies + PROBE + "</body>"), encoding="utf-8")
    document, said = browse(probed, tmp_path / "profile", width)
    assert said == []
    seen, sizes, wider = json.loads(re.search(r"<title>(.*?)</title>", document).group(1))
    assert seen == len(sizes) == 1 + 2 * 7  # the confusion matrix, and seven heat maps, each with its colour bar
    assert [size for size in sizes if size in ([2, 2], [7, 3], [7, 5])] == [[2, 2], [7, 3], *[[7, 5]] * 6]
    assert all(min(size) > 0 for size in sizes)
    assert wider <= 0
    if width == 500:
        document, said = browse(page, tmp_path / "profile", width)
        assert said == []
        assert document.count("</svg>") == 10


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH")
def test_the_browser_test_can_fail(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>x</title><script>nothing()</script>")
    assert "nothing is not defined" in browse(page, tmp_path / "profile", 500)[1][0]
