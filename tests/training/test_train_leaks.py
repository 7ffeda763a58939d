"""What `glasscell train` may know: the scale, the weights and the baseline come from the training recordings."""

import dataclasses
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import glasscell as gc
from glasscell._training import measure
from glasscell._training import train as training
from glasscell._training.measure import linear_baseline, trace_examples
from glasscell._training.model import build_model
from glasscell._training.train import check_arguments, split
from glasscell.data import MAX_FRAMES, Utterances, load_japanese_vowels
from quiet import train_quietly

TINY = {"units": 4, "epochs": 2, "batch_size": 9, "learning_rate": 0.02}
SETTINGS = check_arguments(output="x", dropout=0.2, recurrent_dropout=0.2, seed=0, engine="auto", **TINY)


def pick(part, rows):
    return Utterances(part.x[rows], part.lengths[rows], part.labels[rows])


@pytest.fixture(scope="module")
def few():
    """Six recordings of each speaker to train on and for validation, and 27 held out."""
    data = load_japanese_vowels()
    rows = np.concatenate([np.flatnonzero(data.train.labels == k)[:6] for k in range(9)])
    return dataclasses.replace(data, train=pick(data.train, rows), test=pick(data.test, np.arange(0, 370, 14)))


@pytest.fixture(scope="module")
def known(few):
    return split(few.train, 3, 0)[0]


@pytest.fixture(scope="module")
def validation(few):
    return split(few.train, 3, 0)[1]


def changed(part, row):
    """The same recordings, but that one of them is much louder, reversed, and as long as can be."""
    x, lengths = part.x.copy(), part.lengths.copy()
    x[row], lengths[row] = 20 * np.random.default_rng(0).standard_normal(x[row].shape), MAX_FRAMES
    return dataclasses.replace(part, x=x, lengths=lengths)


def frames(part):
    return np.concatenate([x[:n] for x, n in zip(part.x, part.lengths, strict=True)]).astype(np.float64)


def test_the_scale_is_that_of_the_training_frames(few, known, validation):
    """Of those frames and of no others: not of the padding, nor of recordings for validation or held out."""
    scale = build_model(known, 9, SETTINGS).get_layer("scale")
    mean, variance = (keras.ops.convert_to_numpy(v).reshape(12) for v in (scale.mean, scale.variance))
    heard = frames(known)
    np.testing.assert_allclose(mean, heard.mean(0), rtol=0, atol=1e-5)  # float32 sums of thousands of frames
    np.testing.assert_allclose(variance, heard.var(0), rtol=1e-4)
    for others in (validation, few.test):
        with_others = np.concatenate([heard, frames(others)])
        assert np.abs(with_others.mean(0) - mean).max() > 1e-3  # it would have shown
        assert np.abs(with_others.var(0) / variance - 1).max() > 1e-3
    padded = known.x.reshape(-1, 12)
    assert np.abs(padded.mean(0) - mean).max() > 1e-2


def run(data, tmp_path, monkeypatch):
    """A whole run on these recordings. Gives its metrics, weights, answers and those of the baseline."""
    seen = {}

    def baseline(*arguments):
        return seen.setdefault("linear", linear_baseline(*arguments))

    def traced(model, test, probabilities, speakers):
        seen.update(probabilities=probabilities, weights=model.get_weights())
        return trace_examples(model, test, probabilities, speakers)

    monkeypatch.setattr(training, "load_japanese_vowels", lambda: data)
    monkeypatch.setattr(measure, "linear_baseline", baseline)
    monkeypatch.setattr(training, "trace_examples", traced)
    metrics, _ = train_quietly(tmp_path, **TINY)
    return SimpleNamespace(metrics=metrics, **seen)


