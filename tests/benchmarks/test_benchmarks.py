"""`python -m benchmarks` times nothing that is wrong, drops nobody silently, and reports the ratios it measured."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import keras_peers, peers, run, tables, worker
from benchmarks.peers import BASE, CONTESTANTS, OURS, Contestant
from benchmarks.problem import check, expected, first_results, make_problem
from benchmarks.shapes import GRIDS, MODELS, SHAPES, TORCH, VARIANTS, Limits, family, plan, trains
from benchmarks.tables import frame, lines, summary, times
from glasscell import _native
from glasscell._cli.contestants import Shape, missing
from short_rounds import shorten, spoiled

LIMITS = {"threads": 2, "peak_flops": 2e11, "l2_bandwidth": 1e11}


@pytest.fixture
def short(monkeypatch):
    """Tiny shapes, one short turn, no other process."""
    monkeypatch.setitem(SHAPES, "here", Shape(3, 8, 5, 6))
    monkeypatch.setitem(SHAPES, "one step", Shape(3, 1, 5, 6))
    shorten(monkeypatch)
    compete(monkeypatch, *(one for one in CONTESTANTS if not one.backend))


def compete(monkeypatch, *contestants):
    monkeypatch.setattr(run, "CONTESTANTS", contestants)


def measure(*rows):
    """Seconds and reasons by contestant, of each row."""
    columns = ("seconds", "left_out")
    return [tuple({r["contestant"]: r[n] for r in row if r[n] is not None} for n in columns) for row in run.run(rows)]


def records(shape, mode, seconds, left_out=None):
    """Of a row. seconds: by contestant, beside half a second of ours."""
    row = {"shape": shape, **SHAPES[shape]._asdict(), "mode": mode, "floor_seconds": 0.25, **LIMITS}
    row |= {"engine": None, "left_out": None}
    rows = [{**row, "contestant": name, "seconds": s} for name, s in ({OURS: 0.5} | seconds).items()]
    return rows + [{**row, "contestant": "ghost", "seconds": None, "left_out": left_out}] * bool(left_out)


def test_plan():
    assert plan("quick", ["step"]) == [("vad-step", "step"), ("amp-step", "step")]
    assert {mode for _, mode in plan("quick", ["lengths"])} == {"lengths", "lengths-train"}
    assert plan("full") == [(shape, mode) for mode, shapes in GRIDS["full"].items() for shape in shapes]
    assert {shape for shape, _ in plan("full")} == set(SHAPES)
    assert {mode for _, mode in plan("full", ["torch"])} == set(TORCH)
    assert {mode for mode in TORCH if not trains(mode)} == {"torch padded", "torch packed", "torch lengths"}
    models = {mode for _, mode in plan("full", ["keras"])}
    assert models == {f"keras {b} {v}{call}" for b in ("JAX", "TensorFlow", "torch") for v in VARIANTS for call in ("", "-train")}  # fmt: skip  # noqa: E501
    assert all(SHAPES[shape].T > 1 for shape, _ in plan("full", ["keras"]))
    assert all(("policy", "torch reset") in plan(grid, ["torch"]) for grid in GRIDS)
    assert all(OURS in {one.name for one in CONTESTANTS if mode in one.modes} for _, mode in plan("full"))
    with pytest.raises(ValueError, match="grid: expected one of quick, full; got 'huge'"):
        plan("huge")
    with pytest.raises(ValueError, match=r"mode: expected one of infer, train, step, .*; got 'dream'"):
        plan("quick", ["infer", "dream"])


def test_roofline():
    limits, many, one = Limits(**LIMITS), Shape(64, 10, 32, 512), Shape(1, 10, 32, 512)
    assert many.flops(train=True) == 3 * 8 * 64 * 10 * 512 * (32 + 512)
    assert limits.floor(many, True) == many.flops(True) / 2e11  # bound by the products
    assert limits.floor(many, True, 0.5) == many.flops(True) / 4e11
    assert limits.floor(one, False) == 16 * 512 * (10 * 512 + 32) / 1e11  # bound by reading the weights
    assert limits.floor(one, True) == 2 * limits.floor(one, False)
    small = Shape(1, 10, 32, 64)  # 64 KiB of weights, which two L1 caches hold
    assert limits.floor(small, False) == small.flops(False) / 2e11
    assert Limits(1, 2e11, 1e11).floor(small, False) > small.flops(False) / 2e11


def test_the_machine_is_measured():
    limits = Limits(2)
    limits.measure()
    assert limits.peak_flops > 1e9
    assert limits.l2_bandwidth > 1e9
    limits.peak_flops = before = 1e18
    limits.measure()
    assert limits.peak_flops == before  # the best of all counts


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("mode", [mode for mode in GRIDS["full"] if family(mode) not in ("keras", "torch")])
def test_contestants_agree_and_are_timed(mode):
    (row,) = run.run([("one step" if mode == "step" else "here", mode)])
    present = [one.name for one in run.CONTESTANTS if mode in one.modes and not missing(*one.needs)]
    seconds = {r["contestant"]: r["seconds"] for r in row if r["seconds"] is not None}
    assert list(seconds) == present + [BASE.name] * (mode in run.BASES)
    assert all(s > 0 for s in seconds.values())
    assert all("not installed" in r["left_out"] for r in row if r["seconds"] is None)
    assert row[0]["floor_seconds"] > 0


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("mode", ["infer", "train", "lengths", "step"])
def test_a_wrong_result_gets_no_time(mode, monkeypatch):
    monkeypatch.setattr(peers, "wrong", spoiled(peers.glasscell_numpy), raising=False)
    compete(monkeypatch, Contestant("liar", (mode,), "peers:wrong"))
    with pytest.raises(RuntimeError, match="liar: result 0 is off by"):
        measure(("one step" if mode == "step" else "here", mode))


def test_what_stands_beyond_a_length_is_not_compared():
    problem = make_problem(Shape(4, 12, 3, 5), "lengths-train", 1)
    right = expected(problem)
    assert 5 <= problem.lengths.min() < 12
    assert not problem.dy[~problem.kept].any()
    check("peer", (np.where(problem.kept[:, :, None], right[0], 7.0), *right[1:]), right, problem)
    for k in range(3):
        with pytest.raises(RuntimeError, match=f"peer: result {k} is off by"):
            check("peer", tuple(y * 1.01 if n == k else y for n, y in enumerate(right)), right, problem)


def test_first_results_of_steps_follow_the_state():
    """Three calls, not one thrice: a contestant that forgot its state would be found out."""
    problem = make_problem(Shape(2, 1, 3, 4), "step", 1)
    (right,) = expected(problem)
    assert right.shape == (2, 3, 4)
    with pytest.raises(RuntimeError, match="result 0"):
        check("forgetful", first_results(lambda: (right[:, 0],), problem), (right,), problem)


@pytest.mark.usefixtures("short")
def test_who_cannot_take_part_is_listed(monkeypatch):
    def broken(problem):
        raise ImportError("libghost.so: no such file\nand more")

    monkeypatch.setattr(peers, "broken", broken, raising=False)
    monkeypatch.setattr(run, "SLOWEST", 0.0)
    ours = Contestant("glasscell", ("infer",), "peers:glasscell_numpy")
    strangers = [
        Contestant("ghost", ("infer",), "", ("torch", "no_such_package")),
        Contestant("broken", ("infer",), "peers:broken"),
        Contestant("snail", ("infer",), "peers:glasscell_numpy"),
        Contestant("Keras, ghost", ("infer",), "", ("no_such_backend",), "ghost"),
    ]
    compete(monkeypatch, *strangers)
    reasons = {
        "ghost": "no_such_package not installed",
        "broken": "ImportError: libghost.so: no such file",
        "snail": "a call takes 0 s",
        "Keras, ghost": "no_such_backend not installed",
    }
    assert measure(("here", "infer")) == [({}, reasons)]
    compete(monkeypatch, ours._replace(maker="peers:broken"))  # a mistake of ours is an error
    with pytest.raises(ImportError):
        measure(("here", "infer"))


class Process:
    """In a worker's place: its layers are right, and it ends once they are timed."""

    def __init__(self):
        self.asked = []

    def ask(self, function, *arguments):
        self.asked.append(function.__name__)
        if function is keras_peers.turn:
            raise worker.ProcessEnded("it ended")
        return expected(make_problem(*arguments[:3])), None, ""


