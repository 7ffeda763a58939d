"""Makes one HTML file from the templates, styles and scripts in `page/` and a page's data.

The scripts are ES modules. A page loads no other file, so all modules are joined into one: each after those that it
imports, without its `import` lines and the word `export`. So top-level names must be unique over all files, which a
test checks.

A content security policy allows only the page's own scripts and styles, by their digests: a script that a hostile name
smuggled in would not run.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import re
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from glasscell._files import write_whole
from glasscell._report.data import as_json

FOLDER = resources.files("glasscell._report") / "page"
IMPORT = re.compile(r'^import (?:\{[^}]*\} from )?"\.\.?/([\w./-]+)";\n', re.M)


def write_page(
    path: str | os.PathLike[str], *, title: str, lead: str, data: Any, above: str = "", below: str = ""
) -> Path:
    """Write a page, whole or not at all. above, below: markup around the views. Returns: its path.

    Raises: TypeError for a path of another kind; OSError where the file cannot be written.
    """
    check_path(path)
    style, script = styles(), scripts()
    html = filled(
        "page.html", title=escape(str(title)), lead=escape(lead), above=above, below=below, style=style, script=script,
        data=as_json(data), style_digest=_digest(style), script_digest=_digest(script),
    )  # fmt: skip
    try:
        write_whole(Path(path), html)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"path: expected a file that can be written, got {reason}", str(path)) from None
    return Path(path)


def filled(name: str, **values: str) -> str:
    """Fills the template of this name with values, which must be markup already."""
    return Template((FOLDER / name).read_text(encoding="utf-8")).substitute(values)


def check_path(path: Any) -> None:
    """Checks, before any work, that a page can be written to this path. Raises: TypeError or OSError."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: expected the name of a file, such as 'report.html', got {type(path).__name__}")
    file = Path(path)
    if not file.name or file.is_dir():
        raise IsADirectoryError(f"path: expected the name of a file, got the folder '{file}'; add a name to it")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"path: expected a file in a folder that is there, got '{file}'; make the folder first")


@functools.cache
def styles() -> str:
    """Joins all styles, in the order of their names."""
    files = sorted((file for file in (FOLDER / "style").iterdir()), key=lambda file: file.name)
    return "".join(file.read_text(encoding="utf-8") for file in files)


@functools.cache
def scripts() -> str:
    """Joins all scripts to one module, each after those that it imports."""
    placed: dict[str, str] = {}
    _place("main.js", placed)
    return "".join(placed.values())


def _place(name: str, placed: dict[str, str]) -> None:
    text = FOLDER.joinpath(*name.split("/")).read_text(encoding="utf-8")
    for imported in IMPORT.findall(text):
        if "/" not in imported:
            imported = f"{name.rpartition('/')[0]}/{imported}".lstrip("/")
        if imported not in placed:
            _place(imported, placed)
    placed[name] = re.sub(r"^export ", "", IMPORT.sub("", text), flags=re.M)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
