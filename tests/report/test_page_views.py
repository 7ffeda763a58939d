"""Every view of a page, driven in a browser: keys and clicks move the numbers, and the numbers are the trace's."""

import json

import matplotlib
import numpy as np
import pytest

import glasscell as gc
from browsers import Window
from glasscell.insight import gate_terms, half_life, memory_sources, output_sources, saturation

B, T, I, H, K = 3, 14, 4, 6, 3
NAMES = ["i", "f", "g", "o", "c", "h"]
CLASSES = ["no", "perhaps", "yes"]
# Both sides compute in double precision from the same float32: products in another order, a rounding or two of each.
PRODUCTS = {"rtol": 1e-12, "atol": 1e-15}
# Differences of a(.) near 1, whose tanh is another in the browser, by an ulp or two; in a logit of all units, weighted.
DIFFERENCES = {"rtol": 1e-12, "atol": 2e-14}
SKIPPED = {"light": (0xC3, 0xC9, 0xCF), "dark": (0x4A, 0x52, 0x5B)}


def traced(seed=0, units=H, **options):
    """A cell over time with everything that a call may have, and the Dense layer behind it."""
    rng = np.random.default_rng(seed)
    lstm = gc.LSTM(units, return_sequences=True).build(I, seed=seed)
    lstm.cell.set_weights([1.5 * rng.standard_normal(w.shape).astype("f4") for w in lstm.cell.get_weights()])
    x = rng.standard_normal((B, T, I)).astype("f4")
    state = tuple(rng.standard_normal((B, units)).astype("f4") for _ in range(2))
    trace = lstm.trace(x, initial_state=state, **options)
    return trace, (rng.standard_normal((units, K)).astype("f4"), rng.standard_normal(K).astype("f4"))


MASK = np.arange(T) < [[T], [9], [T]]
MASK[2, [0, 5]] = False
RESET = np.zeros((B, T), bool)
RESET[0, 4] = RESET[2, [5, 6]] = True


@pytest.fixture(scope="module")
def trace():
    return traced(mask=MASK, reset=RESET)


