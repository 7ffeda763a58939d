"""The way in where a package is missing: chooses Keras's backend, and says what to install."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
from pathlib import Path

# What each door needs, by the names that pip knows.
NEEDS = {
    "glasscell.keras": "keras jax",
    "glasscell.torch": "torch",
    "glasscell.report": "matplotlib",
    "glasscell train": "keras jax rich scikit-learn typer",
    "glasscell": "typer",
}
BACKENDS = {"jax": "jax", "torch": "torch", "tensorflow": "tensorflow-cpu"}  # in the order of choice


def missing(door: str, error: ImportError) -> ImportError:
    """Makes the one-line error of a door that needs a package which is not installed."""
    package = (error.name or "a package").partition(".")[0]
    return ImportError(f"{door} needs {package}, which is not installed: pip install {NEEDS[door]}", name=package)


def choose_backend() -> None:
    """Chooses Keras's backend where its own choice is not installed. To be called before Keras is imported.

    Keras takes KERAS_BACKEND, else its configuration file, else TensorFlow. A choice in KERAS_BACKEND stays as it is.

    Raises: ImportError, in one line, where no backend is installed, or that of KERAS_BACKEND is not.
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
    """The backend of Keras's configuration file; Keras writes one with its default when it finds none."""
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    try:
        return str(json.loads((home / "keras.json").read_text()).get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):
        return "tensorflow"
