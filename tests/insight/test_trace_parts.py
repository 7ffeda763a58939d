"""Parts, names and files of a `Trace`, and what its functions refuse."""

import copy
import pickle
import sys
import types

import numpy as np
import pytest
import torch

import glasscell as gc
import glasscell.torch
from compare import arrays_of, assert_same_results
from drawn import B, H, I, T, draw, layer, twice_tanh
from glasscell import Trace
from glasscell.insight import gate_terms, gradient_flow, half_life, memory_sources, output_sources, saturation

MASK = np.array([[1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], bool)
RESET = np.array([[0, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0]], bool)
DAYS = [f"day {t}" for t in range(T)]


def make(**arguments):
    masks = {"dropout_mask": draw(B, I), "recurrent_dropout_mask": draw(4, B, H)}
    return layer(**arguments).trace(draw(B, T, I), (draw(B, H), draw(B, H)), MASK, reset=RESET, **masks)


@pytest.fixture(scope="module")
def trace():
    return make()


def test_a_part_is_exact_and_over_the_same_memory(trace):
    part = trace.at(rows=1, times=slice(2, 5))
    assert part.h.shape == (1, 3, H)
    assert np.shares_memory(part.f, trace.f)
    np.testing.assert_array_equal(part.c0, trace.c[1:2, 1])
    np.testing.assert_array_equal(part.x, trace.x[1:2, 2:5])
    np.testing.assert_allclose(memory_sources(part, 0, 2).total(), trace.c[1, 4], atol=1e-6)
    ran = int(np.flatnonzero(part.mask[0])[-1])
    np.testing.assert_allclose(gate_terms(part, 0, ran, gate="f").total(), trace.zf[1, 2 + ran], atol=1e-6)
    units = trace.at(units=[4, 0])
    np.testing.assert_array_equal(units.i, trace.i[:, :, [4, 0]])
    np.testing.assert_array_equal(output_sources(units, 2, -1).steps, output_sources(trace, 2, -1, [4, 0]).steps)
    many = trace.at([2, 0], -1, np.arange(H) > 2)
    assert many.h.shape == (2, 1, H - 3)
    assert many.dropout_mask.shape == (1, 2, I)
    assert trace.at().h.shape == trace.h.shape
    with pytest.raises(
        ValueError, match=r"trace: expected one that knows its kernel, .* for all units, got one without"
    ):
        gate_terms(units, 0, 0, gate="i")


def test_a_backward_trace_is_in_processing_order():
    x = draw(B, T, I)
    trace = layer(go_backwards=True).trace(x, mask=MASK, reset=RESET).with_names(steps=DAYS)
    np.testing.assert_array_equal(trace.x, x[:, ::-1])
    np.testing.assert_array_equal(trace.mask, MASK[:, ::-1])
    np.testing.assert_array_equal(trace.reset, RESET[:, ::-1])
    assert trace.step_names[0].tolist() == DAYS[::-1]
    assert trace.go_backwards


@pytest.mark.parametrize("way", ["file", "pickle", "copy", "names"])
def test_a_trace_comes_back_whole(way, trace, tmp_path):
    if way == "names":
        way, trace = "file", trace.with_names(["rain", "ü", "<b>", ""], range(H), [DAYS] * B)
    ways = {"pickle": lambda t: pickle.loads(pickle.dumps(t)), "copy": copy.deepcopy}
    ways["file"] = lambda t: Trace.load(t.save(tmp_path / "trace.npz"))
    again = ways[way](trace)
    names = ("feature_names", "unit_names", "step_names")
    for name in names:
        np.testing.assert_array_equal(getattr(again, name), getattr(trace, name))
    plain = [{k: v for k, v in arrays_of(t).items() if k not in names} for t in (again, trace)]
    assert_same_results(*plain)
    assert again.activation == trace.activation
    assert repr(again) == repr(trace)
    assert [path.name for path in tmp_path.iterdir()] == (["trace.npz"] if way == "file" else [])
    np.testing.assert_allclose(output_sources(again, 0, -1).total(), trace.h[0, -1], atol=1e-6)


def test_an_activation_of_ones_own_serves_and_stays_behind(tmp_path):
    trace = make(activation=twice_tanh)
    np.testing.assert_allclose(output_sources(trace, 0, -1).total(), trace.h[0, -1], atol=1e-5)
    for again in (pickle.loads(pickle.dumps(trace)), Trace.load(trace.save(tmp_path / "trace.npz"))):
        assert again.activation is None
        with pytest.raises(ValueError, match="trace: expected one that knows its activation"):
            output_sources(again, 0, -1)


def test_a_trace_of_bare_arrays_is_one(trace, tmp_path):
    """As they were kept before a trace knew its call."""
    bare = Trace(**trace.asdict())
    assert_same_results(Trace.load(bare.save(tmp_path / "bare.npz")).asdict(), trace.asdict())
    np.testing.assert_array_equal(half_life(bare), half_life(trace))
    for call, needed in ((memory_sources, "c0"), (output_sources, "c0")):
        with pytest.raises(ValueError, match=f"trace: expected one that knows its {needed}"):
            call(bare, 0, 0)


def test_files_that_are_no_trace(trace, tmp_path):
    path = tmp_path / "trace.npz"
    kept = dict(np.load(trace.save(path)))
    wrong = {
        "one without 'zo'": {name: a for name, a in kept.items() if name != "zo"},
        "one with 'more'": {**kept, "more": np.zeros(1)},
        r"kernel of shape \(4, 19\)": {**kept, "kernel": kept["kernel"][:, 1:]},
        r"mask of shape \(3, 6\), float64": {**kept, "mask": np.zeros((B, T))},
        r"c0 of shape \(3, 4\)": {**kept, "c0": kept["c0"][:, 1:]},
        "activation 'nothing'": {**kept, "activation": np.array("nothing")},
        "cannot read": {**kept, "x": np.array([print], object)},
    }
    for got, arrays in wrong.items():
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=f"^path: expected a trace that Trace.save wrote in .*, got .*{got}"):
            Trace.load(path)
    for content in (b"", b"no archive", b"PK\3\4"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"^path: expected a trace that Trace.save wrote"):
            Trace.load(path)
    np.save(tmp_path / "one.npy", draw(3))
    with pytest.raises(ValueError, match=r"^path: expected a trace that Trace.save wrote"):
        Trace.load(tmp_path / "one.npy")
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        Trace.load(tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError, match="path: expected a file in a folder that exists"):
        trace.save(tmp_path / "none" / "trace.npz")


