"""Runs the Python of a page, top to bottom in one namespace, and compares what it prints with what the page shows.

    python docs/run.py docs/cell.md

A ```text block right after a ```python block is what that block prints. A block whose first line is a comment such as
`# KERAS_BACKEND=torch` runs alone, in a process of its own with this setting. Code finds the folder docs/_static as
`_static`, and writes the figures of the page there.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).parent
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)
SETTING = re.compile(r"# KERAS_BACKEND=(\w+)\n")


class Block(NamedTuple):
    """A block of Python, the line of the page on which it begins, and what the page says that it prints, or None."""

    code: str
    line: int
    printed: str | None


def blocks(page: Path) -> list[Block]:
    """The blocks of Python in a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(m[1], text[: m.start(1)].count("\n") + 1, m[2]) for m in BLOCK.finditer(text)]


def run(page: Path) -> dict[str, Any]:
    """Runs a page in the current folder. Returns: the names that its code leaves.

    Raises: what its code raises; AssertionError where it prints something else than the page shows.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        setting = SETTING.match(block.code)
        printed = _run_alone(block, setting[1]) if setting else _run_here(block, page, namespace)
        if block.printed is not None and printed != block.printed:
            shown = f"it prints\n{printed}and the page shows\n{block.printed}"
            raise AssertionError(f"{page.name}, line {block.line}: {shown}")
    return namespace


def _run_here(block: Block, page: Path, namespace: dict[str, Any]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        # With the lines before it, so that an error names the line of the page.
        exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), namespace)
    return printed.getvalue()


def _run_alone(block: Block, backend: str) -> str:
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", block.code], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"line {block.line}, on {backend}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    pages = [Path(name).resolve() for name in sys.argv[1:]]
    # The same file each time: no date in it, and no random names (those are in docs/matplotlibrc).
    os.environ |= {"MPLBACKEND": "agg", "SOURCE_DATE_EPOCH": "0"}
    os.chdir(DOCS)
    for path in pages:
        run(path)
