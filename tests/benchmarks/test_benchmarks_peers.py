"""The benchmark's modules of PyTorch and layers and models of Keras: each is right, forward and backward."""

import os

import numpy as np
import pytest
import torch

from benchmarks import keras_peers, run, torch_peers, worker
from benchmarks.peers import CONTESTANTS
from benchmarks.problem import check, expected, first_results, make_problem
from benchmarks.shapes import BACKENDS, MODELS, SHAPES, TORCH, VARIANTS, trains
from glasscell._cli.contestants import Shape
from short_rounds import shorten

SHAPE = Shape(3, 40, 5, 6)
OF_TORCH = [one for one in CONTESTANTS if set(one.modes) & set(TORCH)]


@pytest.fixture
def short(monkeypatch):
    """A tiny shape, one short turn, nothing compiled."""
    monkeypatch.setitem(SHAPES, "here", SHAPE)
    shorten(monkeypatch)
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)  # it would import the compiler


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("mode", TORCH)
def test_modules_agree_and_are_timed(mode):
    (row,) = run.run([("here", mode)])
    assert [r["contestant"] for r in row] == [one.name for one in OF_TORCH if mode in one.modes]
    assert all(r["seconds"] > 0 for r in row)


@pytest.mark.parametrize("mode", [mode for mode in TORCH if trains(mode)])
def test_right_results(mode):
    """y, and the gradients of x, of both kernels and of both biases: by the reference, and by ours the same."""
    problem = make_problem(SHAPE, mode, 1)
    B, T, inputs, H = SHAPE
    steps = (problem.lengths.sum(),) if "packed" in mode else (B, T)
    right = expected(problem)
    assert [y.shape for y in right] == [(*steps, H), (*steps, inputs), (inputs, 4 * H), (H, 4 * H), (4 * H,), (4 * H,)]
    assert all(np.abs(y).max() > 1e-2 for y in right)
    check("ours", first_results(torch_peers.ours(problem), problem), right, problem)


def test_lengths():
    problem = make_problem(SHAPE, "torch lengths-train", 1)
    assert 5 <= problem.lengths.min() < problem.lengths.max() <= SHAPE.T
    assert np.array_equal(torch_peers.lstm(problem)()[1].any(axis=2), problem.kept)


def test_packed_as_torch_packs():
    problem = make_problem(SHAPE, "torch packed", 1)
    x, lengths = torch.from_numpy(problem.x), torch.from_numpy(problem.lengths)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    assert np.array_equal(problem.packed(problem.x), packed.data)


@pytest.mark.parametrize(
    ("mode", "what"),
    [
        ("torch reset", "reset"),
        ("torch recurrent-dropout", "recurrent_dropout_mask"),
        ("keras JAX masked-train", "lengths"),
    ],
)
def test_the_checks_see_resets_masks_and_lengths(mode, what):
    problem = make_problem(SHAPE, mode, 1)
    right, without = expected(problem), expected(problem._replace(**{what: None}))
    for k in range(len(right)):
        with pytest.raises(RuntimeError, match=f"without: result {k} is off by"):
            check("without", tuple(without[n] if n == k else y for n, y in enumerate(right)), right, problem)


def test_masks_are_drawn_anew_in_every_call():
    problem = make_problem(SHAPE, "torch recurrent-dropout", 1)
    assert 0 < np.count_nonzero(problem.recurrent_dropout_mask == 0) < problem.recurrent_dropout_mask.size
    for one in OF_TORCH:
        if problem.mode in one.modes and one.name != "compiled loop":
            work = one.make(problem)
            first, second = (work()[0].copy() for _ in range(2))
            assert np.abs(second - first).max() > 1e-2, one.name


@pytest.mark.usefixtures("short")
def test_what_torch_does_not_compile_is_left_out(monkeypatch):
    def refuse(function, **options):
        assert options["fullgraph"]  # else torch would run the module as it is, and call it compiled
        raise NotImplementedError("no LSTM\nand more")

    monkeypatch.setattr(torch, "compile", refuse)
    rows = run.run([("here", "torch padded-train"), ("here", "torch recurrent-dropout")])
    assert [{r["contestant"]: r["left_out"] for r in row if r["left_out"]} for row in rows] == [
        {"torch.compile": "NotImplementedError: no LSTM"},
        {"compiled loop": "NotImplementedError: no LSTM"},
    ]
    monkeypatch.setattr(torch_peers, "_ours", lambda problem: 1 / 0)  # a mistake of ours is an error
    with pytest.raises(ZeroDivisionError):
        list(run.run([("here", "torch packed")]))


