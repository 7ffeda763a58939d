"""The directive `live-cell`: a cell that answers sliders, with the numbers of `glasscell.LSTMCell`.

Its equations are not written down a third time: they are the lines of `step` in src/glasscell/_cells/lstm.py, which
JavaScript reads as they stand there.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from docutils import nodes
from docutils.parsers.rst import Directive
from drawing import svg

from glasscell._cells import lstm
from glasscell.data import load_japanese_vowels

ASSIGNMENT = re.compile(r"    (\w+) = ([\w.,()*+ ]+)")  # what Python and JavaScript read alike
FRAME = Path(__file__).with_name("live_cell.html")
RECORDINGS = (0, 1, 2)
SCRIPTS = ("cell.js", "view.js", "live.js")


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("live-cell", LiveCell)
    return {"parallel_read_safe": True}


def equations() -> str:
    """The six equations as a function of JavaScript. Raises: ValueError where `step` has changed its form."""
    body = inspect.getsource(lstm.step).partition("recurrent_activation.function\n")[2].partition("    return")[0]
    found = [ASSIGNMENT.fullmatch(line) for line in body.splitlines()]
    names = [match[1] if match else None for match in found]
    if names != ["i", "f", "g", "o", "c_next", "h_next"]:
        raise ValueError(f"step in _cells/lstm.py: expected one line for each of i f g o c_next h_next, got {names}")
    lines = "".join(f"  const {match[1]} = {match[2]};\n" for match in found if match)
    return f"function cellEquations(z, c, a, s, xp) {{\n{lines}  return {{ i, f, g, o, c: c_next, h: h_next }};\n}}"


def trained_cell(folder: Path) -> dict[str, Any]:
    """The small trained cell, and some recordings as it receives them."""
    cell = json.loads((folder / "trained.json").read_text(encoding="utf-8"))
    test = load_japanese_vowels().test
    recordings = []
    for k in RECORDINGS:
        x = (test.x[k, : test.lengths[k]] - np.float32(cell["mean"])) / np.sqrt(np.float32(cell["variance"]))
        recordings.append({"name": f"recording {k}", "x": np.round(x.astype(float), 7).tolist()})
    return {**{name: cell[name] for name in ("kernel", "recurrent_kernel", "bias")}, "recordings": recordings}


def html(source_folder: str | Path, static: str) -> str:
    """All of the live cell, as it stands in a page. static: the address of the folder `_static/cell` from that page."""
    folder = Path(source_folder) / "_static" / "cell"
    frame = FRAME.read_text(encoding="utf-8").replace("{{ drawing }}", svg(source_folder))
    data = json.dumps(trained_cell(folder), separators=(",", ":"))
    scripts = "".join(f'<script src="{static}/{name}" defer></script>\n' for name in SCRIPTS)
    return (
        f'<link rel="stylesheet" href="{static}/live.css">\n{frame}\n<script>\n{equations()}\n</script>\n'
        f'<script type="application/json" id="trained-cell">{data}</script>\n{scripts}'
    )


class LiveCell(Directive):
    """Shows the live cell. Its text is for where the page is read unbuilt."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        env = self.state.document.settings.env
        folder = Path(env.srcdir) / "_static" / "cell"
        for path in (FRAME, folder / "trained.json", folder / "cell.svg", lstm.__file__):
            env.note_dependency(str(path))
        return [nodes.raw("", html(env.srcdir, "_static/cell"), format="html")]
