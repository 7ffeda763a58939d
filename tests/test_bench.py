"""The benchmark times nothing that is wrong, drops nobody silently, and reports the ratios it measured."""

import io
import json
import pickle
import sys
from importlib import util

import numpy as np
import pytest
from typer.testing import CliRunner

from glasscell import _native, bench, cli
from glasscell.bench import Row, measure, peers, plan, run, summary, table, timing, worker
from glasscell.bench.main import main
from glasscell.bench.problem import check, expected, first_results, make_problem
from glasscell.bench.shapes import GRIDS, SHAPES, Limits, Shape, family
from glasscell.bench.table import as_json, ordered

LIMITS = Limits(peak_flops=2e11, l2_bandwidth=1e11, threads=2)


@pytest.fixture
def short(monkeypatch):
    """Two tiny shapes, one short turn, no other process."""
    monkeypatch.setitem(SHAPES, "here", Shape(3, 8, 5, 6))
    monkeypatch.setitem(SHAPES, "one step", Shape(3, 1, 5, 6))
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(measure, "KERAS", {})


def row(shape="tiny", mode="infer", **changes):
    values = {"limits": LIMITS, "floor": 0.25, "seconds": {"glasscell": 0.5, "torch": 1.0, "OpenVINO": 0.75}}
    return Row(shape, mode, **{**values, **changes})


def test_plan():
    assert plan("quick", ["step"]) == [("vad-step", "step"), ("amp-step", "step")]
    assert {mode for _, mode in plan("quick", ["lengths"])} == {"lengths", "lengths-train"}
    assert plan("full") == [(shape, mode) for mode, shapes in GRIDS["full"].items() for shape in shapes]
    assert {shape for shape, _ in plan("full")} == set(SHAPES)
    with pytest.raises(ValueError, match="grid: expected one of quick, full; got 'huge'"):
        plan("huge")
    with pytest.raises(ValueError, match=r"mode: expected one of infer, train, step, .*; got 'dream'"):
        plan("quick", ["infer", "dream"])


def test_roofline():
    many, one = Shape(64, 10, 32, 512), Shape(1, 10, 32, 512)
    assert many.flops(train=True) == 3 * 8 * 64 * 10 * 512 * (32 + 512)
    assert many.floor(True, 1.0, LIMITS) == many.flops(True) / 2e11  # bound by the products
    assert many.floor(True, 0.5, LIMITS) == many.flops(True) / 4e11
    assert one.floor(False, 1.0, LIMITS) == 16 * 512 * (10 * 512 + 32) / 1e11  # bound by reading the weights
    assert one.floor(True, 1.0, LIMITS) == 2 * one.floor(False, 1.0, LIMITS)
    small = Shape(1, 10, 32, 64)  # 64 KiB of weights, which two L1 caches hold
    assert small.floor(False, 1.0, LIMITS) == small.flops(False) / 2e11
    assert small.floor(False, 1.0, LIMITS._replace(threads=1)) > small.flops(False) / 2e11


def test_the_machine_is_measured():
    assert _native.l2_bandwidth(1) > 1e9
    assert _native.l2_bandwidth(2) > 1e9


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("mode", [mode for mode in GRIDS["full"] if family(mode) not in ("step", "keras", "torch")])
def test_contestants_agree_and_are_timed(mode):
    (result,) = run([("here", mode)])
    rivals = {peer.name for peer in peers.PEERS if mode in peer.modes and all(map(util.find_spec, peer.needs))}
    assert set(result.seconds) == {"glasscell"} | rivals
    assert all(seconds > 0 for seconds in result.seconds.values())
    assert (result.baseline is not None) == (mode in measure.BASELINES)
    assert result.floor > 0


@pytest.mark.parametrize(
    ("seconds", "lasts", "expected"),
    [
        (10, [9, 4, 3, 6], 3),  # the first warms up
        (10, [20, 4, 3], 20),  # longer than the turn: no second one
        (0.03, [0.5, 0.2, 0.1], 0.2),  # too, but not so long that a second one would take too much
        (0, [0.5, 0.2, 0.1], 0.2),
        (10, [0.0005, 0.001, 0.003, 0.002, 0.001, 20, 20], 0.0015),  # two to a sample
    ],
)
def test_a_turn_gives_its_shortest_sample(monkeypatch, seconds, lasts, expected):
    clock, left = [0.0], iter(lasts)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def work():
        clock[0] += next(left)

    assert timing.turn(work, seconds) == pytest.approx(expected)


