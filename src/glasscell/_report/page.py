"""The parts of a report page, and how it is written. `page.html.j2` says how a page looks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from glasscell._files import write_whole


@dataclass(frozen=True)
class Card:
    """One picture with its words."""

    title: str
    svg: str
    caption: str
    symbol: str = ""
    fact: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, code and cards; `wide` cards stand two in a row, others three."""

    title: str
    text: tuple[str, ...] = ()
    cards: tuple[Card, ...] = ()
    code: str = ""
    code_label: str = "The equations of the cell"
    wide: bool = False


def write_page(path: str | os.PathLike[str], **context: Any) -> Path:
    """Fill the template, write the page whole or not at all. context: the template's names. Returns: its path."""
    loader = PackageLoader("glasscell", "_report")
    templates = Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, autoescape=True)
    templates.undefined = StrictUndefined
    html = templates.get_template("page.html.j2").render({"scores": [], "facts": [], "verdict": "", **context})
    write_whole(Path(path), html)
    return Path(path)


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"