@pytest.mark.usefixtures("short")
def test_who_ends_while_timed_is_listed(monkeypatch):
    compete(monkeypatch, *(one for one in CONTESTANTS if one.name in (OURS, "Keras, JAX")))
    row = run._row("here", "infer", Limits(**LIMITS), {"jax": Process()}, print)
    assert [(r["contestant"], r["left_out"]) for r in row] == [(OURS, None), ("Keras, JAX", "it ended")]
    assert row[0]["seconds"] > 0


def test_what_no_one_would_wait_for_is_not_even_tried(monkeypatch):
    monkeypatch.setitem(SHAPES, "basin", Shape(2, 3, 4, 5))
    process = Process()
    row = run._row("basin", "keras torch plain", Limits(**LIMITS), {"torch": process}, print)
    assert {r["contestant"]: r["left_out"] for r in row} == dict.fromkeys(
        (OURS, "Keras"), run.HOPELESS["basin", "torch"]
    )
    assert process.asked == []


def test_ratios():
    rows = frame(records("tiny", "infer", {"torch": 1.0, "OpenVINO": 0.75, BASE.name: 0.4}))
    (ratios,) = times(rows).to_dict("records")
    assert (ratios["torch"], ratios["best"], ratios[BASE.name]) == (2, 1.5, 0.8)
    (line,) = lines(rows).to_dict("records")
    shown = ["ms", "of roofline", "own base", "best peer"]
    assert [line[name] for name in shown] == ["500", "50%", "1.25", "1.50 OpenVINO"]
    (line,) = lines(frame(records("tiny", "infer", {"glasscell.keras, JAX": 0.1}))).to_dict("records")
    assert line["best peer"] == ""  # for that is ours


