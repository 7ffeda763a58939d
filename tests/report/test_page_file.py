"""The file of a page: what is in it, how large it is, that it appears whole; and what a notebook shows."""

import base64
import io
import pickle
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

import glasscell as gc
from fresh import output_of
from glasscell import insight
from glasscell._report.size import part_of
from glasscell._report.write import IMPORT, scripts
from report_pages import data_of

FOLDER = Path(str(resources.files("glasscell._report") / "page"))
SCRIPTS = sorted(path.resolve() for path in FOLDER.rglob("*.js"))
MEGABYTE = 1_000_000


def make_trace(B, T, H, I=3, seed=0, **options):
    x = np.random.default_rng(seed).standard_normal((B, T, I)).astype(np.float32)
    return gc.LSTM(H, return_sequences=True).build(I, seed=seed).trace(x, **options)


def test_a_page_holds_the_arrays_of_the_trace(tmp_path):
    """Bit for bit in float32, NaN of skipped steps too; and the weights of each gate."""
    trace = make_trace(2, 5, 4, lengths=[5, 2])
    page = trace.report(tmp_path / "page.html")
    assert page == tmp_path / "page.html"
    for name in (*trace.asdict(), "x", "h0", "c0"):
        if name != "mask":
            np.testing.assert_array_equal(data_of(page, name), getattr(trace, name))
    np.testing.assert_array_equal(data_of(page, "kernel"), trace.kernel.reshape(3, 4, 4))
    np.testing.assert_array_equal(data_of(page, "bias"), trace.bias.reshape(4, 4))
    (cell,) = data_of(page)["cells"]
    assert cell["mask"] == trace.mask.astype(int).tolist()
    np.testing.assert_array_equal(data_of(page, "half_life")[1], insight.half_life(trace, 1).astype("f4"))
    shares = insight.saturation(trace, 1)
    np.testing.assert_array_equal(data_of(page, "saturated")[1], (shares.open + shares.closed).mean(0).astype("f4"))
    assert (cell["activation"], cell["recurrentActivation"], cell["leftOut"]) == ("tanh", "sigmoid", "")


def test_a_page_is_one_file_of_at_most_3_megabytes(tmp_path):
    path = make_trace(2, 100, 128, 12).report(tmp_path / "page.html")
    assert path.stat().st_size < 3 * MEGABYTE
    assert data_of(path)["cells"][0]["leftOut"] == ""
    html = path.read_text(encoding="utf-8")
    markup = re.sub(r"<(script|style).*?</\1>", "", html, flags=re.S)
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', markup) == []
    assert not re.search(
        r"\bimport\b.*from|@import|https?://(?!www\.w3\.org/2000/svg)",
        html.partition('id="data"')[2].partition("</script>")[2],
    )
    assert len(scripts()) < 80_000
    again = make_trace(2, 100, 128, 12).report(tmp_path / "again.html")
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("sizes", "shape", "said"),
    [
        ((5, 100, 128, 12), (3, 100, 128), "Shown are the first 3 of 5 rows, for a page holds no more than 3 MB."),
        ((20, 3, 4, 3), (12, 3, 4), "Shown are the first 12 of 20 rows, for"),
        ((1, 5000, 16, 3), (1, 2500, 16), "Shown are the first 2,500 of 5,000 steps, for"),
        (
            (2, 120, 256, 3),
            (1, 100, 32),
            "the first of 2 rows, the first 100 of 120 steps and the 32 units with the largest",
        ),
        ((1, 4, 8, 60000), (1, 4, 8), "Shown are neither the input nor the weights, for"),
    ],
)
def test_what_is_too_large_is_cut_and_the_page_says_so(tmp_path, monkeypatch, sizes, shape, said):
    if sizes[2] > shape[2]:  # as if a page were smaller: cells of thousands of units take their time
        monkeypatch.setattr("glasscell._report.trace_page.FLOATS", 2**17)
    trace = make_trace(*sizes)
    page = trace.report(tmp_path / "page.html")
    assert page.stat().st_size < 3 * MEGABYTE
    (cell,) = data_of(page)["cells"]
    assert tuple(cell["arrays"]["f"]["shape"]) == shape
    assert said in cell["leftOut"]
    assert "trace.at(rows=..., times=..., units=...).report(path)" in cell["leftOut"]
    np.testing.assert_array_equal(data_of(page, "c"), trace.c[: shape[0], : shape[1]][..., cell["units"]])
    if shape[2] < sizes[2]:  # the weights are those of the units that are shown, which hear all others
        means = np.abs(trace.c[0, : shape[1]]).mean(0)
        assert set(cell["units"]) == set(np.argsort(-means)[: shape[2]])
        kept = trace.recurrent_kernel.reshape(sizes[2], 4, sizes[2])[..., cell["units"]]
        np.testing.assert_array_equal(data_of(page, "recurrent_kernel"), kept)
        np.testing.assert_array_equal(data_of(page, "all_h"), trace.h[:1, : shape[1]])