def test_to_xarray(trace, monkeypatch):
    """Dimensions, coordinates and attributes, as xarray takes them; xarray itself need not be installed."""
    named = trace.with_names(units=range(H), steps=DAYS)
    monkeypatch.setitem(sys.modules, "xarray", types.SimpleNamespace(Dataset=lambda *given: given))
    arrays, coordinates, attributes = named.to_xarray()
    assert {"i", "c", "zo", "mask", "x", "h0", "kernel"} <= set(arrays)
    assert set(coordinates) == {"unit", "step"}
    assert attributes == {"activation": "tanh", "recurrent_activation": "sigmoid", "go_backwards": 0}
    sizes = {}
    for dimensions, array in (*arrays.values(), *coordinates.values()):
        assert len(dimensions) == array.ndim
        for name, size in zip(dimensions, array.shape, strict=True):
            assert sizes.setdefault(name, size) == size
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r"^to_xarray needs xarray, which is not installed: pip install xarray$"):
        trace.to_xarray()


def test_a_real_dataset(trace):
    xarray = pytest.importorskip("xarray")
    found = trace.with_names(units=[f"u{k}" for k in range(H)]).to_xarray()
    assert isinstance(found, xarray.Dataset)
    np.testing.assert_array_equal(found.f.sel(unit="u2").isel(row=1), trace.f[1, :, 2])


