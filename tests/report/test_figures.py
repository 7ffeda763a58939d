"""The figures for papers: what they draw are the numbers of the trace and of `glasscell.insight`."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import glasscell as gc
from fresh import output_of
from glasscell import insight, report

B, T, I, H = 2, 9, 3, 5
NAMES = {"gate_terms", "gates_and_states", "gradient_flow", "half_lives", "memory_sources", "saturation"}


@pytest.fixture(scope="module")
def run():
    lstm = gc.LSTM(H, return_sequences=True).build(I, seed=0)
    x = 3 * np.random.default_rng(0).standard_normal((B, T, I)).astype("f4")
    return lstm, x, lstm.trace(x, lengths=[T, 6])


def test_public_names():
    assert set(report.__all__) == NAMES
    assert all(getattr(report, name).__doc__ for name in NAMES)


def test_every_figure_is_drawn_and_none_is_global(run, monkeypatch):
    """Whatever the user's own settings are, which stay as they are."""
    lstm, x, trace = run
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 40)
    flow = insight.gradient_flow(lstm, x, np.ones((B, T, H)))
    make = {
        "gate_terms": lambda: report.gate_terms(trace, 0, 3, 1),
        "gates_and_states": lambda: report.gates_and_states(trace, 1),
        "gradient_flow": lambda: report.gradient_flow(flow),
        "half_lives": lambda: report.half_lives(trace),
        "memory_sources": lambda: report.memory_sources(trace, 0, -1, 2),
        "saturation": lambda: report.saturation(trace, 0),
    }
    assert set(make) == NAMES
    for name, draw in make.items():
        figure, file = draw(), io.BytesIO()
        assert type(figure) is Figure
        figure.savefig(file, format="pdf" if name == "saturation" else "svg")
        assert len(file.getvalue()) > 5000, name
        assert max(text.get_fontsize() for axes in figure.axes for text in axes.get_xticklabels()) < 20
    assert matplotlib.rcParams["font.size"] == 40
    shown = output_of("-c", "import glasscell.report, sys; print('matplotlib.pyplot' in sys.modules)")
    assert shown.strip() == "False"


def test_heat_maps_show_every_value(run):
    """Units by their mean forget gate of the steps that ran; skipped steps are masked."""
    _, _, trace = run
    order = np.argsort(-trace.f[1, :6].mean(0), kind="stable")
    figure = report.gates_and_states(trace, 1)
    images = {place.get_title(loc="left")[0]: place.images[0] for place in figure.axes if place.images}
    assert set(images) == set("ifgoch")
    for name, image in images.items():
        shown = image.get_array()
        np.testing.assert_array_equal(shown[:, :6], getattr(trace, name)[1, :6][:, order].T)
        assert shown.mask[:, 6:].all()
        assert not shown.mask[:, :6].any()
    assert images["f"].get_clim() == (0, 1)
    assert images["c"].get_clim()[1] == np.abs(trace.c[1, :6]).max()


def test_bars_are_the_parts_of_the_sums(run):
    _, _, trace = run
    (axes,) = report.memory_sources(trace, 0, 7, 2).axes
    left, written = insight.memory_sources(trace, 0, 7, 2)
    np.testing.assert_array_equal([bar.get_height() for bar in axes.patches], [*left, *written[:, 0]])
    for gate, axes in zip("ifgo", report.gate_terms(trace, 0, 7, 2, count=4).axes, strict=True):
        widths = [bar.get_width() for bar in axes.patches]
        assert len(widths) == 5
        np.testing.assert_allclose(sum(widths), getattr(trace, f"z{gate}")[0, 7, 2], rtol=1e-5)
        (largest,) = insight.gate_terms(trace, 0, 7, 2, gate=gate).largest(4)
        assert [text.get_text() for text in axes.get_yticklabels()] == [*(name for name, _ in largest), "others"]


def test_lines_and_points(run):
    lstm, x, trace = run
    (axes,) = report.half_lives(trace, 0).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), -np.sort(-insight.half_life(trace, 0)))
    found = insight.saturation(trace)
    for k, axes in enumerate(report.saturation(trace).axes):
        np.testing.assert_array_equal(axes.lines[1].get_xydata(), np.stack([found.open[k], found.closed[k]], 1))
    flow = insight.gradient_flow(lstm, x, np.ones((B, T, H)))
    (axes,) = report.gradient_flow(flow).axes
    for name, line in zip(("c", "h", "carousel"), axes.lines, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), flow.in_all(name))


def test_units_that_never_forget_and_no_step():
    cell = gc.LSTM(3).build(2, seed=0)
    trace = cell.trace(np.ones((1, 4, 2), "f4"))
    always = gc.Trace(**{**trace.asdict(), "f": np.ones((1, 4, 3), "f4")})
    (axes,) = report.half_lives(always).axes
    assert np.isfinite(axes.lines[0].get_ydata()).all()
    with pytest.raises(ValueError, match=r"^trace: expected steps that ran, got none$"):
        report.half_lives(cell.trace(np.ones((1, 4, 2), "f4"), lengths=[0]))
