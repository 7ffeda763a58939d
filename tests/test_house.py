"""The house: which room may know which, in Python and in C++, and that CONTRIBUTING's map shows it as it is."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE, NATIVE = ROOT / "src" / "glasscell", ROOT / "native"

# What each room of the package may import beside itself. A room is a folder or a file of src/glasscell.
PYTHON = {
    "_files": set(),
    "_cells": set(),
    "_ops": {"_native", "_cells"},
    "_trace": {"_cells", "_ops"},
    "_trace_files": {"_cells", "_files", "_trace"},
    "_layers": {"_native", "_cells", "_ops", "_trace"},
    "keras": {"_cells", "_doors", "_ops", "_trace"},
    "torch": {"_cells", "_doors", "_ops", "_trace"},
    "insight": {"_cells", "_trace"},
    "_report": {"_files"},
    "data": set(),
    "threads": {"_native"},
    "_config": {"_native"},
    "_doors": set(),
    "__main__": {"_cli"},
    "_training": {"keras", "_files", "_report", "data", ""},  # "": the public names of `glasscell`
    "_cli": {"_native", "_cells", "_doors", "_layers", "keras", "torch", "_training", "data", "threads", ""},
    "": {"_config", "_cells", "_layers", "_ops", "_trace", "threads"},
}
# Imports against the arrows, each inside the one function that needs it.
WHEN_CALLED = {
    ("_trace", "_write_report", "_report"),
    ("_trace", "_write_report", "_doors"),
    *(("_trace", function, "_trace_files") for function in ("save", "load", "to_xarray")),
}

CPP = {
    "interface": {"interface"},
    "simd": {"simd"},
    "kernel": {"kernel", "simd", "interface"},
    "engine": {"engine", "interface"},
    "bindings": {"bindings", "engine", "interface"},
}
LSTM = r"\b(gates?|cells?|(?<!translation )units?|lstm|recurrent|forget|dropout|batch)\b"


def room_of(path):
    name = path.relative_to(PACKAGE).parts[0]
    return "" if name == "__init__.py" else name.removesuffix(".py").removesuffix(".pyi")


def imports(path):
    """The rooms that a file imports, with the function that does it, or None."""

    def visit(node, function):
        if isinstance(node, ast.FunctionDef):
            function = node.name
        names = []
        if isinstance(node, ast.Import):
            names = [(alias.name.split("."), None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [(node.module.split("."), alias.name) for alias in node.names]
        for (package, *rest), name in names:
            if package == "glasscell":
                room = rest[0] if rest else name
                known = {room_of(p) for p in PACKAGE.iterdir()}
                yield (room if room in known else ""), function
        for child in ast.iter_child_nodes(node):
            yield from visit(child, function)

    return set(visit(ast.parse(path.read_text()), None))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    room = room_of(path)
    for other, function in imports(path):
        allowed = other == room or other in PYTHON[room] or (room, function, other) in WHEN_CALLED
        assert allowed, f"{room or 'glasscell'} may not import {other or 'glasscell'}"


def test_the_arrows_have_no_circle():
    """Each room can be placed after all those that it knows."""
    placed, left = {"_native"}, dict(PYTHON)
    while ready := [room for room, others in left.items() if others <= placed]:
        placed |= set(ready)
        for room in ready:
            del left[room]
    assert not left


def test_imports_are_found():
    """The walk above sees imports inside functions, and those of rooms and of public names."""
    assert ("_report", "_write_report") in imports(PACKAGE / "_trace.py")
    assert ("_cells", None) in imports(PACKAGE / "__init__.py")
    assert ("keras", "build_model") in imports(PACKAGE / "_training" / "model.py")
    assert ("", None) in imports(PACKAGE / "_training" / "measure.py")


@pytest.mark.parametrize("path", sorted(NATIVE.rglob("*.[hc]*")), ids=lambda path: str(path.relative_to(NATIVE)))
def test_includes_run_one_way(path):
    room = path.relative_to(NATIVE).parts[0]
    text = path.read_text()
    for included in re.findall(r'#include "([^"]+)"', text):
        if included.startswith("xla/"):
            assert room == "bindings", f"{room} includes a framework's header: {included}"
            continue
        assert (NATIVE / included).is_file(), f"{included}: name it from native/"
        assert included.split("/")[0] in CPP[room], f"{room} may not include {included}"
    if room != "bindings":
        assert not re.search(r"#include <(nanobind|Python)", text), f"{room} knows Python"
    if room in ("simd", "kernel"):
        # Templates of the standard library, compiled for two instruction sets, would be merged at link time.
        assert not re.search(r"#include <(?!initializer_list>|[\w/]+\.h>)", text)


def test_the_vector_layer_knows_no_lstm():
    for path in (NATIVE / "simd").iterdir():
        assert not re.search(LSTM, path.read_text(), re.IGNORECASE), path.name


def test_prefetches_are_inlined():
    """GCC drops the call of a function that does nothing but prefetch."""
    found = [line for path in NATIVE.rglob("*.h") for line in path.read_text().splitlines() if "void prefetch" in line]
    assert len(found) == 2
    assert all("GLASSCELL_INLINE" in line for line in found)


def test_every_file_is_in_a_room():
    assert {path.name for path in NATIVE.iterdir()} == {"README.md", *CPP}
    assert {room_of(path) for path in PACKAGE.rglob("*.py")} == set(PYTHON)


def test_contributing_maps_the_house():
    """Its map names every room, in order, and every path in its text exists."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (table,) = re.findall(r"```\n(src/glasscell/.*?)```", text, re.DOTALL)
    top, named = "", []
    for line in table.splitlines():
        name = line.split()[0]
        top = name if not line.startswith(" ") else top
        named.append(name if name == top else top + name)
    rooms = {f"src/glasscell/{path.name}" for path in PACKAGE.iterdir() if path.suffix == ".py"}
    rooms |= {f"{path.parent.relative_to(ROOT)}/" for top in (PACKAGE, NATIVE) for path in top.rglob("*.[phc]*")}
    assert {name for name in named if name.startswith(("src/", "native/"))} >= rooms - {"src/glasscell/__init__.py"}
    paths = re.findall(r"`((?:src|native|tests|benchmarks|tools|\.ci)/[\w./]*)`", text)
    assert len(paths) > 10
    for path in [*named, *paths]:
        assert (ROOT / path).exists(), path


def test_tests_mirror_the_rooms():
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders == {"native", "benchmarks", "docs"} | {
        room.removeprefix("_") for room in PYTHON if (PACKAGE / room).is_dir() and room
    }
