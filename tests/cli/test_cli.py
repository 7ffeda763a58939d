"""The command line: what reaches the call, what is printed, and the exit codes of real processes."""

import inspect
import os
import re
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

import glasscell
from commands import stopped
from glasscell._cli import bench
from glasscell._cli import main as cli
from glasscell._training.train import train


def run(*arguments, setup="", **options):
    """Run `glasscell` in a process of its own, after the statements of `setup`."""
    script = f"import sys\n{setup}\nfrom glasscell._cli.main import main\nmain()"
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, **options)


@pytest.fixture
def calls(monkeypatch):
    """The arguments of each call to `train`, which does nothing else."""
    seen = []
    monkeypatch.setattr(cli, "train", lambda **arguments: seen.append(arguments))
    return seen


def test_train_passes_every_option_on(calls):
    given = {
        "output": Path("here"), "units": 7, "epochs": 3, "batch_size": 5, "learning_rate": 0.25, "dropout": 0.5,
        "recurrent_dropout": 0.125, "seed": 9, "engine": "framework",
    }  # fmt: skip
    options = [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    result = CliRunner().invoke(cli.build_app(), ["train", *options])
    assert (result.exit_code, result.output) == (0, "")
    assert calls == [given]


def test_train_has_the_defaults_of_the_function(calls):
    assert CliRunner().invoke(cli.build_app(), ["train"]).exit_code == 0
    defaults = {name: parameter.default for name, parameter in inspect.signature(train).parameters.items()}
    assert defaults.pop("console") is None
    defaults["output"] = Path(defaults["output"])
    assert calls == [defaults]


def test_info_prints_the_configuration():
    result = CliRunner().invoke(cli.build_app(), ["info"])
    lines = dict(line.split(maxsplit=1) for line in result.output.splitlines())
    config = glasscell.show_config()
    assert list(lines) == list(config)
    assert lines["target"] == config["target"]
    assert lines["targets"] == ", ".join(config["targets"])


def test_info_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(glasscell, "show_config", lambda: {"keras": None, "threads": 0})
    assert CliRunner().invoke(cli.build_app(), ["info"]).output == "keras    not found\nthreads  0\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help(arguments, capsys):
    code, said, _ = stopped(capsys, *arguments)
    assert not code
    assert all(text in said for text in ("Usage: glasscell", "train", "info"))


def test_help_of_train_is_grouped_and_has_an_example(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", CliRunner().invoke(cli.build_app(), ["train", "--help"]).output)
    texts = "─ Result ─", "─ Model ─", "─ Training ─", "auto|native|framework", "Example: glasscell train --units"
    assert all(text in plain for text in texts)


def test_help_shows_the_range_or_the_choices_of_each_option(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", CliRunner().invoke(cli.build_app(), ["train", "--help"]).output)
    lines = {name: line for line in plain.splitlines() for name in re.findall(r"^│ --([a-z-]+)", line)}
    for name in set(inspect.signature(train).parameters) - {"output", "console"}:
        assert re.search(r"x[<>]=|from 0 to|above 0|\|", lines[name.replace("_", "-")].strip("│ ")), lines


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"glasscell {metadata.version('glasscell')}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --units -3", " train: Invalid value for '--units'"),
        ("train --epochs=many", " train: Invalid value for '--epochs'"),
        ("train --batch-size 0", " train: Invalid value for '--batch-size'"),
        ("train --epochs 0", " train: Invalid value for '--epochs'"),
        ("train --seed 4294967296", " train: Invalid value for '--seed'"),
        ("train --engine gpu", " train: Invalid value for '--engine'"),
        ("train --dropout 1", " train: --dropout: expected a number from 0 to below 1, got 1.0"),
        ("train --units many", " train: Invalid value for '--units'"),
        ("train --unitz 3", " train: No such option"),
        ("train more", " train: Got unexpected extra argument"),
        ("trian", ": No such command 'trian'"),
    ],
)
def test_bad_arguments_end_with_one_line(arguments, message, capsys):
    code, printed, said = stopped(capsys, *arguments.split())
    assert (code, printed) == (2, "")
    assert said.startswith(f"glasscell{message}")
    assert said.count("\n") == 1
    came = "--unitz" if "--unitz" in arguments else re.split("[ =]", arguments)[-1]
    assert came in said


def test_bad_arguments_of_a_process(tmp_path):
    done = run("train", "--dropout", "1", cwd=tmp_path)
    message = "glasscell train: --dropout: expected a number from 0 to below 1, got 1.0\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["typer", "keras", "rich"])
def test_a_missing_package_is_named(package, tmp_path):
    done = run("train", "--units", "2", setup=f"sys.modules[{package!r}] = None", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"glasscell train needs {package}, which is not installed: pip install keras")
    assert done.stderr.count("\n") == 1


def test_a_backend_that_is_not_installed_is_named(tmp_path):
    hidden = "sys.modules['tensorflow'] = None"
    done = run("train", setup=hidden, cwd=tmp_path, env={**os.environ, "KERAS_BACKEND": "tensorflow"})
    assert (done.returncode, done.stderr) == (
        2,
        "glasscell.keras: KERAS_BACKEND is 'tensorflow', and tensorflow is not installed: pip install tensorflow-cpu, "
        "or set KERAS_BACKEND to another backend\n",
    )


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize("error", [ValueError("shapes: differ"), ModuleNotFoundError("gone", name="glasscell.gone")])
def test_a_mistake_of_ours_is_not_hidden(error, monkeypatch):
    """An error that no argument explains keeps its traceback."""
    monkeypatch.setattr(cli, "train", failing(error))
    with pytest.raises(type(error)):
        cli.main(["train"])


@pytest.mark.parametrize(
    ("command", "error", "code", "message"),
    [
        ("train", OSError(28, "No space left on device", "a"), 1, "[Errno 28] No space left on device: 'a'"),
        ("bench", RuntimeError("liar: off"), 1, "liar: off"),
        ("bench", MemoryError("Unable to allocate 9 TiB"), 1, "Unable to allocate 9 TiB"),
        ("bench", KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_codes(command, error, code, message, monkeypatch, capsys):
    monkeypatch.setattr(*{"train": (cli, "train"), "bench": (bench, "main")}[command], failing(error))
    assert stopped(capsys, command) == (code, "", f"glasscell {command}: {message}\n")


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for one process on Windows")
def test_interrupt():
    """Ctrl-C ends with 130 and one line."""
    setup = (
        "import signal, time, glasscell._cli.main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs start with it ignored
        "glasscell._cli.main.train = lambda **_: (print('training', flush=True), time.sleep(60))"
    )
    script = f"{setup}\nglasscell._cli.main.main(['train', '--output', 'there'])"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "training\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == "glasscell train: interrupted; nothing was written, there is as it was\n"