@pytest.mark.usefixtures("short")
def test_steps_agree_and_are_timed():
    (result,) = run([("one step", "step")])
    assert {"glasscell", "torch", "torch LSTMCell"} <= set(result.seconds)
    assert not [why for why in result.left_out.values() if "not installed" not in why]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("mode", ["infer", "train", "lengths", "step"])
def test_a_wrong_result_gets_no_time(mode, monkeypatch):
    def wrong(problem):
        right = peers.torch_lstm(problem)
        return lambda: tuple(np.where(np.arange(y.size).reshape(y.shape) == 3, y + 0.1, y) for y in right())

    monkeypatch.setattr(measure, "PEERS", [peers.Contestant("liar", wrong, (mode,))])
    with pytest.raises(RuntimeError, match="liar: result 0 is off by"):
        list(run([("one step" if mode == "step" else "here", mode)]))


def test_wrong_results_of_every_kind():
    problem = make_problem(Shape(4, 12, 3, 5), "lengths-train", 1)
    right = expected(problem)
    assert problem.lengths.min() >= 5
    assert problem.lengths.min() < 12
    beyond = np.where(problem.kept[:, :, None], right[0], 7.0)
    check("peer", (beyond, *right[1:]), right, problem)  # what stands beyond a length is not compared
    assert not problem.dy[~problem.kept].any()
    for k in range(3):
        wrong = [y * 1.01 if n == k else y for n, y in enumerate(right)]
        with pytest.raises(RuntimeError, match=f"peer: result {k} is off by"):
            check("peer", tuple(wrong), right, problem)
    with pytest.raises(RuntimeError, match="peer: result 1 is off by nan"):
        check("peer", (right[0], right[1] * np.nan, right[2]), right, problem)
    with pytest.raises(RuntimeError, match=r"peer: result 2 has shape \(20, 5\), not \(5, 20\)"):
        check("peer", (*right[:2], right[2].T), right, problem)


@pytest.mark.usefixtures("short")
def test_who_cannot_take_part_is_listed(monkeypatch):
    def broken(problem):
        raise ImportError("libghost.so: no such file\nand more")

    absent = peers.Contestant("ghost", broken, ("infer",), ("torch", "no_such_package"))
    slow = peers.Contestant("snail", peers.torch_lstm, ("infer",))
    monkeypatch.setattr(measure, "PEERS", [absent, peers.Contestant("broken", broken, ("infer",)), slow])
    monkeypatch.setattr(measure, "SLOWEST", 0.0)
    monkeypatch.setattr(measure, "KERAS", {"Keras on ghost": "no_such_backend"})
    (result,) = run([("here", "infer")])
    assert list(result.seconds) == ["glasscell"]
    assert result.left_out == {
        "ghost": "no_such_package not installed",
        "broken": "ImportError: libghost.so: no such file",
        "snail": "a call takes 0 s",
        "Keras on ghost": "no_such_backend not installed",
    }
    assert "left out: ghost: no_such_package not installed (here infer)" in summary([result])