X, LSTM, BOTH = draw(B, T, I), layer(), gc.Bidirectional(gc.LSTM(H)).build(I, 0)
REFUSED = {
    "trace: expected a glasscell.Trace, .* got LSTM": lambda t: memory_sources(LSTM, 0, 0),
    "trace: expected one glasscell.Trace, got 2 of them; take one": lambda t: half_life(BOTH.trace(X)),
    r"row: expected an index of 3, -3\.\.2, got 3": lambda t: memory_sources(t, 3, 0),
    r"time: expected an index of 6, -6\.\.5, got -7": lambda t: output_sources(t, 0, -7),
    r"time: expected an integer, got 1\.0": lambda t: gate_terms(t, 0, 1.0, gate="i"),
    "row: expected an integer, got True": lambda t: gate_terms(t, True, 1, gate="i"),
    r"units: expected indices in -5\.\.4, got \[5\]": lambda t: memory_sources(t, 0, 0, [5]),
    r"units: expected indices in -5\.\.4, got 'a'": lambda t: t.at(units="a"),
    r"rows: expected indices in -3\.\.2, one, a slice or a list of them, got True": lambda t: t.at(rows=True),
    r"rows: .* got \[\[1\]\]": lambda t: t.at(rows=[[1]]),
    r"times: expected one step or a slice of step 1, without gaps, got \[0, 2\]": lambda t: t.at(times=[0, 2]),
    "times: expected one step or a slice of step 1, .* -1": lambda t: t.at(times=slice(None, None, -1)),
    "gate: expected one of 'i', 'f', 'g', 'o', got 'c'": lambda t: gate_terms(t, 0, 0, gate="c"),
    r"time: expected a step that ran, got \d, which the mask skips": lambda t: gate_terms(t, *SKIPPED, gate="i"),
    r"kernel: expected shape \(H, K\) = \(5, K\), got \(3, 5\); a torch.nn.Linear has its transpose": lambda t: (
        output_sources(t, 0, 0, kernel=draw(3, 5))),
    r"bias: expected shape \(K,\) = \(2,\), got \(3,\)": lambda t: (
        output_sources(t, 0, 0, kernel=draw(H, 2), bias=draw(3))),
    "units: expected None beside a kernel": lambda t: output_sources(t, 0, 0, [1], kernel=draw(H, 2)),
    "kernel: expected that of the Dense layer beside its bias, got None": lambda t: output_sources(t, 0, 0, bias=[1]),
    "open, closed: expected 0 <= closed <= open <= 1": lambda t: saturation(t, open=0.1, closed=0.2),
    "count: expected a positive integer, got 0": lambda t: gate_terms(*RAN(t), gate="i").largest(0),
    r"rows: expected indices in -3\.\.2, got slice\('a'": lambda t: t.at(rows=slice("a", "b")),
    "features: expected None for a trace without its x": lambda t: Trace(**t.asdict()).with_names(features=["a"]),
    "layer: expected the traces of one call of a stack or of two directions, got .*'layer 0'": lambda t: (
        gradient_flow(glasscell.torch.LSTM(I, H, 2).trace(torch.zeros(T, B, I)), None, draw(T, B, H))),
    "features: expected 4 names, got 2 of them": lambda t: t.with_names(features=["a", "b"]),
    "units: expected 5 names, got 3": lambda t: t.with_names(units=3),
    "steps: expected 6 or 3 x 6 names, got 5 of them": lambda t: t.with_names(steps=DAYS[1:]),
    r"layer: expected one with trace\(x\), or its Trace, got ndarray": lambda t: gradient_flow(X, X, X),
    r"dy: expected the shape of the output, \(3, 6, 5\), got \(3, 5\)": lambda t: gradient_flow(LSTM, X, draw(B, H)),
    "x: expected None beside a trace": lambda t: gradient_flow(t, X, X),
    "x: expected at least one step, got none": lambda t: gradient_flow(LSTM, X[:, :0], draw(B, 0, H)),
    "dy: expected a pair, one for each direction": lambda t: gradient_flow(BOTH.trace(X), None, draw(B, H)),
    "activation: .* has no derivative": lambda t: gradient_flow(layer(activation=lambda z: z), X, draw(B, T, H)),
    "name: expected one of 'h', 'c', 'c_next', 'carousel', got 'f'": lambda t: (
        gradient_flow(LSTM, X, draw(B, T, H)).in_all("f")),
}  # fmt: skip
SKIPPED = np.argwhere(~MASK)[0]


def RAN(trace):
    return trace, 0, int(np.flatnonzero(MASK[0])[0])


@pytest.mark.parametrize("message", REFUSED)
def test_wrong_arguments_get_one_sentence(message, trace):
    with pytest.raises((ValueError, TypeError), match=f"^{message}") as refusal:
        REFUSED[message](trace)
    assert "\n" not in str(refusal.value)
