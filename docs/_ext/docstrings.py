"""Makes reStructuredText of the docstrings of `src/`, which are plain text with code in backticks.

An indented paragraph is code, and so is one that begins with `>>>`; one that begins with `- ` is a list. In other
paragraphs what stands in backticks is code, names and a colon (`row, time: ...`, `Raises: ...`) begin an item, and no
other character is markup. An item begins a line, or a sentence where it names an argument.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Collection, Iterator
from typing import Any

NAMES = r"[A-Za-z_]\w*(?:,\s(?:and )?[A-Za-z_]\w*)*"
ITEM = re.compile(rf"({NAMES}): (?=\S)")


def setup(app: Any) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _process)
    app.connect("autodoc-skip-member", _skip_fields)
    return {"parallel_read_safe": True}


def _process(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    lines[:] = to_rst("\n".join(lines), _arguments(value)).splitlines()


def _skip_fields(app: Any, what: str, name: str, value: object, skip: bool, options: Any) -> bool | None:
    """Leaves out the fields of named tuples, which the docstring of their class explains."""
    return True if type(value).__name__ == "_tuplegetter" else None


def _arguments(value: Any) -> Collection[str]:
    try:
        return inspect.signature(value).parameters
    except (TypeError, ValueError):  # a module, a property
        return ()


def to_rst(docstring: str, arguments: Collection[str] = ()) -> str:
    """A docstring, without its indentation, as reStructuredText. arguments: the names that may begin an item."""
    paragraphs = re.split(r"\n[ \t]*\n", docstring.strip("\n"))
    return "\n\n".join(_code(p) if _is_code(p) else _prose(p, k, arguments) for k, p in enumerate(paragraphs)) + "\n"


def _is_code(paragraph: str) -> bool:
    return paragraph.startswith((" ", ">>>"))


def _code(paragraph: str) -> str:
    text = textwrap.dedent(paragraph)
    language = "pycon" if text.startswith(">>>") else "python" if _is_python(text) else "text"
    return f".. code-block:: {language}\n\n" + textwrap.indent(text, "   ")


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _prose(paragraph: str, number: int, arguments: Collection[str]) -> str:
    """A paragraph, cut before each item. In the first, which says what the thing is, arguments alone begin items."""
    text = re.sub(r"\n\s*", "\n", paragraph.strip())
    if text.startswith("- "):
        return "\n".join("- " + _inline(point.replace("\n", " ")) for point in text[2:].split("\n- "))
    parts = list(_parts(text, arguments, at_lines=number > 0))
    return "\n\n".join(_item(part.replace("\n", " ")) if item else _inline(part) for item, part in parts)


def _parts(text: str, arguments: Collection[str], at_lines: bool) -> Iterator[tuple[bool, str]]:
    """The text in pieces, each with whether it is an item."""
    starts = []
    for match in re.finditer(rf"(^|\n|[.;]\s)({ITEM.pattern})", text):
        known = any(name in arguments for name in re.findall(r"\w+", match[3]))
        if known or (at_lines and (not match[1] or "\n" in match[1])):
            starts.append(match.start(2))
    if not starts or starts[0] > 0:
        yield False, text[: starts[0] if starts else None]
    for start, end in itertools.pairwise([*starts, len(text)]):
        yield True, text[start:end]


def _item(text: str) -> str:
    match = ITEM.match(text)
    assert match
    return f"**{_escaped(match[1])}:** {_inline(text[match.end() :].strip())}"


def _inline(text: str) -> str:
    parts = re.split(r"`+([^`]+)`+", text)
    return "".join(rf"\ ``{part}``\ " if k % 2 else _escaped(part) for k, part in enumerate(parts))


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_|`<>\[\]:])", r"\\\1", text)
