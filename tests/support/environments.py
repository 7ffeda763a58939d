"""Virtual environments that hold what an extra of glasscell declares and nothing else, within a second.

Each is a virtual environment of its own. Its packages are glasscell itself, and links to those of the environment that
runs the tests: the closure of the extra's requirements, so that a package nobody declared is missing there.
"""

import collections
import functools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

import glasscell

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def _key(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(name, extras=()):
    """The distributions that `name[extras]` needs, itself among them, as they declare for this machine."""
    found, left = {}, [(_key(name), frozenset(extras))]
    while left:
        name, extras = left.pop()
        if name in found and extras <= found[name]:
            continue
        found[name] = found.get(name, frozenset()) | extras
        for requirement in map(Requirement, _declared(name)):
            wanted = [{"extra": extra} for extra in found[name]] or [{"extra": ""}]
            if requirement.marker is None or any(map(requirement.marker.evaluate, wanted)):
                left.append((_key(requirement.name), frozenset(requirement.extras)))
    return set(found)


def _declared(name):
    """The requirements of a distribution; those of glasscell as this checkout declares them."""
    if name != "glasscell":
        return metadata.requires(name) or ()
    extras = PROJECT["optional-dependencies"].items()
    return [*PROJECT["dependencies"], *(f'{text}; extra == "{extra}"' for extra, texts in extras for text in texts)]


def _top_level(distribution):
    """The first parts of the paths of a distribution's files, in site-packages."""
    return {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}


@functools.cache
def _owners():
    """The distributions that have files under each name of site-packages."""
    owners = collections.defaultdict(set)
    for distribution in metadata.distributions():
        for name in _top_level(distribution):
            owners[name].add(_key(distribution.name))
    return owners


class Environment:
    """The virtual environment of `glasscell[extra]`, in a folder; without an extra it is that of the core."""

    def __init__(self, folder, *extras):
        self.folder, self.packages = folder, closure("glasscell", extras)
        venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
        self.python = folder / "bin" / "python"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.site = folder / "lib" / version / "site-packages"
        ours = Path(glasscell.__file__).parent
        shutil.copytree(ours, self.site / "glasscell", ignore=shutil.ignore_patterns("__pycache__"))
        for name, function in PROJECT["scripts"].items():
            self._add_script(name, function)
        for name in self.packages:
            self._add(metadata.distribution(name))

    def _add(self, distribution):
        for name in _top_level(distribution) - {"glasscell"}:
            if _owners()[name] <= self.packages:
                self._link(distribution, Path(name))
            else:  # a folder that several distributions share
                for file in distribution.files:
                    if file.parts[0] == name:
                        self._link(distribution, file)

    def _add_script(self, name, function):
        module, _, attribute = function.partition(":")
        path = self.folder / "bin" / name
        path.write_text(f"#!{self.python}\nimport sys; from {module} import {attribute}; sys.exit({attribute}())\n")
        path.chmod(0o755)

    def _link(self, distribution, name):
        link, source = self.site / name, Path(distribution.locate_file(name))
        if not link.exists() and source.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)

    def run(self, *command, text=None, cwd=None, **variables):
        """Runs a program of this environment, with no variable of Keras's, Python's or ours but those given."""
        dropped = ("KERAS_", "PYTHON", "GLASSCELL_", "PYTEST_", "VIRTUAL_ENV")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        path = os.pathsep.join([str(self.folder / "bin"), clean["PATH"]])
        clean |= {"PATH": path, "KERAS_HOME": str(self.folder / "keras"), **variables}
        command = [self.folder / "bin" / command[0], *map(str, command[1:])]
        return subprocess.run(command, input=text, cwd=cwd, env=clean, capture_output=True, text=True, timeout=300)
