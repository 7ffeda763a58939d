"""The repository itself: what an import costs, the public names, the versions, and the rules of the house."""

import ast
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
from glasscell import _native, insight
from glasscell._cells import activations

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "glasscell"
PUBLIC = {
    "Bidirectional",
    "LSTM",
    "LSTMCell",
    "LSTMWeights",
    "RNN",
    "StackedRNNCells",
    "Stream",
    "Trace",
    "num_threads",
    "set_num_threads",
    "show_config",
}
INSIGHT = {
    "GateTerms",
    "GradientFlow",
    "MemorySources",
    "OutputSources",
    "Saturation",
    "gate_terms",
    "gradient_flow",
    "half_life",
    "memory_sources",
    "output_sources",
    "saturation",
}


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


def test_public_names_of_insight():
    assert set(insight.__all__) == INSIGHT
    shown = {name for name, value in vars(insight).items() if not (name.startswith("_") or inspect.ismodule(value))}
    assert shown == INSIGHT


def test_users_are_shown_public_names_only():
    """Names that begin with an underscore promise nothing: no page or example that users read leads to one."""
    shown = [ROOT / "README.md", *(ROOT / "examples").glob("*.py"), *(ROOT / "docs").rglob("*.md")]
    for path in shown:
        found = re.findall(r"(?:glasscell|gc)(?:\.\w+)*\._\w+", path.read_text())
        assert not found, f"{path.name}: {found}"


@pytest.mark.parametrize("name", sorted(PUBLIC | INSIGHT))
def test_public_names_have_docstrings(name):
    value = getattr(insight if name in INSIGHT else glasscell, name)
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


def test_names_of_test_files_are_unique():
    """Each file of tests is a module by its name alone: pytest refuses a second one."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py")]
    assert [name for name in set(names) if names.count(name) > 1 and name != "conftest.py"] == []


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


def test_native_names_are_those_of_the_enumerations():
    """What Python reads from the module by position stands in C++ twice, side by side: as numbers and as names."""
    assert set(_native.ACTIVATIONS) == set(activations.BUILT_IN)
    text = "".join(path.read_text() for path in (ROOT / "native").rglob("*.h"))
    for enumeration, names in (
        ("Activation", "ACTIVATIONS"),
        ("Input", "INPUTS"),
        ("Residual", "RESIDUALS"),
        ("OptionCode", "OPTION_CODES"),
    ):
        (body,) = re.findall(rf"enum (?:class )?{enumeration} [^{{;]*{{([^}}]*)}}", text)
        members = [name for name in re.findall(r"\w+", body) if name not in ("kInputs", "kResiduals", "kOptionCodes")]
        aliases = {"final_h": "hT", "final_c": "cT"}
        snake = [re.sub(r"(?<!^)(?=[A-Z])", "_", name.removeprefix("k")).lower() for name in members]
        assert [aliases.get(name, name) for name in snake] == list(getattr(_native, names))
    for function in ("V<T> activate(", "V<T> derivative("):
        body = (ROOT / "native/kernel/activations.h").read_text().partition(function)[2]
        cases = re.findall(r"case Activation::(\w+)", body)[: len(_native.ACTIVATIONS)]
        assert cases == list(_native.ACTIVATIONS)


def test_the_stub_of_the_native_module_is_true():
    """`_native.pyi` names what the module has, and the arguments that its functions show."""
    stub = ast.parse((SOURCE / "_native.pyi").read_text())
    declared = {n.name for n in stub.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    declared |= {n.target.id for n in stub.body if isinstance(n, ast.AnnAssign)}
    assert declared == {name for name in vars(_native) if not name.startswith("_")}
    for function in (n for n in ast.walk(stub) if isinstance(n, ast.FunctionDef) and not n.name.startswith("__")):
        owner = _native if hasattr(_native, function.name) else _native.StreamFloat
        shown = re.findall(r"(\w+): ", getattr(owner, function.name).__doc__.splitlines()[0])
        arguments = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        if not all(re.fullmatch(r"self|arg\d*", name) for name in shown):
            assert [a for a in shown if a != "self"] == [a for a in arguments if a != "self"], function.name


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
