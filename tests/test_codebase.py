"""The repository itself: what an import costs, the public names, the versions, and the rules of the house."""

import inspect
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import glasscell
from glasscell._cells import activations

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "glasscell"
PUBLIC = {"LSTM", "LSTMCell", "LSTMWeights", "RNN", "Stream", "Trace", "num_threads", "set_num_threads", "show_config"}


def python_files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_import_is_light():
    """No framework is loaded, and glasscell adds less to the time of an import than NumPy took: some 0.1 s, measured
    in the same process, so that a slow or busy machine slows both. The best of five."""
    script = (
        "import time; start = time.perf_counter(); import numpy; middle = time.perf_counter(); import glasscell;"
        "share = (time.perf_counter() - middle) / (middle - start);"
        "import json, sys; print(json.dumps([share, sorted({name.split('.')[0] for name in sys.modules})]))"
    )
    runs = [json.loads(subprocess.check_output([sys.executable, "-c", script])) for _ in range(5)]
    heavy = {"keras", "torch", "jax", "jaxlib", "tensorflow", "matplotlib", "jinja2", "typer", "rich", "threadpoolctl"}
    for _, modules in runs:
        assert "glasscell" in modules
        assert not heavy & set(modules)
    assert min(share for share, _ in runs) < 1


def test_public_names():
    assert set(glasscell.__all__) == PUBLIC
    assert len(glasscell.__all__) == len(PUBLIC)
    shown = {name for name, value in vars(glasscell).items() if not (name.startswith("_") or inspect.ismodule(value))}
    assert shown == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_names_have_docstrings(name):
    value = getattr(glasscell, name)
    assert value.__module__.startswith("glasscell")
    assert value.__doc__
    if inspect.isclass(value):
        members = {n: m for n, m in vars(value).items() if not n.startswith("_") or n == "__call__"}
        for member_name, member in members.items():
            if inspect.isroutine(member) or isinstance(member, (property, classmethod)):
                assert inspect.getdoc(member), f"{name}.{member_name} has no docstring"


@pytest.mark.parametrize("path", python_files("src", "benchmarks"), ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_have_docstrings(path):
    assert path.read_text().lstrip().startswith('"""'), "no docstring"


def test_versions_are_equal():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## \[?v?([0-9][^\s\]]*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert metadata.version("glasscell") == version == newest.group(1)
    assert glasscell.show_config()["glasscell"] == version


def test_no_long_files():
    suffixes = {".py", ".h", ".cpp", ".pyi"}
    paths = [p for folder in ("src", "native", "tests", "benchmarks", "tools") for p in (ROOT / folder).rglob("*")]
    lengths = {p: len(p.read_text().splitlines()) for p in paths if p.suffix in suffixes}
    assert len(lengths) > 20
    assert not {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > 400}


# A sum of two products, one of them with c: the forget gate times the state, and what comes in.
NEW_STATE = r"(?m)^\s*c\w* = [\w.()]+ \* c\w* \+ [\w.()]+ \* [\w.()]+$"


def files_with(pattern, *paths):
    return [str(path.relative_to(ROOT)) for path in paths if re.search(pattern, path.read_text())]


def test_equations_stand_in_two_places():
    """Once in Python and once in C++: the logistic function's e^-x, and the new cell state, whatever it is called."""
    python, native = python_files("src", "benchmarks", "examples", "tools"), sorted((ROOT / "native").rglob("*.[hc]*"))
    assert len(python_files("benchmarks")) > 5
    assert files_with(r"exp\(\s*-", *python) == ["src/glasscell/_cells/activations.py"]
    assert files_with(NEW_STATE, *python) == ["src/glasscell/_cells/lstm.py"]
    assert re.search(NEW_STATE, "c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)")
    assert files_with(r"fma\(gates\.f, c, gates\.i \* gates\.g\)", *native) == ["native/kernel/lstm.h"]
    assert files_with(r"V<T> sigmoid\(", *native) == ["native/simd/math.h"]


def test_native_activations_are_in_the_same_order():
    text = (ROOT / "native/interface/call.h").read_text()
    (enumeration,) = re.findall(r"enum class Activation[^{]*\{([^}]*)\}", text)
    assert re.findall(r"\w+", enumeration) == list(activations.BUILT_IN)
    assert re.search(rf"kActivations = {len(activations.BUILT_IN)};", text)
    cases = re.findall(r"case Activation::(\w+)", (ROOT / "native/kernel/activations.h").read_text())
    assert cases == [*activations.BUILT_IN] * 2  # the functions, then their derivatives


def tracked_files():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0 or not done.stdout:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in done.stdout.splitlines()]


def test_no_paths_of_one_machine():
    private = re.compile(rb"(?<![\w.:/-])/(home|work|root|Users|tmp/\w)/?[\w.-]*")
    allowed = re.compile(rb"/(home|work|root|Users|tmp/)[^\w]")
    for path in tracked_files():
        if not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" in content or path == Path(__file__):
            continue
        found = [match.group() for match in private.finditer(content) if not allowed.match(match.group())]
        assert not found, f"{path.relative_to(ROOT)}: {found[:3]}"
