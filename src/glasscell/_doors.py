"""Handles missing packages at import: chooses an installed backend for Keras, and says what to install."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
from pathlib import Path

# The packages that each optional module or command needs, by their names in pip.
NEEDS = {
    "glasscell.keras": "keras jax",
    "glasscell.torch": "torch",
    "glasscell.report": "matplotlib",
    "glasscell train": "keras jax rich scikit-learn typer",
    "glasscell": "typer",
}
BACKENDS = {"jax": "jax", "torch": "torch", "tensorflow": "tensorflow-cpu"}  # in the order of choice


def missing(door: str, error: ImportError) -> ImportError:
    """Makes the one-line error of a module or command (`door`) that needs a package which is not installed."""
    package = (error.name or "a package").partition(".")[0]
    return ImportError(f"{door} needs {package}, which is not installed: pip install {NEEDS[door]}", name=package)


def choose_backend() -> None:
    """Sets KERAS_BACKEND to an installed backend where Keras would choose another. Call it before Keras is imported.

    Keras itself reads KERAS_BACKEND, else its configuration file, else takes TensorFlow. A KERAS_BACKEND that is set is
    left as it is.

    Raises: ImportError, in one line, where no backend is installed, or the one in KERAS_BACKEND is not.
    """
    if "keras" in sys.modules:
        return
    asked = os.environ.get("KERAS_BACKEND")
    wanted = asked or _configured()
    if wanted not in BACKENDS or importlib.util.find_spec(wanted):
        return
    if asked:
        raise ImportError(
            f"glasscell.keras: KERAS_BACKEND is {wanted!r}, and {wanted} is not installed: "
            f"pip install {BACKENDS[wanted]}, or set KERAS_BACKEND to another backend",
            name=wanted,
        )
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    if not installed:
        raise ImportError("glasscell.keras needs a backend of Keras's: pip install keras jax", name=wanted)
    os.environ["KERAS_BACKEND"] = installed[0]
    logging.getLogger("glasscell").info("Keras runs on %s: %s is not installed", installed[0], wanted)


def _configured() -> str:
    """Reads the backend from Keras's configuration file; "tensorflow", Keras's default, where there is none."""
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    try:
        return str(json.loads((home / "keras.json").read_text()).get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):
        return "tensorflow"
