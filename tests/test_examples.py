"""The examples run as a reader runs them, natively, and their LSTM beats what they compare it with."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from fresh import run_python

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, *arguments):
    """What the example prints, on JAX, in a process with Python's usual warnings."""
    done = run_python(EXAMPLES / name, *arguments, KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
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


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("keras_imdb_style.py", ["--epochs", "1"], "--epochs: expected 2 or more, got 1"),
        ("keras_forecast.py", ["--window", "10"], "--window: expected 11 or more, got 10"),
    ],
)
def test_bad_arguments(name, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
