"""The doors of the package where something is missing: each ends in one line that says what to install."""

import functools
import html
import json
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from environments import Environment
from fresh import output_of, run_python

ROOT = Path(__file__).parent.parent
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
        (
            ["matplotlib"],
            "import glasscell.report",
            "glasscell.report needs matplotlib, which is not installed: pip install matplotlib",
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


def test_threadpoolctl_is_named():
    line = "ImportError: register_threadpoolctl needs threadpoolctl, which is not installed: pip install threadpoolctl"
    assert ending(["threadpoolctl"], "import glasscell; glasscell.threads.register_threadpoolctl()") == line


@pytest.mark.parametrize(
    ("missing", "chosen"), [(["tensorflow"], "jax"), (["tensorflow", "jax"], "torch"), ([], "tensorflow")]
)
def test_keras_runs_on_what_is_installed(missing, chosen, tmp_path):
    """Where the user has chosen nothing: Keras's own default if it is installed."""
    script = "import glasscell.keras, keras; print(keras.backend.backend())"
    said = output_of("-c", HIDE.format(missing) + script, KERAS_BACKEND="", KERAS_HOME=str(tmp_path))
    assert said.splitlines()[-1] == chosen


def test_trace_runs_on_what_is_installed(tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4)])
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", np.zeros((5, 3), "float32"))
    files = [str(tmp_path / name) for name in ("model.keras", "x.npy", "page.html")]
    script = "from glasscell._cli.main import main; main(['trace', {!r}, {!r}, '-o', {!r}])".format(*files)
    said = output_of("-c", HIDE.format(["tensorflow"]) + script, KERAS_BACKEND="", KERAS_HOME=str(tmp_path))
    assert said.splitlines()[-1] == f"Written to {files[2]}"


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
    assert done.stderr.endswith(" The commands are train, trace, bench, info; glasscell --help says more.\n")