@pytest.fixture(scope="module")
def plain(few, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return run(few, tmp_path_factory.mktemp("plain"), patch)


def test_a_held_out_recording_changes_its_own_answer_alone(few, plain, tmp_path, monkeypatch):
    """Bit for bit: of the model and of the baseline; and nothing that was learnt or written about the others."""
    row = 5
    other = run(dataclasses.replace(few, test=changed(few.test, row)), tmp_path, monkeypatch)
    for got, expected in zip(other.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(got, expected)
    assert (other.probabilities[row] != plain.probabilities[row]).any()
    rest = np.arange(len(few.test)) != row
    np.testing.assert_array_equal(other.probabilities[rest], plain.probabilities[rest])
    np.testing.assert_array_equal(other.linear[rest], plain.linear[rest])
    for name in ("history", "validation_accuracy", "utterances", "settings", "parameters"):
        assert other.metrics[name] == plain.metrics[name], name
    for name, share in (("accuracy", other.probabilities.argmax(1)), ("linear", other.linear)):
        found = other.metrics["baselines"] | other.metrics
        assert found[name] == np.mean(share == few.test.labels)


def test_a_validation_recording_changes_the_curves_it_draws_alone(few, validation, plain, tmp_path, monkeypatch):
    """The validation recordings decide nothing: the weights, the loss and the answers are the same bits."""
    row = next(k for k, x in enumerate(few.train.x) if x.tobytes() == validation.x[0].tobytes())
    other = run(dataclasses.replace(few, train=changed(few.train, row)), tmp_path, monkeypatch)
    for got, expected in zip(other.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(other.probabilities, plain.probabilities)
    np.testing.assert_array_equal(other.linear, plain.linear)
    ours, theirs = other.metrics["history"], plain.metrics["history"]
    assert (ours["loss"], ours["accuracy"]) == (theirs["loss"], theirs["accuracy"])
    assert ours["val_loss"] != theirs["val_loss"]


def test_the_baseline_never_hears_the_padding(few, known):
    """Whatever stands behind a recording's last frame, in training or held out."""
    answers = []
    for noise in (0, 100):
        parts = []
        for part in (known, few.test):
            padding = np.arange(MAX_FRAMES) >= part.lengths[:, None]
            x = part.x + noise * padding[..., None] * np.random.default_rng(0).standard_normal(part.x.shape)
            parts.append(dataclasses.replace(part, x=x.astype(np.float32)))
        answers.append(linear_baseline(*parts))
    np.testing.assert_array_equal(*answers)


def test_every_setting_reaches_its_place(few, tmp_path, monkeypatch):
    """None stands for another, and none is left out."""
    settings = {"units": 5, "epochs": 3, "batch_size": 7, "learning_rate": 0.125, "dropout": 0.25,
                "recurrent_dropout": 0.5, "seed": 3, "engine": "framework"}  # fmt: skip
    called = []

    def fit(*arguments, **options):
        called.append((arguments, options))
        raise KeyboardInterrupt

    def build(known, speakers, given):
        assert (speakers, given) == (9, settings)
        model = build_model(known, speakers, given)
        lstm = model.get_layer("lstm")
        assert (lstm.cell.units, lstm.cell.dropout, lstm.cell.recurrent_dropout) == (5, 0.25, 0.5)
        assert lstm.engine == "framework"
        assert float(model.optimizer._learning_rate.warmup_target) == 0.125
        object.__setattr__(model, "fit", fit)
        return model

    monkeypatch.setattr(training, "load_japanese_vowels", lambda: few)
    monkeypatch.setattr(training, "build_model", build)
    with pytest.raises(KeyboardInterrupt):
        train_quietly(tmp_path, **settings)
    [((x, labels), options)] = called
    known, validation = split(few.train, 3, 3)
    assert (options["batch_size"], options["epochs"]) == (7, 3)
    got = x, labels, *options["validation_data"]
    for array, expected in zip(got, (known.x, known.labels, validation.x, validation.labels), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_baseline_learns_from_its_recordings_alone(few, known, sign):
    """Held out alone or beside others, moved together or not: a recording has one answer."""
    expected = linear_baseline(known, few.test)
    assert np.mean(expected == few.test.labels) > 0.5
    far = dataclasses.replace(few.test, x=few.test.x.copy())
    far.x[1:] = sign * 50 + 9 * far.x[1:]
    assert linear_baseline(known, far)[0] == expected[0]
    np.testing.assert_array_equal(linear_baseline(known, pick(few.test, slice(3))), expected[:3])


@pytest.mark.parametrize(("rows", "batch_size", "epochs"), [(243, 32, 60), (27, 9, 2), (10, 10, 7)])
def test_the_learning_rate(few, rows, batch_size, epochs):
    """Up a straight line over the first tenth of the steps, and down a cosine that would end a tenth after the last."""
    known = pick(load_japanese_vowels().train, np.arange(rows))
    model = build_model(known, 9, {**SETTINGS, "batch_size": batch_size, "epochs": epochs, "learning_rate": 0.25})
    schedule, steps = model.optimizer._learning_rate, math.ceil(rows / batch_size) * epochs
    warm = math.ceil(steps / 10)
    for step in {0, 1, warm - 1, warm, warm + 1, steps // 2, steps - 1, steps}:
        down = 0.125 * (1 + math.cos(math.pi * (step - warm) / steps))
        expected = 0.25 * step / warm if step < warm else down
        assert float(schedule(step)) == pytest.approx(expected, abs=1e-6), step  # float32
    assert model.optimizer.clipnorm == 1.0


@pytest.mark.parametrize("right", [[0, 1, 2], [3, 5], [5], []])
def test_the_recordings_that_are_traced(few, known, right):
    """The longest that is answered rightly and the longest that is not, each named, as the model sees them."""
    keras.utils.set_random_seed(0)
    model, test = build_model(known, 9, SETTINGS), pick(few.test, np.arange(7))
    test = dataclasses.replace(test, lengths=np.array([3, 6, 4, 2, 7, 5, 1]))
    for row, n in enumerate(test.lengths):
        test.x[row, n:] = 0
    answers = np.where(np.isin(np.arange(7), right), test.labels, (test.labels + 1) % 9)
    trace, names, answer = trace_examples(model, test, np.eye(9)[answers], [f"speaker {k}" for k in range(1, 10)])
    wrong = [row for row in range(7) if row not in right]
    rows = [max(kind, key=lambda k: test.lengths[k]) for kind in (right, wrong) if kind]
    assert answer.truth == [test.labels[row] for row in rows]
    beliefs = model.predict(test.x, verbose=0)
    cell = gc.LSTMCell.from_config(model.get_layer("lstm").cell.get_config())
    cell.set_weights(model.get_layer("lstm").cell.get_weights())
    for k, (row, name) in enumerate(zip(rows, names, strict=True)):
        n, speaker = test.lengths[row], test.labels[row] + 1
        said = "named rightly" if row in right else f"taken for {speaker % 9 + 1}"
        assert name == f"recording {row}, {n} frames of speaker {speaker}, {said}"
        x = (test.x[row, :n] - frames(known).mean(0)) / frames(known).std(0)
        np.testing.assert_allclose(trace.x[k, :n], x, atol=1e-4)
        h = gc.RNN(cell, return_sequences=True)(trace.x[k : k + 1, :n])[0]
        np.testing.assert_allclose(trace.h[k, :n], h, atol=1e-6)
        assert trace.mask is None or trace.mask[k].sum() == n
        powers = np.exp(h[-1] @ answer.kernel + answer.bias)
        np.testing.assert_allclose(powers / powers.sum(), beliefs[row], atol=1e-5)