@pytest.fixture(scope="module")
def page(trace, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    return trace[0].report(path, dense=trace[1], classes=CLASSES)


@pytest.fixture(scope="module")
def opened(context, page):
    return Window(context.new_page(), page)


@pytest.fixture
def seen(opened):
    """The page of `trace`, as it opens."""
    opened.start()
    yield opened
    opened.check()


def assert_shows(numbers, trace, row, time, unit):
    """The heads of all views, the lines below the diagram and the raw gates: the trace's own float32 numbers."""
    for name in NAMES:
        np.testing.assert_equal(numbers[f"{name} {row}"], float(getattr(trace, name)[row, time, unit]))
    if trace.mask is None or trace.mask[row, time]:
        for name in ["zi", "zf", "zg", "zo", "i", "f", "g", "o", "h"]:
            assert numbers[name] == getattr(trace, name)[row, time, unit], name
        before = trace.c[row, time - 1, unit] if time else trace.c0[row, unit]
        assert numbers["c"] == (0 if trace.reset[row, time] else before)
        assert numbers["new"] == trace.c[row, time, unit]
        assert numbers["seen"] == pytest.approx(np.tanh(float(trace.c[row, time, unit])))


def test_the_numbers_are_the_traces(seen, trace):
    trace, dense = trace
    assert seen.now() | {"row": 0, "time": T - 1, "cell": 0} == seen.now()
    for row, time, unit in [(0, 0, 0), (0, 4, 2), (1, 8, 5), (1, 9, 5), (2, 0, 1), (2, 6, 3), (2, T - 1, 4)]:
        seen.choose(row=row, time=time, unit=unit, label=1, other=None)
        numbers = seen.numbers()
        assert_shows(numbers, trace, row, time, unit)
        sources = memory_sources(trace, row, time, unit), output_sources(trace, row, time, unit)
        for name, found in zip(("memory", "output"), sources, strict=True):
            np.testing.assert_allclose(numbers[f"{name} {row}"], found.total()[0], rtol=1e-6, atol=1e-7)
        logits = trace.h[row, time].astype(float) @ dense[0] + dense[1]
        np.testing.assert_allclose(numbers[f"answer {row}"], logits[1], rtol=1e-6)
        np.testing.assert_allclose(numbers[f"logit {row}"], logits[1], rtol=1e-5)  # the page splits tanh of a sum
        parts = trace.h[row, time, unit].astype(float) * dense[0][unit]
        np.testing.assert_allclose([numbers[f"term of {name}"] for name in CLASSES], parts, rtol=1e-6)
    assert f"step {T - 1}" in seen.text("#place")


SPLIT = """([row, time, unit, label]) => {
  const { cells: [cell], GATES, gateTerms, memorySources, outputSources, logitSources } = glasscell;
  const flat = ({ initial, steps, constant = 0 }) => [initial, ...steps, constant];
  const terms = cell.ran(row, time) ? GATES.map((gate) => gateTerms(cell, row, time, unit, gate)) : [];
  return [
    flat(memorySources(cell, row, time, unit)), flat(outputSources(cell, row, time, unit)),
    flat(logitSources(cell, row, time, label)),
    terms.map(({ bias, inputs, recurrent }) => [bias, ...inputs, ...recurrent]),
  ];
}"""


def test_the_sums_are_those_of_insight(window, trace, tmp_path):
    """Term by term, with masks, resets, initial states and dropout, in each direction of time."""
    rng = np.random.default_rng(1)
    drop = {
        "dropout_mask": rng.integers(0, 2, (4, B, I)).astype("f4"),
        "recurrent_dropout_mask": rng.integers(0, 2, (B, H)).astype("f4"),
    }
    plain, dense = traced(2, mask=MASK, reset=RESET, **drop)
    for k, one in enumerate([trace[0], plain]):
        seen = window(one.report(tmp_path / f"{k}.html", dense=dense))
        for row, time in [(0, 0), (0, 13), (1, 12), (2, 0), (2, 5), (2, 9)]:
            memory, output, logit, terms = seen.run(SPLIT, [row, time, time % H, 2])
            expected = memory_sources(one, row, time, time % H)
            np.testing.assert_allclose(memory, [*expected.initial, *expected.steps[:, 0], 0], **PRODUCTS)
            for got, expected in (
                (output, output_sources(one, row, time, time % H)),
                (logit, output_sources(one, row, time, kernel=dense[0][:, 2:], bias=dense[1][2:])),
            ):
                want = [*expected.initial, *expected.steps[:, 0], *expected.constant]
                np.testing.assert_allclose(got, want, **DIFFERENCES)
            for gate, got in zip("ifgo", terms, strict=bool(terms)):
                expected = gate_terms(one, row, time, time % H, gate=gate)
                want = [*expected.bias, *expected.inputs[:, 0], *expected.recurrent[:, 0]]
                np.testing.assert_allclose(got, want, **PRODUCTS)


def test_a_part_of_the_units_is_split_alike(window, trace, tmp_path, monkeypatch):
    """Where not all units fit: those that are shown keep their own numbers, names, weights and initial state."""
    monkeypatch.setattr("glasscell._report.trace_page.FLOATS", 500)
    monkeypatch.setattr("glasscell._report.size.FEWEST_STEPS", T)
    monkeypatch.setattr("glasscell._report.size.FEWEST_UNITS", 2)
    whole = trace[0].at(rows=[2]).with_names(units="abcdef")
    seen = window(whole.report(tmp_path / "page.html"))
    units = seen.run("glasscell.cells[0].units")
    assert 1 < len(units) < H
    assert "units with the largest cell state of 6" in seen.text("#left-out")
    for place, unit in enumerate(units):
        for time in (0, 4, 9):  # the first step is skipped: h is that of before
            seen.choose(time=time, unit=place)
            assert seen.text("#inside h3").startswith(f"unit {unit} ({'abcdef'[unit]}) at step {time}")
            numbers = seen.numbers()
            np.testing.assert_allclose(numbers["output 0"], whole.h[0, time, unit], rtol=1e-5)
            if time:
                terms = seen.run(
                    "([t, u]) => glasscell.gateTerms(glasscell.cells[0], 0, t, u, 'f').recurrent", [time, place]
                )
                want = gate_terms(whole, 0, time, unit, gate="f").recurrent[:, 0]
                np.testing.assert_allclose(terms, want, rtol=1e-12)


def test_keys_move_the_numbers(seen, trace):
    trace, _ = trace
    seen.select("way", "number")
    seen.choose(unit=0)
    assert seen.now()["time"] == T - 1
    expected = {
        "Home": (0, 0), "ArrowRight": (1, 0), "ArrowDown": (1, 1), "PageDown": (11, 1), "ArrowLeft": (10, 1),
        "ArrowUp": (10, 0), "End": (T - 1, 0), "PageUp": (3, 0),
    }  # fmt: skip
    for key, (time, unit) in expected.items():
        seen.press(key)
        assert (seen.now()["time"], seen.now()["unit"]) == (time, unit), key
        assert_shows(seen.numbers(), trace, 0, time, unit)
    seen.press("Home", "ArrowLeft", "ArrowUp")
    assert (seen.now()["time"], seen.now()["unit"]) == (0, 0)
    assert seen.run("document.activeElement.id") == "glass"


def test_keyboard_alone_reaches_every_choice(seen):
    reached = set()
    for _ in range(25):
        seen.page.keyboard.press("Tab")
        reached.add(seen.run("document.activeElement.dataset.choice || document.activeElement.id"))
    shown = seen.run(
        "[...document.querySelectorAll('[data-choice]')].filter(e => e.offsetParent).map(e => e.dataset.choice)"
    )
    assert {"glass", "play", *shown} <= reached
    assert {"row", "other", "unit", "way", "input", "feature", "time", "label"} == set(shown)


def test_clicks_and_drags_choose_a_step_and_a_unit(seen, trace):
    seen.run("document.querySelector('#view-c').scrollIntoView({ block: 'center' })")
    box = seen.page.locator("#view-c canvas").last.bounding_box()
    step = (box["width"] - 44 - 12) / T
    order = np.argsort(-half_life(trace[0], 0), kind="stable")
    seen.page.mouse.move(box["x"] + 44 + 3.5 * step, box["y"] + 1)
    seen.page.mouse.down()
    seen.settle()
    assert (seen.now()["time"], seen.now()["unit"]) == (3, order[0])
    seen.page.mouse.move(box["x"] + 44 + 7.5 * step, box["y"] + box["height"] - 10)
    seen.page.mouse.up()
    seen.settle()
    assert (seen.now()["time"], seen.now()["unit"]) == (7, order[-1])
    assert_shows(seen.numbers(), trace[0], 0, 7, order[-1])


def test_playing_walks_through_time_and_stops_at_the_end(seen):
    seen.choose(time=T - 3)
    seen.page.click("#play")
    assert "Pause" in seen.text("#play")
    seen.until(f"glasscell.choice.now.time === {T - 1}")
    seen.until("document.querySelector('#play').textContent.includes('Play')")
    seen.page.focus("#glass")
    seen.page.keyboard.press(" ")
    assert "Pause" in seen.text("#play")
    seen.until(f"glasscell.choice.now.time < {T - 1}")  # from the first step again
    seen.page.keyboard.press(" ")
    assert "Play" in seen.text("#play")
    assert seen.now()["time"] < T - 1


def test_the_slider_and_the_list_of_units(seen):
    seen.page.fill('[data-choice="time"]', "5")
    seen.select("unit", "3")
    assert (seen.now()["time"], seen.now()["unit"]) == (5, 3)
    assert seen.text("#inside h3").startswith("unit 3 at step 5")


def test_units_are_sorted(seen, trace):
    """Over the steps that ran; the other rows take the same order."""
    trace, (kernel, bias) = trace
    row, ran = 1, slice(0, 9)
    c, h = trace.c[row, ran].astype(float), trace.h[row, ran].astype(float)
    shares = saturation(trace, row)

    def correlation(with_):
        return np.abs([np.corrcoef(h[:, u], with_)[0, 1] for u in range(H)])

    marks = {
        "number": -np.arange(H),
        "half-life": half_life(trace, row),
        "saturation": (shares.open + shares.closed).mean(0),
        "size": np.abs(c).mean(0),
        "input": correlation(trace.x[row, ran, 2]),
        "answer": correlation(h @ kernel[:, 2] + bias[2]),
    }
    seen.select("row", "1")
    seen.choose(label=2, feature=2)
    for way, mark in marks.items():
        seen.select("way", way)
        units = seen.run("[...document.querySelector('[data-choice=unit]').options].map(o => Number(o.value))")
        assert units == list(np.argsort(-mark.astype(np.float32), kind="stable")), way


def test_a_second_row_stands_beside_the_first(seen, trace):
    seen.select("other", "2")
    seen.choose(time=6, unit=1)
    numbers = seen.numbers()
    for row in (0, 2):
        for name in NAMES:
            assert numbers[f"{name} {row}"] == getattr(trace[0], name)[row, 6, 1]
        inside = seen.numbers(f'.inside[data-row="{row}"]')
        assert inside["new"] == trace[0].c[row, 6, 1]
        assert inside["zf"] == trace[0].zf[row, 6, 1]
    assert seen.page.locator("#view-f canvas").count() == 3  # a legend and two rows
    boxes = [seen.page.locator("#view-f .canvas").nth(k).bounding_box() for k in range(2)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] < boxes[1]["x"]
    seen.select("other", "")
    assert seen.page.locator("#view-f canvas").count() == 2


PIXELS = """([view, times, count]) => {
  const canvas = [...document.querySelectorAll(`#view-${view} canvas`)].at(-1);
  const ratio = canvas.width / canvas.clientWidth;
  const context = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const height = canvas.clientHeight - (canvas.hasAttribute("data-axis") ? 20 : 3);
  const x = (t) => (44 + ((t + 0.5) * (canvas.clientWidth - 56)) / times) * ratio;
  const y = (u) => (((u + 0.5) * height) / count) * ratio;
  const at = (t, u) => context.getImageData(x(t), y(u), 1, 1).data;
  return Array.from({ length: times }, (_, t) => Array.from({ length: count }, (_, u) => [...at(t, u)].slice(0, 3)));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_heat_maps_show_every_value_and_skipped_steps_are_grey(window, page, trace, scheme):
    trace, _ = trace
    seen = window(page, scheme=scheme)
    seen.select("way", "number")
    seen.choose(row=1, unit=H - 1, time=T - 1)
    pixels = np.array(seen.run(PIXELS, ["f", T, H]))
    expected = 255 * matplotlib.colormaps["viridis"](trace.f[1])[..., :3]
    free = np.s_[:9, : H - 1]  # without the crosshair
    assert np.abs(pixels - expected)[free].max() < 12  # ten stops of 256 colours, straight lines between them
    for view, count in [("x", I), *((name, H) for name in NAMES)]:
        grey = np.array(seen.run(PIXELS, [view, T, count]))[9 : T - 1, 1 : count - 1]
        assert (grey == SKIPPED[scheme]).all(), view


def test_what_was_skipped_or_reset_is_said(seen, trace):
    seen.choose(row=1, time=10, unit=0)
    assert "The mask skipped this step" in seen.text("#inside")
    assert "skipped; c stays" in seen.text("#place")
    assert np.isnan(seen.numbers("#view-x")["x 1"])  # which is padding
    assert seen.numbers("#inside")["new"] == seen.numbers("#inside")["c"] == trace[0].c[1, 10, 0]
    assert seen.page.locator("#inside .reason").count() == 0
    seen.choose(row=0, time=4)
    assert "Before this step the state was set to zero." in seen.text("#inside")


def test_means_do_not_count_the_padding(seen, trace):
    seen.choose(row=1, time=3)
    label = seen.run("[...document.querySelectorAll('#view-f canvas')].at(-1).getAttribute('aria-label')")
    ran = trace[0].f[1, :9]
    assert (
        f"Mean {ran.mean():.3f}; {100 * (ran > 0.9).mean():.1f} % above 0.9, {100 * (ran < 0.1).mean():.1f} % below"
        in label
    )
    life = half_life(trace[0], 1, units=seen.now()["unit"])[0]
    assert (f"after {life:.1f} steps" if life < 10 else f"after {round(life):,} steps") in seen.text("#inside")


def test_the_input_as_lines(seen, trace):
    seen.select("input", "heat map")
    before = seen.run("document.querySelectorAll('#view-x canvas')[1].toDataURL()")
    seen.select("input", "lines")
    assert seen.run("document.querySelectorAll('#view-x canvas')[1].toDataURL()") != before
    seen.select("feature", "2")
    seen.choose(time=3)
    assert seen.numbers("#view-x")["x 0"] == trace[0].x[0, 3, 2]


def test_several_cells_are_chosen_by_name_each_in_its_own_time(window, tmp_path):
    both = gc.Bidirectional(gc.RNN(gc.StackedRNNCells([gc.LSTMCell(5), gc.LSTMCell(4)]))).build(3)
    traces = both.trace(np.random.default_rng(0).standard_normal((2, 7, 3)).astype("f4"))
    seen = window(traces.report(tmp_path / "page.html"))
    names = list(traces.named())
    assert seen.run("[...document.querySelector('[data-choice=cell]').options].map(o => o.textContent)") == names
    for k, (name, trace) in enumerate(traces.named().items()):
        seen.select("cell", str(k))
        seen.choose(time=2, unit=3, row=1)
        assert seen.numbers()["c 1"] == trace.c[1, 2, 3], name
        assert ("from the last step to the first" in seen.text("#definitions")) == (name == "backward, cell 0")


def test_steps_by_name_are_coloured_text(window, tmp_path):
    trace, _ = traced(3)
    words = [[f"word{k}" for k in range(T)], list("abcdefghijklmn"), list("abcdefghijklmn")]
    seen = window(trace.with_names(steps=words).report(tmp_path / "page.html"))
    assert seen.page.locator("#steps button").count() == T
    seen.page.click("#steps button >> nth=4")
    seen.settle()
    assert seen.now()["time"] == 4
    assert "step 4 “word4”" in seen.text("#place")
    assert seen.page.get_attribute("#steps .chosen", "data-step") == "4"
    colours = set(seen.run("[...document.querySelectorAll('#steps button')].map(b => b.style.background)"))
    assert len(colours) > T // 2
    seen.select("colour", "f")
    assert set(seen.run("[...document.querySelectorAll('#steps button')].map(b => b.style.background)")) != colours
    seen.select("row", "1")
    assert seen.page.locator("#steps .characters").count() == 1
    assert json.loads(seen.run("JSON.stringify(glasscell.cells[0].stepNames[1])")) == words[1]