@pytest.mark.parametrize("sizes", [(1, 1, 1), (9, 1, 3000), (1, 9000, 9000)])
def test_any_trace_has_a_part_that_fits(sizes):
    arrays = dict.fromkeys(
        ("i", "f", "g", "o", "c", "h", "zi", "zf", "zg", "zo"), np.broadcast_to(np.float32(0.5), sizes)
    )
    part = part_of(gc.Trace(**arrays), 2**19)
    assert min(part.rows, part.steps, part.units.size) >= 1
    assert part.rows * part.steps * (9 * part.units.size + sizes[2]) <= 2**19


def test_traces_of_several_cells_have_one_page(tmp_path):
    both = gc.Bidirectional(gc.RNN(gc.StackedRNNCells([gc.LSTMCell(5), gc.LSTMCell(4)]))).build(3)
    traces = pickle.loads(pickle.dumps(both.trace(np.ones((3, 2, 3), np.float32))))
    page = traces.report(tmp_path / "page.html")
    assert [cell["name"] for cell in data_of(page)["cells"]] == list(traces.named())
    for k, trace in enumerate(traces.named().values()):
        np.testing.assert_array_equal(data_of(page, "o", k), trace.o)
        assert data_of(page)["cells"][k]["goBackwards"] == trace.go_backwards


def test_a_trace_that_knows_little_has_a_page(tmp_path):
    """One of a part of the units, of gates that are no shares, or made of arrays alone."""
    trace = make_trace(2, 4, 6)
    bare = gc.Trace(**trace.asdict())
    odd = gc.LSTM(3, recurrent_activation="tanh").build(3, seed=0).trace(np.ones((1, 4, 3), "f4"))
    for one, missing in ((trace.at(units=[1, 4]), "kernel"), (bare, "x"), (odd, "half_life")):
        assert missing not in data_of(one.report(tmp_path / "page.html"))["cells"][0]["arrays"]


