"""The benchmark's PyTorch modules: each contestant is right, forward and backward, and the means are those measured."""

import importlib
import json

import numpy as np
import pytest
import torch

from glasscell.bench import measure, plan, run, torch_peers
from glasscell.bench.main import main
from glasscell.bench.measure import Row
from glasscell.bench.peers import Contestant
from glasscell.bench.problem import check, expected, first_results, make_problem
from glasscell.bench.shapes import GRIDS, SHAPES, TORCH_MODES, TRAINING, Limits, Shape, family
from glasscell.bench.table import as_json, table
from glasscell.bench.torch_table import torch_summary

command = importlib.import_module("glasscell.bench.main")  # not the function of that name
SHAPE = Shape(3, 40, 5, 6)


def make(mode):
    return torch_peers.with_drawn_masks(make_problem(SHAPE, mode, 1))


def row(shape, mode, **seconds):
    return Row(shape, f"torch {mode}", Limits(2e11, 1e11, 2), 0.25, {"glasscell": 0.5, **seconds})


@pytest.fixture
def short(monkeypatch):
    """A tiny shape, one short turn, nothing compiled."""
    monkeypatch.setitem(SHAPES, "here", SHAPE)
    monkeypatch.setattr(measure, "ROUNDS", 1)
    monkeypatch.setattr(measure, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)  # it would import the compiler


def test_plan():
    assert {mode for _, mode in plan("full", ["torch"])} == set(TORCH_MODES)
    assert {mode for mode in TORCH_MODES if mode not in TRAINING} == {"torch padded", "torch packed", "torch lengths"}
    assert {family(mode) for mode in TORCH_MODES} == {"torch"}
    for grid in GRIDS:
        assert ("policy", "torch reset") in plan(grid, ["torch"])


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("mode", TORCH_MODES)
def test_contestants_agree_and_are_timed(mode):
    (result,) = run([("here", mode)])
    everyone = [*torch_peers.OURS, *torch_peers.PEERS]
    assert list(result.seconds) == [one.name for one in everyone if mode in one.modes]
    assert all(seconds > 0 for seconds in result.seconds.values())
    assert not result.best_peer[0].startswith("glasscell")
    assert result.left_out == {}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("mode", "k"), [("padded", 0), ("packed", 0), ("lengths", 0), *(("reset", k) for k in range(6))]
)
def test_a_wrong_result_gets_no_time(mode, k, monkeypatch):
    mode = f"torch {mode}"

    def wrong(problem):
        right = torch_peers.ours(problem)
        return lambda: tuple(y * 1.01 if n == k else y for n, y in enumerate(right()))

    monkeypatch.setattr(torch_peers, "PEERS", [Contestant("liar", wrong, (mode,))])
    with pytest.raises(RuntimeError, match=f"liar: result {k} is off by"):
        list(run([("here", mode)]))


@pytest.mark.parametrize("mode", [mode for mode in TORCH_MODES if mode in TRAINING])
def test_right_results(mode):
    """y, and the gradients of x, of both kernels and of both biases: by the reference, and by ours the same."""
    problem = make(mode)
    B, T, inputs, H = SHAPE
    steps = (problem.lengths.sum(),) if "packed" in mode else (B, T)
    right = expected(problem)
    assert [y.shape for y in right] == [(*steps, H), (*steps, inputs), (inputs, 4 * H), (H, 4 * H), (4 * H,), (4 * H,)]
    assert all(np.abs(y).max() > 1e-2 for y in right)
    check("ours", first_results(torch_peers.ours(problem), problem), right, problem)


def test_lengths():
    problem = make("torch lengths-train")
    assert 5 <= problem.lengths.min() < problem.lengths.max() <= SHAPE.T
    dx = torch_peers.lstm(problem)()[1]
    assert np.array_equal(dx.any(axis=2), problem.kept)


def test_packed_as_torch_packs():
    problem = make("torch packed")
    x, lengths = torch.from_numpy(problem.x), torch.from_numpy(problem.lengths)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    assert np.array_equal(problem.given(problem.x), packed.data)


@pytest.mark.parametrize(("mode", "what"), [("torch reset", "reset"), ("torch recurrent-dropout", "recurrent_mask")])
def test_the_checks_see_resets_and_masks(mode, what):
    problem = make(mode)
    right, without = expected(problem), expected(problem._replace(**{what: None}))
    for k in range(6):
        with pytest.raises(RuntimeError, match=f"without: result {k} is off by"):
            check("without", tuple(without[n] if n == k else y for n, y in enumerate(right)), right, problem)