def test_completion_of_the_shell():
    script = "import sys; from glasscell._cli.main import main; main(['--show-completion', 'bash'])"
    done = run_python("-c", script, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_GLASSCELL_COMPLETE=complete_bash" in done.stdout, done.stderr
    assert sys.platform != "win32"


README = (ROOT / "README.md").read_text(encoding="utf-8")
KERAS, NUMPY, TORCH = (  # the Python blocks of each section
    "\n".join(re.findall(r"```python\n(.*?)```", README.partition(f"\n## {title}")[2].partition("\n## ")[0], re.S))
    for title in ("In Keras", "In NumPy", "In PyTorch")
)
EXAMPLES = dict(re.findall(r"^\$ (?:python|torchrun .*?) (examples/\w+\.py)(.*?) *#", README, re.M))
MODEL = """
import glasscell.keras
import keras
import numpy as np
x, y = np.ones((40, 6, 3), "f4"), np.ones((40, 2), "f4")
model = keras.Sequential([keras.Input((6, 3)), keras.layers.LSTM(4, name="lstm"), keras.layers.Dense(2)])
model.save("mine.keras")
"""  # what README's lines of Keras take for granted
COMPILED = "\nmodel.compile('adam', 'mse')\n"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment that holds what this extra declares, and nothing else."""
    return functools.cache(lambda *extras: Environment(tmp_path_factory.mktemp("-".join(extras) or "core"), *extras))


def walk(environment, text, folder):
    """The statements of the text that fail there, with what they say; the others work."""
    done = environment.run("python", ROOT / "tests" / "support" / "walk.py", text=text, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def refused(environment, *command):
    """The one line that this command ends with where a package is missing."""
    done = environment.run(*command)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    return done.stderr.strip()


NO_KERAS = "ImportError: glasscell.keras needs a backend of Keras's: pip install keras jax"
NO_TORCH = "ImportError: glasscell.torch needs torch, which is not installed: pip install torch"


def test_the_core_walks_through_readme(environment, tmp_path):
    here = environment()
    assert here.packages == {"glasscell", "numpy"}
    assert walk(here, NUMPY, tmp_path) == []
    assert (tmp_path / "report.html").stat().st_size > 10_000
    for text, line in ((KERAS, NO_KERAS), (TORCH, NO_TORCH)):
        assert walk(here, text, tmp_path)[0][1] == line
    typer = "glasscell needs typer, which is not installed: pip install typer"
    assert refused(here, "glasscell", "bench", "--shape", "1,2,3,4") == typer
    assert refused(here, "python", "-m", "glasscell", "info") == typer
    train = "glasscell train needs typer, which is not installed: pip install keras jax "
    assert refused(here, "glasscell", "train") == train + "rich scikit-learn typer"


def test_report_draws_figures(environment, tmp_path):
    here = environment("report")
    assert here.packages >= {"glasscell", "numpy", "matplotlib"}
    assert walk(here, NUMPY + "\nimport glasscell.report\nglasscell.report.gates_and_states(trace)", tmp_path) == []


def test_keras_walks_through_readme(environment, tmp_path):
    """On the backend that the extra brings, although Keras by itself takes another; TensorBoard needs TensorFlow."""
    here = environment("keras")
    lines = KERAS.replace("model.fit(", COMPILED + "model.fit(", 1)
    failed = dict(walk(here, MODEL + lines + "\nassert keras.backend.backend() == 'jax'", tmp_path))
    needs = {"TensorBoard(": "ModuleNotFoundError: No module named 'tensorflow'"}
    for statement, said in failed.items():
        (sentence,) = [sentence for part, sentence in needs.items() if part in statement]
        assert said == sentence
    assert walk(here, TORCH, tmp_path)[0][1] == NO_TORCH


def test_torch_walks_through_readme(environment, tmp_path):
    here = environment("torch")
    assert walk(here, TORCH, tmp_path) == []
    no_keras = NO_KERAS.replace("a backend of Keras's", "keras, which is not installed")
    assert walk(here, KERAS, tmp_path)[0][1] == no_keras


def test_train_walks_through_readme(environment, tmp_path):
    """`make demo` but for its length, the commands, and the code that the report hands out."""
    here = environment("train")
    done = here.run("glasscell", "train", "--output", "run", "--epochs", 1, "--units", 8, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "on jax." in done.stdout
    page = html.unescape((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))
    (use,) = re.findall(r"import glasscell\.keras.*?load_japanese_vowels\(\)\.test\.x\)", page, re.S)
    assert walk(here, use + "\nassert probabilities.shape == (370, 9)", tmp_path / "run") == []
    done = here.run("glasscell", "bench", "--shape", "1,2,3,4", "--infer")
    assert done.returncode == 0, done.stderr
    assert "\nleft out: torch.nn.LSTM: torch not installed\n" in done.stdout
    assert "glasscell.keras.LSTM" in done.stdout.partition("left out")[0]
    assert here.run("python", "-m", "glasscell", "info").stdout == here.run("glasscell", "info").stdout != ""


RUN_IN_TURN = """
import runpy, sys
for line in sys.stdin.read().splitlines():
    sys.argv = line.split()
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        print("done", 0)
    except SystemExit as end:
        print("done", end.code)
"""


@pytest.mark.parametrize(
    ("extra", "lines"),
    [
        ("examples", {"keras_imdb_style": "--help", "keras_forecast": "--epochs 1"}),  # which draws, too
        ("examples-torch", {"ddp_forecast": "--help", "ray_score": "--help", "rl_reset": "--help"}),
    ],
)
def test_the_examples_walk(environment, tmp_path, extra, lines):
    """README's lines, cut short, as `test_examples.py` runs them whole; elsewhere one line says what to install."""
    assert set(EXAMPLES) >= {f"examples/{name}.py" for name in lines}
    files = {f"examples/{name}.py": short for name, short in lines.items()}
    text = "".join(f"{ROOT / name} {EXAMPLES[name]} {short}\n" for name, short in files.items())
    for here, ended in (
        (environment(extra), "0"),
        (environment(), f"[^;]*; all that this example needs: pip install '.\\[{extra}\\]'"),
    ):
        done = here.run("python", "-c", RUN_IN_TURN, text=text, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(re.findall(f"^done {ended}$", done.stdout, re.M)) == len(lines), done.stdout


def test_every_example_is_walked():
    """Those of README here, and the one of docs/gradient.md in test_long_memory.py."""
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "examples").glob("*.py")}
    assert there == {*EXAMPLES, "examples/long_memory.py"}
