"""Claims of README that no other test holds: names, arguments, and what a call leaves to others."""

import inspect
import json
import re
import threading
import time
import tomllib
from importlib import resources
from importlib.metadata import version
from pathlib import Path

import jax
import keras
import numpy as np
import pytest
import tensorflow as tf
from packaging.requirements import Requirement

import glasscell as gc
from fresh import output_of
from glasscell._doors import NEEDS
from glasscell._ops import jax as jax_op
from glasscell._ops import tensorflow as tensorflow_op

ROOT = Path(__file__).parent.parent
BUILT = "docs/_build"  # by `make docs`
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_importing_glasscell_loads_numpy_and_nothing_else():
    script = (
        "import json, sys; before = set(sys.modules); import glasscell\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(json.dumps(sorted(loaded - sys.stdlib_module_names)))"
    )
    assert json.loads(output_of("-c", script)) == ["glasscell", "numpy"]


@pytest.mark.parametrize("name", ["LSTM", "LSTMCell", "RNN", "StackedRNNCells", "Bidirectional"])
def test_layers_in_numpy_take_the_arguments_of_keras(name):
    """By name, in Keras's order, with Keras's defaults."""
    theirs, ours = (inspect.signature(getattr(library, name)).parameters for library in (keras.layers, gc))
    shared = {argument: p.default for argument, p in theirs.items() if p.kind is not p.VAR_KEYWORD}
    assert {argument: ours[argument].default for argument in shared} == shared
    assert [argument for argument in ours if argument in shared] == list(shared)


def test_a_call_leaves_the_interpreter_to_other_threads():
    layer = gc.LSTM(256, return_sequences=True).build(256, seed=0)
    x, stamps, spans = np.zeros((64, 400, 256), "f4"), [], []

    def call():
        begun = time.perf_counter()
        layer(x)
        spans.append((begun, time.perf_counter()))

    thread = threading.Thread(target=call)
    thread.start()
    while thread.is_alive():
        stamps.append(time.perf_counter())
        time.sleep(0.0005)
    thread.join()
    ((begun, ended),) = spans
    quarter = (ended - begun) / 4
    assert sum(begun + quarter < stamp < ended - quarter for stamp in stamps) >= 3


def test_a_gpu_is_left_to_the_framework(monkeypatch):
    """PyTorch's layers are asked with tensors of another device, in tests/torch."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert jax_op.why_not_available(np.zeros(1)) == "JAX runs on gpu, and the native engine is for CPUs"
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [kind])
    reason = tensorflow_op.why_not_available(tf.zeros(1))
    assert reason == "TensorFlow sees a GPU, and the native engine is for CPUs"


def test_extras_and_commands_are_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set(re.findall(r"`\[([\w-]+)\]`", README.partition("\n## Install")[2]))
    assert len(named) > 5
    assert set(extras) >= named >= set(extras) - {"bench", "docs"}  # what `make bench` and `make docs` install
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"[`$] ?make (\w+)", README)) - targets == set()


def test_a_door_names_what_its_extra_declares():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    def packages(extra):
        found = set()
        for requirement in map(Requirement, extras[extra]):
            inside = [packages(other) for other in requirement.extras] if requirement.name == "glasscell" else ()
            found = found.union({requirement.name} - {"glasscell"}, *inside)
        return found

    doors = {"glasscell.keras": "keras", "glasscell.torch": "torch", "glasscell.report": "report"}
    doors["glasscell train"] = "train"
    for door, extra in doors.items():
        assert set(NEEDS[door].split()) == packages(extra)
    assert set(NEEDS) - set(doors) == {"glasscell"}  # the command line alone
    assert set(NEEDS["glasscell"].split()) <= packages("train")


def test_type_checkers_of_users_see_the_annotations():
    """py.typed tells them to look, and the stub says what the compiled module has (PEP 561)."""
    package = resources.files("glasscell")
    assert (package / "py.typed").is_file()
    assert (package / "_native.pyi").is_file()


def test_the_version_is_that_of_the_package():
    assert gc.__version__ == gc.show_config()["glasscell"] == version("glasscell")
    with pytest.raises(AttributeError, match="no attribute 'version'"):
        _ = gc.version


def test_files_that_are_named_are_there():
    paths = set(re.findall(r"\b((?:src|native|tests|tools|docs|examples|benchmarks)/[\w./-]*\w)", README))
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists() and path != BUILT] == []