def test_masks_are_drawn_anew_in_every_call():
    problem = make("torch recurrent-dropout")
    assert 0 < np.count_nonzero(problem.recurrent_mask == 0) < problem.recurrent_mask.size
    for one in [*torch_peers.OURS, *torch_peers.PEERS]:
        if problem.mode in one.modes and one.name != "compiled loop":
            work = one.make(problem)
            first, second = (work()[0].copy() for _ in range(2))
            assert np.abs(second - first).max() > 1e-2, one.name


@pytest.mark.usefixtures("short")
def test_who_cannot_take_part_is_listed(monkeypatch):
    def refuse(function, **options):
        assert options["fullgraph"]  # else torch would run the module as it is, and call it compiled
        raise NotImplementedError("no LSTM\nand more")

    monkeypatch.setattr(torch, "compile", refuse)
    padded, dropout = run([("here", "torch padded-train"), ("here", "torch recurrent-dropout")])
    assert padded.left_out == {"torch.compile": "NotImplementedError: no LSTM"}
    assert dropout.left_out == {"compiled loop": "NotImplementedError: no LSTM"}
    assert "left out: torch.compile: NotImplementedError: no LSTM (here torch padded-train)" in torch_summary([padded])


@pytest.mark.usefixtures("short")
def test_a_mistake_of_ours_is_an_error(monkeypatch):
    monkeypatch.setattr(torch_peers, "_ours", lambda problem: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(run([("here", "torch packed")]))


def test_table_and_summary():
    rows = [
        row("tiny", "padded-train", **{"torch": 1.0, "LSTMCell loop": 2.0}),
        row("text", "padded-train", **{"torch": 0.4, "LSTMCell loop": 8.0}),
        row("tiny", "lengths", **{"glasscell, lengths=": 0.25, "torch": 1.0}),
    ]
    view = table(rows)
    assert list(view.columns[-1].cells) == ["2.00 torch", "2.00 torch", "0.80 torch"]
    assert list(view.columns[2].cells) == ["torch padded-train", "torch lengths", "torch padded-train"]
    lines = torch_summary(rows)
    assert "padded-train: best peer 1.26 (0.80), torch 1.26 (0.80), LSTMCell loop 8.00 (4.00)" in lines
    assert "lengths: best peer 2.00 (2.00), torch 2.00 (2.00)" in lines
    assert "lengths, lengths=: best peer 4.00 (4.00), torch 4.00 (4.00)" in lines
    assert "below 0.97 of the best peer: 1 of 3 rows" in lines
    (first, *_) = json.loads(json.dumps(as_json(rows)))["rows"]
    assert (first["mode"], first["ratio_to_best_peer"]) == ("torch padded-train", 2.0)


@pytest.mark.usefixtures("short")
def test_the_command_prints_and_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(command, "run", lambda plan, say: [row(shape, mode[6:], torch=1.0) for shape, mode in plan])
    chosen = [("tiny", "torch padded"), ("tiny", "torch reset")]
    rows, models = main(chosen, tmp_path / "bench.json")
    assert ([(r.shape, r.mode) for r in rows], models) == (chosen, [])
    assert "padded: best peer 2.00 (2.00), torch 2.00 (2.00)" in capsys.readouterr().out
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [values["mode"] for values in written["rows"]] == ["torch padded", "torch reset"]
    monkeypatch.setattr(command, "missing", lambda package: f"{package} not installed")
    assert main(chosen) == ([], [])
    said = capsys.readouterr().out
    assert "left out: torch not installed (tiny torch padded, tiny torch reset)" in said


@pytest.mark.usefixtures("short")
def test_what_is_measured_outlives_a_run_that_is_cut_off(tmp_path, monkeypatch, capsys):
    def cut_off(plan, say):
        yield row("tiny", "padded", torch=1.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run", cut_off)
    with pytest.raises(KeyboardInterrupt):
        main([("tiny", "torch padded"), ("tiny", "torch reset")], tmp_path / "bench.json")
    (written,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert written["mode"] == "torch padded"
    assert "1 of 2: tiny, torch padded" in capsys.readouterr().out
