"""The examples run as a reader runs them, natively, and their LSTM beats what they compare it with."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from compare import assert_close, assert_same_bits
from fresh import run_python
from glasscell.data import load_japanese_vowels
from glasscell.torch import LSTM

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, *arguments, launcher=()):
    """What the example prints, on JAX, in a process with Python's usual warnings."""
    done = run_python(*launcher, EXAMPLES / name, *arguments, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    assert "Grad strides" not in done.stderr  # of DistributedDataParallel
    return done.stdout


def number_after(name, printed):
    """The first number of the table's line that starts with this name."""
    lines = re.findall(rf"^{re.escape(name)} +([0-9.]+)", printed, re.MULTILINE)
    assert len(lines) == 1, printed
    return float(lines[0])


def test_imdb_style():
    printed = run("keras_imdb_style.py", "--epochs", 2, "--words", 30)
    bayes = number_after("naive Bayes", printed)
    assert number_after("always the same", printed) == 0.5  # as many classes as functions
    assert bayes > 0.6
    assert number_after("glasscell.keras", printed) > bayes
    assert number_after("keras", printed) > bayes
    assert re.search(r"^glasscell\.keras .*  native$", printed, re.MULTILINE)
    assert re.search(r"^keras .*  jax$", printed, re.MULTILINE)


def test_forecast(tmp_path):
    picture = tmp_path / "forecast.svg"
    printed = run("keras_forecast.py", "--epochs", 40, "--plot", picture)
    last, cycle = number_after("last value", printed), number_after("value 11 years before", printed)
    assert (last, cycle) == (23.6, 26.0)  # of 1960 to 2008, whatever was learned
    assert number_after("LSTM", printed) < 0.8 * last
    assert "\nengine: native\n" in printed
    assert {"observed", "last value", "value 11 years before", "linear regression", "LSTM"} <= set(
        re.findall("<!-- (.*?) -->", picture.read_text())
    )


def test_two_processes_learn_what_one_does(tmp_path):
    """In float64, where the order of the sums leaves differences that Adam cannot make large."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    parameters = []
    for processes in (1, 2):
        file = tmp_path / f"{processes}.pt"
        arguments = ("--epochs", 20, "--dtype", "float64", "--save", file)
        printed = run("ddp_forecast.py", *arguments, launcher=launcher if processes > 1 else ())
        assert number_after("last value", printed) == 23.6  # as in keras_forecast.py
        assert number_after("LSTM", printed) < 0.8 * 23.6
        assert f"\nengine: native; processes: {processes};" in printed
        parameters.append(torch.load(file, weights_only=True))
    one, two = parameters
    assert list(one) == list(two)
    for name in one:
        assert_close(two[name], one[name], 1e-12, name)


def test_actors_score_as_one_process_does(tmp_path):
    file = tmp_path / "scores.pt"
    printed = run("ray_score.py", "--epochs", 10, "--repeat", 1, "--batch", 16, "--save", file)
    assert number_after("always the most frequent", printed) == 0.238
    assert number_after("LSTM", printed) > 0.8
    assert "370 recordings by 2 actors" in printed
    assert "\nengine: native\n" in printed
    saved = torch.load(file, weights_only=True)
    model = torch.nn.ModuleDict({"lstm": LSTM(12, 64, batch_first=True), "head": torch.nn.Linear(64, 9)})
    model.load_state_dict(saved["model"], strict=True)
    test = load_japanese_vowels().test
    with torch.inference_mode():
        for k, (x, length) in enumerate(zip(test.x, test.lengths, strict=True)):  # each alone, without padding
            _, (h, _) = model["lstm"](torch.from_numpy(x[None, :length]))
            assert_same_bits(saved["scores"][k], model["head"](h[0, 0]).log_softmax(0), f"recording {k}")


def test_a_policy_remembers():
    printed = run("rl_reset.py", "--updates", 80)
    assert number_after("chance", printed) == 0.25
    assert abs(number_after("policy without memory", printed) - 0.25) < 0.03
    assert number_after("policy with LSTM", printed) > 0.9
    assert min(number_after(name, printed) for name in ("in one call, with reset", "step by step")) > 0
    assert float(re.search(r"gradients are (\S+) of the largest apart", printed)[1]) < 1e-5
    assert "\nengine: native\n" in printed


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("keras_imdb_style.py", ["--epochs", "1"], "--epochs: expected 2 or more, got 1"),
        ("keras_forecast.py", ["--window", "10"], "--window: expected 11 or more, got 10"),
        ("ddp_forecast.py", ["--window", "10"], "--window: expected 11 or more, got 10"),
    ],
)
def test_bad_arguments(name, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
