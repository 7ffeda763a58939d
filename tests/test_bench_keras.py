"""The benchmark's Keras models: both are checked against one another, none is dropped or falls back silently."""

import contextlib
import io
import json
import pickle

import numpy as np
import pytest

from glasscell.bench import keras_rows, measure, plan, worker
from glasscell.bench.keras_models import CALLS, First
from glasscell.bench.keras_rows import KerasRow
from glasscell.bench.keras_table import keras_as_json, keras_summary, keras_table, ordered
from glasscell.bench.main import main
from glasscell.bench.problem import check, check_close, expected, make_problem
from glasscell.bench.shapes import SHAPES, VARIANTS, Shape

SECONDS = {
    ("glasscell", "train_on_batch"): 0.5,
    ("Keras", "train_on_batch"): 1.5,
    ("glasscell", "predict_on_batch"): 0.25,
    ("Keras", "predict_on_batch"): 0.2,
}


class Stub:
    """In a worker's place. `first`: seconds of first calls that differ from SECONDS; `off`: of our prediction."""

    def __init__(self, engine="native", first=(), seconds=(), off=0.0, error=None):
        self.engine, self.first, self.seconds = engine, {**SECONDS, **dict(first)}, {**SECONDS, **dict(seconds)}
        self.off, self.error, self.turns = off, error, []

    def ask(self, command, *arguments):
        if command == "turn":
            self.turns.append(arguments[1:])
            return self.seconds[arguments[1:]]
        if self.error is not None:
            raise worker.PeerError(self.error)
        y = np.linspace(-1, 1, 6)
        return {
            name: First(
                (y + off, np.float32(0.5)),
                dict.fromkeys(CALLS, engine),
                {call: self.first[name, call] for call in CALLS},
            )
            for name, engine, off in [("glasscell", self.engine, self.off), ("Keras", "", 0.0)]
        }


@pytest.fixture
def stubs(monkeypatch):
    """Workers by backend, instead of processes; one round a call."""
    workers = {"JAX": Stub(), "TensorFlow": Stub(), "torch": Stub()}
    monkeypatch.setattr(keras_rows, "started", lambda backends, threads: contextlib.nullcontext(workers))
    monkeypatch.setattr(measure, "ROUNDS", 1)
    return workers


def test_plan():
    assert plan("quick", ["keras"])[:3] == [(shape, "keras plain") for shape in ("tiny", "classic64", "wide-batch")]
    assert {mode for _, mode in plan("full", ["keras"])} == {f"keras {variant}" for variant in VARIANTS}
    assert all(SHAPES[shape].T > 1 for shape, _ in plan("full", ["keras"]))


def test_rows(stubs):
    stubs["torch"] = Stub("framework")
    train, predict = keras_rows.run([("tiny", "keras masked")])
    assert [(row.shape, row.variant, row.call) for row in (train, predict)] == [
        ("tiny", "masked", "train_on_batch"),
        ("tiny", "masked", "predict_on_batch"),
    ]
    assert train.seconds["JAX"] == {"glasscell": 0.5, "Keras": 1.5}
    assert train.ratios == dict.fromkeys(stubs, 3.0)
    assert predict.ratios == dict.fromkeys(stubs, 0.8)
    assert train.engines == predict.engines == {"JAX": "native", "TensorFlow": "native", "torch": "framework"}
    assert train.left_out == predict.left_out == {}


def test_a_wrong_result_gets_no_time(stubs):
    stubs["TensorFlow"] = Stub(off=2e-3)
    with pytest.raises(RuntimeError, match="glasscell on TensorFlow, plain: result 0 is off by 2"):
        list(keras_rows.run([("tiny", "keras plain")]))
    assert not stubs["TensorFlow"].turns


def test_who_cannot_take_part_is_listed(stubs, monkeypatch):
    monkeypatch.setitem(keras_rows.BACKENDS, "torch", "no_such_backend")
    del stubs["torch"]
    stubs["JAX"] = Stub(error="ValueError: no")
    train, _ = keras_rows.run([("tiny", "keras plain")])
    assert train.left_out == {"JAX": "ValueError: no", "torch": "no_such_backend not installed"}
    assert list(train.seconds) == ["TensorFlow"]


def test_who_is_slow_is_listed(stubs):
    """A first call may have compiled, so the second tells. What no one would wait for is not even tried."""
    slow = {("Keras", "train_on_batch"): 11.0}
    stubs.update(JAX=Stub(first=slow), TensorFlow=Stub(first=slow, seconds=slow))
    train, predict = keras_rows.run([("basin", "keras plain")])
    hopeless = keras_rows.HOPELESS["basin", "torch"]
    assert train.left_out == {"TensorFlow": "Keras: a call takes 11 s", "torch": hopeless}
    assert predict.left_out == {"torch": hopeless}
    assert list(train.seconds) == ["JAX"]
    assert list(predict.seconds) == ["JAX", "TensorFlow"]
    assert stubs["torch"].turns == []


def test_slow_calls_are_timed_twice(stubs, monkeypatch):
    monkeypatch.setattr(measure, "ROUNDS", 7)
    monkeypatch.setattr(keras_rows, "ENOUGH", 0.0)
    list(keras_rows.run([("tiny", "keras plain")]))
    assert stubs["JAX"].turns.count(("Keras", "train_on_batch")) == 2
    assert stubs["JAX"].turns.count(("glasscell", "train_on_batch")) == 2


def row(shape="tiny", call="train_on_batch", engine="native", **ratios):
    seconds = {backend: {"glasscell": 0.5, "Keras": 0.5 * ratio} for backend, ratio in ratios.items()}
    return KerasRow(shape, "plain", call, seconds, dict.fromkeys(seconds, engine), {})