@pytest.mark.usefixtures("short")
def test_a_mistake_of_ours_is_an_error(monkeypatch):
    monkeypatch.setattr(measure, "OURS", measure.OURS._replace(make=lambda problem: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        list(run([("here", "infer")]))


def test_ratios():
    result = row(baseline=0.4)
    assert result.best_peer == ("OpenVINO", 0.75)
    assert (result.ratio, result.own_ratio, result.share) == (1.5, 1.25, 0.5)
    alone = row(seconds={"glasscell": 0.5, "glasscell.keras on JAX": 0.1})
    assert (alone.best_peer, alone.ratio, alone.own_ratio) == (None, None, None)


def test_table_and_summary():
    alone = row("here", "trace", seconds={"glasscell": 0.5}, baseline=0.25)
    slow = row("single", seconds={"glasscell": 1.0, "torch": 0.8, "Keras on TensorFlow": 4.0})
    good, fair = row("tiny"), row("odd7", seconds={"glasscell": 0.5, "torch": 0.55, "Keras on TensorFlow": 4.5})
    rows = [slow, good, row("text", "trace", seconds={"glasscell": 0.5}, baseline=0.5), fair]
    assert [r.shape for r in ordered(rows)] == ["text", "tiny", "odd7", "single"]
    assert [r.shape for r in ordered([*rows, alone])] == ["text", "here", "tiny", "odd7", "single"]
    view = table(rows)
    assert view.row_count == 4
    assert list(view.columns[-1].cells) == ["", "1.50 OpenVINO", "1.10 torch", "0.80 torch"]
    assert len(view.columns) == len(table(rows, every_peer=False).columns) + 3
    lines = summary(rows)
    assert "infer, geometric mean: best peer 1.10, Keras on TensorFlow 6.00" in lines  # of .8 1.5 1.1, and of 4 9
    assert "below 0.97 of the best peer: 1 of 3 rows" in lines


def test_json():
    values = json.loads(json.dumps(as_json([row(left_out={"ghost": "gone"}), row(seconds={"glasscell": 1.0})])))
    assert values["machine"]["threads"] == _native.num_threads()
    assert values["versions"]["torch"]
    first, second = values["rows"]
    assert first["sizes"] == {"B": 8, "T": 32, "I": 16, "H": 32}
    assert (first["ratio_to_best_peer"], first["left_out"]) == (1.5, {"ghost": "gone"})
    assert (first["peak_flops"], first["l2_bandwidth"], first["threads"]) == LIMITS
    assert second["ratio_to_best_peer"] is None


@pytest.mark.usefixtures("short")
def test_the_command_prints_and_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    files = tmp_path / "bench.json", tmp_path / "bench.svg"
    rows, models = main([("tiny", "infer"), ("tiny", "train")], *files)
    assert models == []
    said = capsys.readouterr().out
    assert "below 0.97 of the best peer: " in said
    assert max(map(len, said.splitlines()[:8])) <= 80
    assert [r["mode"] for r in json.loads(files[0].read_text())["rows"]] == [r.mode for r in rows] == ["infer", "train"]
    drawn = files[1].read_text()
    assert drawn.startswith("<?xml")
    for text in ("tiny  8·32·16·32", "Inference", "Keras on TensorFlow"):
        assert text in drawn
    for unwritable in ((tmp_path / "missing" / "bench.json", None), (None, tmp_path / "missing" / "bench.svg")):
        with pytest.raises(OSError, match="missing"):
            main([("no such shape", "infer")], *unwritable)  # before any work


def test_the_command_line(monkeypatch):
    calls = []
    monkeypatch.setattr(bench, "main", lambda *arguments: calls.append(arguments))
    given = ["bench", "--grid", "full", "--mode", "step", "--mode", "trace", "--json", "a.json"]
    result = CliRunner().invoke(cli.build_app(), given)
    assert result.exit_code == 0
    assert [(rows, str(json_file), plot_file) for rows, json_file, plot_file in calls] == [
        (plan("full", ["step", "trace"]), "a.json", None)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--plot bench.bmp", "glasscell bench: --plot: expected a name in .svg, .png or .pdf, got bench.bmp"),
        ("--grid huge", "glasscell bench: --grid: expected one of quick, full; got 'huge'"),
        (
            "--mode dream",
            "glasscell bench: --mode: expected one of infer, train, step, lengths, recurrent-dropout, trace",
        ),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", *arguments.split()])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RuntimeError("liar: off"), 1, "liar: off"),
        (OSError("disk full"), 1, "disk full"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_codes(error, code, message, monkeypatch, capsys):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(bench, "main", fail)
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench"])
    assert stop.value.code == code
    assert capsys.readouterr().err == f"glasscell bench: {message}\n"


def test_worker_answers(monkeypatch):
    """The protocol: an error is an answer, and does not end the process."""
    monkeypatch.setattr(worker, "_make", lambda text: ((lambda: text / 2), text, None))
    requests = io.BytesIO(
        b"".join(pickle.dumps(r) for r in [("turn", 0.0), ("ready",), ("make", 3), ("turn", 0.0), ("make",)])
    )
    answers = io.BytesIO()
    worker.serve(requests, answers)
    answers.seek(0)
    first, ready, second, third, fourth = (pickle.load(answers) for _ in range(5))
    assert first == (False, "AssertionError: no message")
    assert ready == (True, None)
    assert second == (True, (3, None))
    assert third[0] is True
    assert third[1] > 0
    assert fourth[0] is False
    assert fourth[1].startswith("TypeError: ")


def test_a_worker_that_dies_says_why():
    script = "import sys; sys.stdin.buffer.read(1); sys.exit('no more memory')"
    dying = worker.Worker("jax", 1, [sys.executable, "-c", script])
    try:
        for _ in range(2):
            with pytest.raises(worker.PeerError, match="its process ended with code 1: no more memory"):
                dying.ask("turn", 0.0)
    finally:
        dying.close()


def test_first_results_of_steps_follow_the_state():
    """Three calls, not one thrice: a contestant that forgot its state would be found out."""
    problem = make_problem(Shape(2, 1, 3, 4), "step", 1)
    (right,) = expected(problem)
    assert right.shape == (2, 3, 4)
    forgetful = first_results(lambda: (right[:, 0],), problem)
    with pytest.raises(RuntimeError, match="result 0"):
        check("forgetful", forgetful, (right,), problem)