def test_tables_and_summary():
    rows = [
        *records("single", "infer", {OURS: 1.0, "torch": 0.8, "Keras, TensorFlow": 4.0}),
        *records("tiny", "infer", {"torch": 1.0, "OpenVINO": 0.75}, left_out="gone"),
        *records("text", "trace", {BASE.name: 0.5}),
        *records("odd7", "infer", {"torch": 0.55, "Keras, TensorFlow": 4.5}),
        *records("tiny", "torch lengths", {"glasscell, lengths=": 0.25, "torch": 1.0}),
        *records("tiny", "keras JAX plain-train", {"Keras": 1.5}),
        *records("single", "keras JAX plain-train", {"Keras": 0.4}),
    ]
    next(row for row in rows if row["mode"] in MODELS)["engine"] = "framework"
    said = list(tables.show(frame(rows), 80))
    assert [line.split()[0] for line in said[1:5]] == ["tiny", "odd7", "single", "text"]  # the worst last
    assert max(map(len, said)) <= 80
    assert "single infer 1e+03 25% 0.80 torch" in [" ".join(line.split()) for line in said]
    assert "2 threads, 200 GFLOP/s, 100 GB/s from L2, as measured in between." in said
    assert {"torch:", "keras:"} < set(said)
    told = summary(frame(rows))
    for line in (
        "infer: best 1.10 (0.80), torch 1.21 (0.80), OpenVINO 1.50 (1.50), Keras, TensorFlow 6.00 (4.00)",
        "torch lengths, lengths=: torch 4.00 (4.00)",
        "keras JAX plain-train: Keras 1.55 (0.80)",
        "below 0.97 of the best peer: 2 of 6 rows: single infer 0.80, single keras JAX plain-train 0.80",
        "glasscell: not native, but Keras's own loop (tiny keras JAX plain-train)",
        "left out: ghost: gone (tiny infer)",
    ):
        assert line in told
    wide = list(tables.show(frame(rows), 400))
    assert wide[0].split()[-3:] == ["OpenVINO", "Keras,", "TensorFlow"]
    assert summary(frame([]))[-1] == "below 0.97 of the best peer: 0 of 0 rows"


@pytest.mark.usefixtures("short")
def test_the_command_prints_and_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(command, "plan", lambda grid, modes: [("tiny", "infer"), ("tiny", "train")])
    files = [str(tmp_path / name) for name in ("bench.json", "bench.svg")]
    command.main(["--json", files[0], "--plot", files[1]])
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["1 of 2: tiny, infer", "2 of 2: tiny, train"]
    assert max(map(len, said)) <= 80
    written = json.loads(Path(files[0]).read_text())
    assert written["machine"]["threads"] == _native.num_threads()
    assert written["versions"]["torch"]
    assert [written["records"][0][n] for n in ("shape", "B", "T", "I", "H", "mode")] == ["tiny", *SHAPES["tiny"], "infer"]  # fmt: skip  # noqa: E501
    drawn = Path(files[1]).read_text()
    assert drawn.startswith("<?xml")
    assert all(text in drawn for text in ("tiny  8·32·16·32", "Inference", "Keras, TensorFlow"))
    command.main(["--from", files[0], "--plot", files[1]])
    assert capsys.readouterr().out.splitlines() == said[2:]
    assert Path(files[1]).read_text() == drawn
    assert sorted(os.listdir(tmp_path)) == ["bench.json", "bench.svg"]


def test_what_is_measured_outlives_a_run_that_is_cut_off(tmp_path, monkeypatch, capsys):
    def cut_off(plan, say):
        yield records("tiny", "torch padded", {"torch": 1.0})
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", cut_off)
    with pytest.raises(SystemExit) as stop:
        command.main(["--mode", "torch", "--json", str(tmp_path / "bench.json")])
    assert stop.value.code == 130
    written = json.loads((tmp_path / "bench.json").read_text())["records"]
    assert [r["contestant"] for r in written] == ["glasscell", "torch"]
    said = capsys.readouterr()
    assert re.fullmatch(r"1 of \d+: tiny, torch padded\n", said.out)
    assert said.err == "python -m benchmarks: interrupted\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--plot bench.bmp", 2, "argument --plot: expected a name in .svg, .png or .pdf, got bench.bmp"),
        ("--grid huge", 2, "argument --grid: invalid choice: 'huge'"),
        ("--mode dream", 2, "argument --mode: invalid choice: 'dream'"),
        ("--json missing/bench.json", 1, "No such file or directory: 'missing/bench.json'"),
        ("--plot missing/bench.svg", 1, "No such file or directory: 'missing/bench.svg'"),
        ("--from missing.json", 1, "No such file or directory: 'missing.json'"),
    ],
)
def test_bad_arguments_show_before_any_work(arguments, code, message, monkeypatch, capsys):
    monkeypatch.setattr(command, "run", lambda *arguments: pytest.fail("it began"))
    with pytest.raises(SystemExit) as stop:
        command.main(arguments.split())
    assert stop.value.code == code
    assert message in capsys.readouterr().err
