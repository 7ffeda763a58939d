"""The doors of the package where something is missing: each ends in one line that says what to install."""

import sys

import pytest

from fresh import output_of, run_python

HIDE = "import sys; sys.modules.update(dict.fromkeys({!r}))\n"


def ending(missing, script, **environment):
    """The last line that the script says where these packages are not installed."""
    done = run_python("-c", HIDE.format(missing) + script, KERAS_BACKEND="", **environment)
    assert done.returncode == 1
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("missing", "script", "line"),
    [
        (
            ["keras"],
            "import glasscell.keras",
            "glasscell.keras needs keras, which is not installed: pip install keras jax",
        ),
        (["torch"], "import glasscell.torch", "glasscell.torch needs torch, which is not installed: pip install torch"),
        (
            ["jax", "torch", "tensorflow"],
            "import glasscell.keras",
            "glasscell.keras needs a backend of Keras's: pip install keras jax",
        ),
        *(
            (
                [package],
                "import numpy, glasscell as gc\n"
                "gc.LSTM(2).build(2).trace(numpy.zeros((1, 2, 2), 'f4')).report('page.html')",
                f"report needs {package}, which is not installed: pip install matplotlib jinja2",
            )
            for package in ("jinja2", "matplotlib")
        ),
    ],
)  # fmt: skip
def test_a_missing_package_is_named_with_what_to_install(missing, script, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ending(missing, script) == f"ImportError: {line}"


def test_a_backend_that_was_asked_for_is_not_replaced():
    done = run_python("-c", HIDE.format(["tensorflow"]) + "import glasscell.keras", KERAS_BACKEND="tensorflow")
    assert done.stderr.strip().splitlines()[-1] == (
        "ImportError: glasscell.keras: KERAS_BACKEND is 'tensorflow', and tensorflow is not installed: "
        "pip install tensorflow-cpu, or set KERAS_BACKEND to another backend"
    )


@pytest.mark.parametrize(
    ("missing", "chosen"), [(["tensorflow"], "jax"), (["tensorflow", "jax"], "torch"), ([], "tensorflow")]
)
def test_keras_runs_on_what_is_installed(missing, chosen, tmp_path):
    """Where the user has chosen nothing: Keras's own default if it is installed."""
    script = "import glasscell.keras, keras; print(keras.backend.backend())"
    said = output_of("-c", HIDE.format(missing) + script, KERAS_BACKEND="", KERAS_HOME=str(tmp_path))
    assert said.splitlines()[-1] == chosen


@pytest.mark.parametrize("written", ['{"backend": "torch"}', "not JSON", "[]"])
def test_the_configuration_file_of_keras_counts(written, tmp_path):
    (tmp_path / "keras.json").write_text(written)
    script = (
        "from glasscell import _doors; import os; _doors.choose_backend(); print(os.environ['KERAS_BACKEND'] or None)"
    )
    said = output_of("-c", HIDE.format(["tensorflow"]) + script, KERAS_BACKEND="", KERAS_HOME=str(tmp_path))
    assert said.strip() == ("None" if "torch" in written else "jax")


def test_the_module_runs_the_command_line():
    assert output_of("-m", "glasscell", "--version").startswith("glasscell ")
    done = run_python("-m", "glasscell", "trian")
    assert done.returncode == 2
    assert done.stderr.startswith("glasscell: No such command 'trian'.")
    assert done.stderr.endswith(" The commands are train, bench, info; glasscell --help says more.\n")


def test_completion_of_the_shell():
    script = "import sys; from glasscell._cli.main import main; main(['--show-completion', 'bash'])"
    done = run_python("-c", script, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_GLASSCELL_COMPLETE=complete_bash" in done.stdout, done.stderr
    assert sys.platform != "win32"
