"""The benchmark times nothing that is wrong, and reports the ratios it measured."""

import numpy as np
import pytest

from glasscell.bench import Row, as_json, measure, run, table
from glasscell.bench import peers as bench_peers
from glasscell.bench.shapes import SHAPES, Shape


@pytest.fixture
def quick(monkeypatch):
    """One tiny shape, one short turn."""
    monkeypatch.setitem(SHAPES, "here", Shape(2, 5, 3, 8))
    monkeypatch.setitem(SHAPES, "one step", Shape(1, 1, 3, 8))
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "ROUND_SECONDS", 0.0)


@pytest.mark.usefixtures("quick")
def test_all_contestants_agree_and_are_timed():
    rows = run(["here", "one step"], say=lambda text: None)
    assert [row.mode for row in rows] == ["infer", "train"] * 2
    names = {"glasscell", "glasscell.keras", "torch", "Keras on JAX"}
    assert set(rows[0].seconds) == names | {"torch, grad mode"}
    assert set(rows[1].seconds) == names
    assert all(seconds > 0 for row in rows for seconds in row.seconds.values())
    assert table(rows).row_count == 4


@pytest.mark.usefixtures("quick")
def test_a_wrong_result_gets_no_time(monkeypatch):
    def wrong(problem):
        right = bench_peers.glasscell_numpy(problem)
        return lambda: tuple(np.where(np.arange(y.size).reshape(y.shape) == 3, y + 0.1, y) for y in right())

    ours = bench_peers.CONTESTANTS[0]
    monkeypatch.setattr(bench_peers, "CONTESTANTS", [ours, bench_peers.Contestant("liar", wrong)])
    with pytest.raises(RuntimeError, match="liar: result 0 is off by"):
        run(["here"], ["infer"], say=lambda text: None)


def test_bad_names():
    with pytest.raises(ValueError, match=r"shape: expected some of vad-step.*; got 'huge'"):
        run(["huge"])
    with pytest.raises(ValueError, match="mode: expected some of infer, train; got 'dream'"):
        run(["tiny"], ["dream"])


def test_ratio_and_share():
    flops = SHAPES["tiny"].flops(train=True)
    assert flops == 3 * 8 * 8 * 32 * 32 * (16 + 32)
    row = Row("tiny", "train", flops, peak=4.0 * flops, seconds={"glasscell": 0.5, "torch": 1.0, "Keras on JAX": 0.75})
    assert row.best_peer == ("Keras on JAX", 0.75)
    assert row.ratio == 1.5
    assert row.share == 0.5
    assert as_json([row])[0]["ratio_to_best_peer"] == 1.5