def test_table_and_summary():
    rows = [row("text", JAX=2.0, torch=0.9), row(JAX=8.0, torch=1.6), row("single", engine="framework", JAX=1.0)]
    rows[2].left_out["torch"] = "Keras: a call takes 11 s"
    assert [r.shape for r in ordered([*rows, KerasRow("policy", "plain", "train_on_batch")])] == [
        "policy", "tiny", "single", "text",
    ]  # fmt: skip
    view = keras_table(rows)
    cells = {column.header: list(column.cells) for column in view.columns}
    assert cells["Keras on\nJAX"] == ["8.00", "1.00*", "2.00"]
    assert cells["JAX\nms"] == ["500", "500", "500"]
    assert cells["Keras on\ntorch"] == ["1.60", "", "0.90"]
    assert len(keras_table(rows, with_times=False).columns) == len(view.columns) - 4
    lines = keras_summary([*rows, row(call="predict_on_batch", torch=3.0)])
    assert (
        "train_on_batch on torch: geometric mean 1.20, worst 0.90, below 0.97 of Keras: 1 of 2 rows, not native: 0"
        in lines
    )
    assert any(line.startswith("train_on_batch on JAX: geometric mean 2.52") and "native: 1" in line for line in lines)
    assert lines[-1] == "left out: torch: Keras: a call takes 11 s (single plain train_on_batch)"


def test_json():
    (values,) = json.loads(json.dumps(keras_as_json([row(JAX=2.0)])))
    assert values["sizes"] == SHAPES["tiny"]._asdict()
    assert (values["variant"], values["call"], values["ratios"]) == ("plain", "train_on_batch", {"JAX": 2.0})
    assert values["seconds"] == {"JAX": {"glasscell": 0.5, "Keras": 1.0}}
    assert values["engines"] == {"JAX": "native"}


@pytest.mark.usefixtures("stubs")
def test_the_command_prints_and_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    rows, models = main([("tiny", "keras plain"), ("wide-batch", "keras recurrent-dropout")], tmp_path / "bench.json")
    assert rows == []
    assert len(models) == 4
    said = capsys.readouterr().out
    assert "predict_on_batch on torch: geometric mean 0.80" in said
    assert max(map(len, said.splitlines()[:8])) <= 80
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["rows"] == []
    assert [values["shape"] for values in written["keras"]] == ["tiny", "tiny", "wide-batch", "wide-batch"]


def test_worker_answers(monkeypatch):
    """The protocol: a turn names its model's call; the models of the request before are gone."""
    works = {("Keras", "train_on_batch"): lambda: None}
    monkeypatch.setattr(worker, "_models", lambda text: (works if text == "a" else {}, text))
    turn = ("turn", 0.0, "Keras", "train_on_batch")
    requests = io.BytesIO(b"".join(pickle.dumps(r) for r in [("models", "a"), turn, ("models", "b"), turn]))
    answers = io.BytesIO()
    worker.serve(requests, answers)
    answers.seek(0)
    first, second, third, fourth = (pickle.load(answers) for _ in range(4))
    assert (first, third) == ((True, "a"), (True, "b"))
    assert second[0] is True
    assert second[1] > 0
    assert fourth[0] is False


@pytest.fixture(scope="module", params=["jax", "tensorflow", "torch"])
def process(request):
    """A worker and its backend."""
    with worker.started({request.param: request.param}, 1) as workers:
        yield workers[request.param], request.param
    assert workers[request.param].process.returncode is not None


def test_peers_in_their_own_process(process):
    started, backend = process
    shape = Shape(3, 8, 5, 6)
    ours = [("lengths-train", True)] if backend == "jax" else []
    for mode, is_ours in [("lengths", False), ("recurrent-dropout", False), *ours]:
        problem = make_problem(shape, mode, 1)
        results, mask = started.ask("make", shape, mode, 1, is_ours)
        if mode == "recurrent-dropout":
            assert mask.shape == (4, 3, 6)
            assert 0 < np.count_nonzero(mask) < mask.size
            problem = problem._replace(recurrent_mask=mask)
        else:
            assert mask is None
        check(backend, results, expected(problem), problem)
        assert started.ask("turn", 0.0) > 0
    with pytest.raises(worker.PeerError, match="TypeError: "):
        started.ask("make", shape)


def test_models_agree(process):
    """Of every variant, each on one backend at least; ours is native."""
    started, backend = process
    B, T, _, H = shape = Shape(3, 6, 5, 4)
    variants = {"jax": ["recurrent-dropout"], "tensorflow": ["bidirectional"], "torch": ["plain", "masked"]}
    assert {variant for some in variants.values() for variant in some} == set(VARIANTS)
    for variant in variants[backend]:
        first = started.ask("models", shape, variant, 1)
        ours, theirs = first["glasscell"], first["Keras"]
        assert ours.engines == dict.fromkeys(CALLS, "native")
        assert ours.results[0].shape == (B, T, 2 * H if variant == "bidirectional" else H)
        assert len(ours.results) == 2 + (6 if variant == "bidirectional" else 3)
        assert all(np.abs(change).max() > 1e-4 for change in theirs.results[2:])
        for k, (got, want) in enumerate(zip(ours.results, theirs.results, strict=True)):
            check_close(variant, k, got, want)
        assert all(seconds > 0 for seconds in ours.seconds.values())
    assert started.ask("turn", 0.0, "glasscell", "train_on_batch") > 0
