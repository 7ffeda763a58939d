"""`python -m benchmarks.beside`: medians beside other programs, of results that were checked."""

import json

import pytest

import glasscell as gc
from benchmarks import beside
from benchmarks.shapes import GRIDS, SHAPES
from glasscell._cli.contestants import Shape, missing
from short_rounds import spoiled


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """One tiny shape, and few calls."""
    monkeypatch.setitem(SHAPES, "here", Shape(3, 8, 5, 6))
    monkeypatch.setitem(GRIDS, "quick", {"infer": ["here"], "train": ["here"]})
    monkeypatch.setattr(beside, "FEWEST", 1)


def test_every_row_in_every_situation(tmp_path, capsys, threads):
    threads(2)
    beside.main(["--seconds", "0", "--json", str(tmp_path / "rows.json")])
    records = json.loads((tmp_path / "rows.json").read_text())["records"]
    assert [(r["beside"], r["mode"]) for r in records] == [
        (b, m) for b in beside.SITUATIONS for m in ("infer", "train")
    ]
    peers = set() if missing("onnx", "onnxruntime") else {"ONNX Runtime"}
    for record in records:
        timed = {"all threads", "one thread"} | (peers if record["mode"] == "infer" else set())
        assert timed == record.keys() - {"shape", "mode", "beside"}
        assert all(record[name] > 0 for name in timed)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 + len(records)
    assert said[-1].endswith(f"of {len(records)} rows take more than 1.25 times what one thread takes")
    assert gc.num_threads() == 2


def test_a_row_that_is_behind_is_counted(monkeypatch, capsys):
    seconds = {"all threads": 1.26, "one thread": 1.0}
    monkeypatch.setattr(
        beside, "measure", lambda shape, mode, beside, _: {"shape": shape, "mode": mode, "beside": beside, **seconds}
    )
    beside.main(["--beside", "quiet"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 of 2 rows")


def test_a_wrong_result_is_not_timed(monkeypatch):
    right = beside.numpy_lstm
    wrong = spoiled(right)
    monkeypatch.setattr(beside, "numpy_lstm", lambda problem, *engine: (right if engine else wrong)(problem, *engine))
    with pytest.raises(RuntimeError, match="no time for it"):
        beside.main(["--beside", "quiet", "--seconds", "0"])
