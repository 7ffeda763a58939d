"""`glasscell bench` times nothing that is wrong, drops nobody silently, and reads well wherever it is printed."""

import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from commands import stopped
from glasscell import _native
from glasscell._cells.layouts import LSTMWeights, to_onnx, to_torch
from glasscell._cli import bench
from glasscell._cli import main as cli
from glasscell._cli.bench import check, main, timed, turn
from glasscell._cli.contestants import CONTESTANTS, Shape, draw_problem, missing, numpy_lstm
from short_rounds import shorten, spoiled

SHAPE = Shape(3, 8, 5, 6)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """One short round."""
    shorten(monkeypatch)


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,4,5", "1,2,3,0", "1,2,3,-4", "1,2,3,x", "1.5,2,3,4", ""])
def test_bad_shapes_end_with_one_line(text, capsys):
    expected = f"glasscell bench: --shape: expected B,T,I,H, four positive integers, got {text!r}\n"
    assert stopped(capsys, "bench", "--shape", "1,2,3,4", "--shape", text) == (2, "", expected)


@pytest.mark.parametrize("shape", ["1,1,1,999999999", f"{10**30},1,1,1"])
def test_a_shape_beyond_this_machine_ends_with_one_line(shape, capsys):
    """Before any of it is allocated: a system may grant the memory, and kill the process that uses it."""
    code, _, said = stopped(capsys, "bench", "--shape", shape)
    assert code == 1
    line = rf"glasscell bench: {shape} needs \S+ GiB for its arrays, and this machine has \S+ GiB\n"
    assert re.fullmatch(line, said.replace(f"glasscell bench: {shape} infer\n", ""))


@pytest.mark.parametrize("mode", ["infer", "train"])
def test_every_contestant_is_right_and_has_a_line(mode, capsys):
    main(["3,8,5,6"], [mode])
    said = capsys.readouterr()
    rows = [line for line in said.out.splitlines() if line.startswith("3,8,5,6")]
    present = [name for name, (_, needs) in CONTESTANTS.items() if not missing(*needs)]
    assert "keras.layers.LSTM" in present
    assert [row[16:36].strip() for row in rows] == [n for n in present if (n, mode) != ("ONNX Runtime", "train")]
    assert rows[0].split()[-2] == "1.00"
    assert "Keras" in said.out
    assert re.search(
        rf"^threads \d+, {_native.target()}; glasscell at \d+% of the measured \d+ GFLOP/s$", said.out, re.M
    )
    assert max(map(len, said.out.splitlines())) <= 80
    assert said.out.isascii()
    assert "\x1b" not in said.out + said.err
    assert said.err == f"glasscell bench: 3,8,5,6 {mode}\n"


