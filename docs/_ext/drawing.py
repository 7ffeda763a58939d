"""Puts the drawing of the cell into the page itself, so that it follows the page from light to dark.

An image `![What it shows](_static/cell/cell.svg "forget")` shows the drawing; its title names the part that stands
out: `belt`, `sums`, `forget`, `write` or `read`. Without a title all of it does.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

DRAWING = "_static/cell/cell.svg"


def setup(app: Any) -> dict[str, bool]:
    app.add_post_transform(InlineDrawing)
    return {"parallel_read_safe": True}


def svg(source_folder: str | Path) -> str:
    """The drawing, as it may stand in a page."""
    return (Path(source_folder) / DRAWING).read_text(encoding="utf-8").strip()


class InlineDrawing(SphinxPostTransform):
    """Replaces each image of the drawing by the drawing."""

    default_priority = 5  # before images are collected
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for image in list(self.document.findall(nodes.image)):
            if not image["uri"].endswith(DRAWING):
                continue
            drawn = svg(self.app.srcdir)
            before, _, after = drawn.partition("aria-label=")
            label = escape(image.get("alt", ""))
            drawn = f'{before}aria-label="{label}"{after.partition(chr(34))[2].partition(chr(34))[2]}'
            part = escape(image.get("title", "all"))
            image.replace_self(nodes.raw("", f'<span class="drawing focus-{part}">{drawn}</span>', format="html"))