def test_a_page_wants_a_step(tmp_path):
    with pytest.raises(ValueError, match=r"trace: expected at least one row, step and unit, got .* = \(1, 0, 5\)"):
        make_trace(1, 3, 5).at(times=slice(0, 0)).report(tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("dense", "classes", "message"),
    [
        (3, None, r"dense: expected \(kernel, bias\) of a Dense layer, .*\(4, K\) and \(K,\), got 3"),
        ((np.ones((5, 2)), np.ones(2)), None, r"dense: .* got \(5, 2\) and \(2,\)"),
        ((np.ones((4, 2)), np.ones(3)), None, r"dense: .* got \(4, 2\) and \(3,\)"),
        ((np.ones((4, 0)), np.ones(0)), None, r"dense: .* got \(4, 0\) and \(0,\)"),
        ((np.ones((4, 2)), np.ones(2)), ["a"], "classes: expected 2 names, got 1"),
    ],
)
def test_another_dense_layer_is_refused(tmp_path, dense, classes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make_trace(1, 3, 4).report(tmp_path / "page.html", dense=dense, classes=classes)


def test_a_failed_page_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_trace(1, 3, 2).report(path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_pages_and_notebooks_need_numpy_alone(tmp_path):
    script = (
        "import sys; before = set(sys.modules)\nimport numpy, glasscell as gc\n"
        "t = gc.LSTM(2).build(2).trace(numpy.zeros((1, 2, 2), 'f4')); t.report(sys.argv[1]); t._repr_html_()\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)\n"
        "print(sorted(name for name in loaded if 'cython' not in name))"
    )
    assert output_of("-c", script, tmp_path / "page.html").strip() == "['glasscell', 'numpy']"


# The scripts, read as text.
EXPORT = re.compile(r"^export (?:class|function|const) (\w+)", re.M)
TOP = re.compile(r"^(?:export )?(?:class|function|const|let) (\w+|\[[^\]]*\])", re.M)


def test_scripts_import_what_there_is_and_share_one_scope():
    """Each import names what the file beside it exports; every name at the top of a file is its own in the page."""
    exported = {path: set(EXPORT.findall(path.read_text())) for path in SCRIPTS}
    assert len(exported) > 15
    names, used = [], set()
    for path in SCRIPTS:
        text = path.read_text()
        names += [name for found in TOP.findall(text) for name in re.findall(r"\w+", found)]
        for line in IMPORT.finditer(text):
            wanted = set(re.findall(r"\w+", line.group().partition("{")[2].partition("}")[0]))
            beside = (path.parent / re.search(r'"(.*)"', line.group())[1]).resolve()
            assert wanted <= exported[beside], f"{path.name}: {line.group()}"
            used |= wanted
            assert all(len(re.findall(rf"\b{name}\b", text)) > 1 for name in wanted), f"{path.name}: {line.group()}"
    assert [name for name in set(names) if names.count(name) > 1] == []
    within = {
        name for path in SCRIPTS for name in exported[path] if len(re.findall(rf"\b{name}\b", path.read_text())) > 1
    }
    assert {name for found in exported.values() for name in found} <= used | within
    assert not re.search(r"^(import|export)\b", scripts(), re.M)


def test_scripts_and_styles_are_short_and_make_no_markup_of_text():
    for path in (*SCRIPTS, *FOLDER.rglob("*.css"), *FOLDER.rglob("*.html")):
        lines = path.read_text().splitlines()
        assert len(lines) < 400, path.name
        if path.suffix == ".js":
            assert lines[0].startswith("// "), f"{path.name} does not say what it is"
            banned = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|fetch\(|XMLHttp"
            assert not re.search(banned, path.read_text()), path.name


def test_a_notebook_shows_a_trace_in_some_kilobytes():
    trace = make_trace(3, 200, 128, lengths=[200, 50, 0]).with_names(steps=[f"<b>{k}" for k in range(200)])
    shown = trace._repr_html_()
    assert len(shown) < 12_000
    assert "3 rows, 200 steps, 128 units, 250 of 600 steps ran" in shown
    ran = trace.f[trace.mask]
    assert f"<th>f</th><td>{ran.mean():.3f}</td><td>{(ran > 0.9).mean():.1%}</td>" in shown
    assert "<b>" not in shown.replace("<b>glasscell.Trace</b>", "")
    assert len(re.findall('alt="[^"]+"', shown)) == 2


def test_the_small_pictures_show_the_values():
    """One pixel a value where they fit; skipped steps are grey; larger ones are averaged."""
    trace = make_trace(1, 6, 4, lengths=[5])
    small = picture_of(trace)
    assert small.shape[:2] == (4, 6)
    assert (np.round(255 * small[:, 5]) == (195, 201, 207)).all()
    green = small[:, :5, 1].T.ravel()[np.argsort(trace.f[0, :5], axis=None)]  # which viridis has more of the more open
    assert (np.diff(green) >= 0).all()
    assert green[-1] > green[0] + 0.1
    assert picture_of(make_trace(1, 500, 300)).shape[:2] == (40, 80)


def picture_of(trace):
    data = re.search(r"data:image/png;base64,([^\"]+)", trace._repr_html_())[1]
    return image.imread(io.BytesIO(base64.b64decode(data)), format="png")[..., :3]


def test_a_notebook_shows_odd_traces():
    assert "0 of 3 steps ran" in make_trace(1, 3, 2, lengths=[0])._repr_html_()
    assert "0 steps" in make_trace(1, 3, 2).at(times=slice(0, 0))._repr_html_()
    lost = gc.Trace(**{name: np.full_like(a, np.nan) for name, a in make_trace(1, 3, 2).asdict().items()})
    assert "<img" in lost._repr_html_()
    both = gc.Bidirectional(gc.LSTM(2)).build(3).trace(np.ones((1, 2, 3), "f4"))
    assert both._repr_html_().count("<table>") == 2