@pytest.mark.parametrize(("load", "said"), [(0.9, False), (3.25, True)])
def test_a_busy_machine_is_told(load, said, monkeypatch, capsys):
    monkeypatch.setattr(bench.os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(bench, "CONTESTANTS", {"glasscell": CONTESTANTS["glasscell"]})
    main(["3,8,5,6"], ["infer"])
    line = f"others were at work here (load average {load:.1f}): close them, and time again"
    assert (line in capsys.readouterr().out.splitlines()) == said


def test_on_a_terminal_the_notes_make_way(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(bench, "CONTESTANTS", {"glasscell": CONTESTANTS["glasscell"]})
    main(["3,8,5,6"], ["infer"])
    *notes, last = capsys.readouterr().err.split("\r")
    assert "3,8,5,6 infer glasscell" in [note.rstrip() for note in notes]
    assert {len(note) for note in notes} == {60}
    assert notes[-1].isspace()
    assert last == ""


def test_it_needs_numpy_alone():
    script = (
        "import sys\nfrom glasscell._cli import bench\nbench.missing = lambda *packages: list(packages)\n"
        "bench.ROUNDS = 1\nbench.main(['1,2,3,4'])\n"
        "assert not {'keras', 'torch', 'jax', 'onnx', 'typer', 'rich', 'pandas'} & set(sys.modules)"
    )
    said = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert "1,2,3,4  train  glasscell " in said
    assert "left out: torch.nn.LSTM: torch not installed" in said
    assert "left out: ONNX Runtime: onnx and onnxruntime not installed" in said


@pytest.mark.parametrize("mode", ["infer", "train"])
def test_a_wrong_result_gets_no_time(mode, monkeypatch, capsys):
    monkeypatch.setitem(CONTESTANTS, "torch.nn.LSTM", (spoiled(numpy_lstm), ()))
    code, printed, said = stopped(capsys, "bench", "--shape", "3,8,5,6", f"--{mode}")
    assert code == 1
    assert "glasscell bench: torch.nn.LSTM: result 0 is off by" in said
    assert "\n3,8,5,6" not in printed


def test_wrong_results_of_every_kind():
    right = numpy_lstm(draw_problem(SHAPE, train=True), "reference")()
    check("peer", right, right)
    for k in range(3):
        with pytest.raises(RuntimeError, match=f"peer: result {k} is off by"):
            check("peer", [y * 1.01 if n == k else y for n, y in enumerate(right)], right)
    with pytest.raises(RuntimeError, match="peer: result 1 is off by nan"):
        check("peer", (right[0], right[1] * np.nan, right[2]), right)
    with pytest.raises(RuntimeError, match=r"peer: result 0 has shape \(24, 5\), not \(5, 24\)"):
        check("peer", (right[0].T, *right[1:]), right)
    with pytest.raises(ValueError, match="longer"):
        check("peer", right[:2], right)


def test_who_cannot_take_part_is_listed(monkeypatch, capsys):
    def broken(problem):
        raise ImportError("libghost.so: no such file\nand more")

    monkeypatch.setattr(
        bench, "CONTESTANTS", {"glasscell": (numpy_lstm, ()), "ghost": (broken, ("no_such",)), "broken": (broken, ())}
    )
    main(["3,8,5,6"], ["infer"])
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "left out: ghost: no_such not installed",
        "left out: broken: ImportError: libghost.so: no such file",
    ]
    monkeypatch.setitem(bench.CONTESTANTS, "glasscell", (broken, ()))
    with pytest.raises(ImportError):  # a mistake of ours is an error
        main(["3,8,5,6"], ["infer"])


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
    monkeypatch.setattr(bench.time, "perf_counter", lambda: clock[0])

    def work():
        clock[0] += next(left)

    assert turn(work, seconds) == pytest.approx(expected)


def test_all_are_timed_in_turn(monkeypatch):
    """The least of the rounds; the one who begins changes; who is distant, or slow, stops after the fewest."""
    monkeypatch.setattr(bench, "ROUNDS", 4)
    said = []

    def entry(name, lasts):
        left = iter(lasts)
        return lambda seconds: said.append(name) or next(left)

    lasts = {"glasscell": [9, 8, 7, 8], "fast": [3, 2, 2, 1], "slow": [7, 5]}
    turns = {name: entry(name, values) for name, values in lasts.items()}
    assert timed(turns, 9.0, 2, lambda: said.append("between")) == {"glasscell": 7, "fast": 1, "slow": 5}
    assert " ".join(said).split("between")[1:] == [
        " glasscell fast slow ", " fast slow glasscell ", " glasscell fast ", " fast glasscell",
    ]  # fmt: skip
    assert timed({"fast": entry("fast", [3, 2])}, 0.0, 2) == {"fast": 2}
    assert timed({}, 1.0, 1) == {}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (bench.SHAPES, ("infer", "train"))),
        (["--train"], (bench.SHAPES, ("train",))),
        (["--infer", "--shape", "1,2,3,4", "--shape", "5,6,7,8"], (["1,2,3,4", "5,6,7,8"], ("infer",))),
    ],
)
def test_the_command_line(arguments, expected, monkeypatch):
    calls = []
    monkeypatch.setattr(bench, "main", lambda *arguments: calls.append(arguments))
    assert CliRunner().invoke(cli.build_app(), ["bench", *arguments]).exit_code == 0
    assert calls == [expected]


def test_weights_go_to_torch_and_back():
    weights = draw_problem(SHAPE, train=False).weights
    for given in (weights, weights._replace(bias=None)):
        for got, want in zip(LSTMWeights.from_torch(**to_torch(given)), given, strict=True):
            np.testing.assert_array_equal(got, want)
    assert list(to_onnx(weights._replace(bias=None))) == ["W", "R"]
