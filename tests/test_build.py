"""The build on a machine that lacks something: one sentence, which says what to install."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

needs_cmake = pytest.mark.skipif(
    not (shutil.which("cmake") and shutil.which("ninja")), reason="no cmake and ninja of the machine's own"
)


@pytest.fixture
def machine(tmp_path):
    """A machine with CMake and no more; its folder of programs, and what `configure` there says."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("cmake", "ninja", "uname"):
        (programs / name).symlink_to(shutil.which(name))

    def configure(*options, **environment):
        python = f"-DPython_EXECUTABLE={sys.executable}"
        command = ["cmake", "-S", ROOT, "-B", tmp_path / "build", "-G", "Ninja", python]
        clean = {name: value for name, value in os.environ.items() if name not in ("CXX", "CC")}
        environment = {**clean, "PATH": str(programs), **environment}
        done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True)
        return done.returncode, re.sub(r"\s+", " ", done.stderr)

    return programs, configure


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@needs_cmake
def test_no_compiler(machine):
    programs, configure = machine
    no_compiler = (
        "glasscell is built from C++, and found no compiler that works. Debian, Ubuntu: apt install g++; Fedora: dnf "
        "install gcc-c++; macOS: xcode-select --install; Windows: in WSL, as on Ubuntu. "
    )
    code, said = configure()
    assert code == 1
    assert said.partition(" (message): ")[2] == no_compiler
    program(programs / "g++", "exit 1")
    code, said = configure()
    assert said.partition(" (message): ")[2] == no_compiler


@needs_cmake
@pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
def test_an_old_compiler_is_named_and_the_next_one_is_taken(machine, tmp_path):
    programs, configure = machine
    compiler = shutil.which("g++")
    program(programs / "g++", f'case "$*" in *std=*17*) exit 1;; esac\nPATH=/usr/bin:/bin exec {compiler} "$@"')
    code, said = configure("-DGLASSCELL_DIGEST=ON")
    assert code == 1
    needed = rf"glasscell needs a compiler of C\+\+17, and {re.escape(str(programs))}/g\+\+ \(GNU [\d.]+\) is none: "
    assert re.search(needed + r"install a newer one, and name it in CXX\. $", said), said
    (programs / "g++").unlink()
    assert configure("-DGLASSCELL_DIGEST=ON", CXX=compiler, PATH=f"{programs}:/usr/bin:/bin") == (0, "")


@needs_cmake
@pytest.mark.skipif(not shutil.which("g++"), reason="no g++")
def test_no_headers_of_python(machine, tmp_path):
    code, said = machine[1](f"-DPython_INCLUDE_DIR={tmp_path / 'none'}", PATH=os.environ["PATH"])
    assert code == 1
    assert re.search(
        r": glasscell needs the header files of Python [\d.]+\. Debian, Ubuntu: apt install python3-dev; Fedora: dnf "
        r"install python3-devel\. $",
        said,
    ), said


def test_make_says_each_step_before_it_begins():
    """Whatever may take long, and is silent or prints pages, comes after a line that says what it is."""
    long = re.compile(r"\$\((PIP|INSTALL)\) |-m (venv|pip|pytest|benchmarks)\b|glasscell train")
    recipes = re.findall(r"^\S.*?:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert len(recipes) > 8
    steps = 0
    for recipe in recipes:
        said = False
        for line in re.sub(r"\\\n\s*", "", recipe).splitlines():
            said |= line.startswith("\t$(SAY) ")
            steps += bool(long.search(line))
            assert said or not long.search(line), line
    assert steps > 8