@pytest.fixture(scope="module", params=["JAX", "TensorFlow", "torch"])
def process(request):
    """A worker and its backend."""
    backend = BACKENDS[request.param]
    with worker.started([backend], 1) as workers:
        yield workers[backend], request.param
    with pytest.raises(RuntimeError, match="shutdown"):
        workers[backend].ask(os.getpid)


# Every variant and every mode of a layer on one backend at least; both of the one on which ours is an own contestant.
TRIED = {
    "JAX": ["keras JAX recurrent-dropout-train", "infer", "lengths-train", "recurrent-dropout"],
    "TensorFlow": ["keras TensorFlow bidirectional-train", "keras TensorFlow bidirectional", "lengths", "train"],
    "torch": ["keras torch plain-train", "keras torch masked", "keras torch masked-train", "recurrent-dropout"],
}


def test_layers_and_models_agree_in_their_own_process(process):
    there, label = process
    shape = Shape(3, 8, 5, 6)
    assert all(any(f" {variant}" in mode for modes in TRIED.values() for mode in modes) for variant in VARIANTS)
    for mode in TRIED[label]:
        for ours in (False, True) if mode in MODELS or label == "JAX" else (False,):
            problem = make_problem(shape, mode, 1)
            results, mask, engine = there.ask(keras_peers.make, shape, mode, 1, "name", ours)
            assert (mask is not None) == ("recurrent-dropout" in mode and trains(mode))
            if mask is not None:
                assert 0 < np.count_nonzero(mask) < mask.size == 4 * 3 * 6
                problem = problem._replace(recurrent_dropout_mask=mask)
            right = expected(problem)
            check(f"{label}, {mode}", results, right, problem)
            assert all(np.abs(result).max() > 1e-4 for result in right)
            assert engine == ("native" if ours and mode in MODELS else "")
            assert there.ask(keras_peers.turn, "name", 0.0) > 0
    there.ask(keras_peers.make, shape, "infer", 1, "another", False)
    with pytest.raises(worker.PeerError, match="KeyError: 'name'"):  # the works of the row before are gone
        there.ask(keras_peers.turn, "name", 0.0)
    assert there.ask(os.getenv, "KERAS_BACKEND") == BACKENDS[label] != there.ask(os.getenv, "HOME")
    assert there.ask(os.getpid) != os.getpid()


def end(message):
    print("a word before")
    os.write(2, f"{message}\n".encode())
    os._exit(1)


def fail():
    class Unsendable(Exception):
        def __init__(self, a, b):
            super().__init__("no\nand more")

    raise Unsendable(1, 2)


def test_a_worker_that_dies_says_why_and_starts_anew(capfd):
    with worker.started(["no_such_backend"], 3) as workers:
        dying = workers["no_such_backend"]
        with pytest.raises(worker.ProcessEnded, match="no_such_backend"):  # why Keras could not be imported
            dying.ask(os.getpid)
        dying.reason = ""
        for message in ("no more memory", "nor disk"):
            with pytest.raises(worker.ProcessEnded, match=f"its process ended: {message}"):
                dying.ask(end, message)
        assert dying.ask(os.getenv, "OMP_NUM_THREADS") == "3"
        with pytest.raises(worker.PeerError, match=r"Unsendable: no$"):
            dying.ask(fail)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("ours", "error"), [(True, RuntimeError), (False, worker.PeerError)])
def test_a_mistake_of_ours_in_a_process_is_an_error(ours, error):
    class Process:
        def ask(self, function, *arguments):
            raise worker.PeerError("ValueError: no")

    one = next(one for one in CONTESTANTS if one.backend and one.ours == ours)
    with pytest.raises(error, match="ValueError: no") as raised:
        run._there(one, make_problem(SHAPE, "keras JAX plain", 1), Process())
    assert raised.type is error
