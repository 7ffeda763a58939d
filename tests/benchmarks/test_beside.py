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


def test_the_table_has_two_numbers_for_each_situation(tmp_path, monkeypatch):
    seconds = {"all threads": 2.0, "one thread": 4.0}
    found = [
        {"shape": "tiny", "mode": "infer", "beside": "quiet", **seconds, "ONNX Runtime": 3.0},
        {"shape": "tiny", "mode": "infer", "beside": "two busy processes", **seconds, "ONNX Runtime": 1.0},
        {"shape": "tiny", "mode": "train", "beside": "quiet", **seconds},
        {"shape": "tiny", "mode": "train", "beside": "two busy processes", "all threads": 1.0, "one thread": 1.0},
    ]
    assert beside.table(found) == [
        "| shape | B,T,I,H | mode | quiet | two busy processes |",
        "|---|---|---|---:|---:|",
        "| tiny | 8,32,16,32 | infer | 0.50, 1.50 | 0.50, 0.50 |",
        "| tiny | 8,32,16,32 | train | 0.50 | 1.00 |",
    ]
    page = tmp_path / "page.md"
    page.write_text("before\n| shape | B,T,I,H | mode | quiet |\n|---|\n| old | row |\n\nafter\n", encoding="utf-8")
    monkeypatch.setattr(beside, "PAGE", page)
    monkeypatch.setattr(beside, "GRIDS", {"quick": {"infer": ["tiny"], "train": []}})
    monkeypatch.setattr(beside, "measure", lambda *_: found[0])
    beside.main(["--beside", "quiet", "--docs"])
    assert page.read_text(encoding="utf-8").splitlines()[1:5] == [*beside.table(found[:1]), "", "after"][:4]
