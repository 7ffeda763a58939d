"""The report of a trace: every gate and state of every step, as heat maps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from glasscell._report import figures
from glasscell._report.page import Card, Section, count, percent, write_page

Array = npt.NDArray[Any]

MAX_ROWS = 8  # sequences shown on one page; every one takes six pictures

EQUATIONS = """\
i  = s(x W_i + h R_i + b_i)  input gate
f  = s(x W_f + h R_f + b_f)  forget gate
g  = a(x W_g + h R_g + b_g)  candidate
o  = s(x W_o + h R_o + b_o)  output gate
c' = f * c + i * g           cell state
h' = o * a(c')               hidden state"""

READING = (
    "Time runs from left to right, in the order of processing, and every row of a picture is one unit of the cell. "
    "Units are sorted by their mean forget gate, the longest memory on top, in the same order in all pictures; the "
    "ticks give their numbers. Steps and units count from 0, as in trace.f[row, step, unit]. Gates are fractions "
    "from 0, closed, to 1, open."
)


@dataclass(frozen=True)
class Panel:
    """One quantity of the cell: how it is drawn and what a reader should look for."""

    name: str
    title: str
    scale: figures.Scale
    caption: str


PANELS = (
    Panel("f", "Forget gate", "gate",
          "How much of its memory each unit keeps. Near 1 (yellow) the conveyor belt carries on; near 0 (dark) the "
          "unit starts afresh. Look for rows that stay yellow, the long memories, and for dark columns, the moments "
          "when much is forgotten at once."),
    Panel("i", "Input gate", "gate",
          "How much each unit writes into its memory. Look for the steps at which many units brighten together: "
          "there the cell met something worth noting."),
    Panel("g", "Candidate", "signed",
          "What would be written if the input gate were fully open: red adds, blue takes away. It counts only where "
          "the input gate is bright, because the memory receives i * g."),
    Panel("c", "Cell state, the conveyor belt", "signed",
          "The memory itself. A long stripe of one colour is something carried through time; colour that builds up "
          "is evidence being gathered; a stripe that flips is a memory replaced."),
    Panel("o", "Output gate", "gate",
          "How much of its memory each unit shows. A dark row with a strong colour in c remembers, but keeps silent."),
    Panel("h", "Hidden state, the output", "signed",
          "What the rest of the model sees, and what the cell hears of itself one step later. Compare with c: where "
          "h is paler, the output gate holds back."),
)  # fmt: skip


def trace_report(
    path: str | os.PathLike[str], traces: Mapping[str, Mapping[str, Array]], title: str = "What the cell did"
) -> Path:
    """Write a page of heat maps of the gates and states of traces; at most 8 rows, each with six pictures.

    traces: the arrays of each trace by name, each (B, T, H), as `Trace.asdict` gives them, under the trace's own name
    ("" for one alone).
    path: the HTML file; one that is there is replaced, whole or not at all. Returns: its path.
    Raises: ValueError for an empty trace, naming its shape; TypeError for a path of another kind; OSError where the
    file cannot be written.
    """
    _check_path(path)
    sections = [Section("How to read it", (READING,), code=EQUATIONS)]
    for name, trace in traces.items():
        sections += _rows(name, trace, max(1, MAX_ROWS // len(traces)), explain=len(sections) == 1)
    lead = "; ".join(_sizes(name, trace, len(traces)) for name, trace in traces.items())
    try:
        return write_page(path, eyebrow="glasscell trace", title=title, lead=lead + ".", sections=sections, footer="")
    except OSError as error:  # it names the file that was to be renamed
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"path: expected a file that can be written, got {reason}", str(path)) from None


def _check_path(path: Any) -> None:
    """Raises: TypeError or OSError where a page cannot stand at this path, before anything is drawn."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: expected the name of a file, such as 'report.html', got {type(path).__name__}")
    file = Path(path)
    if not file.name or file.is_dir():
        raise IsADirectoryError(f"path: expected the name of a file, got the folder '{file}'; add a name to it")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"path: expected a file in a folder that is there, got '{file}'; make the folder first")


def _rows(name: str, trace: Mapping[str, Array], most: int, explain: bool) -> list[Section]:
    """Makes a section for each of the first `most` rows of a trace; explain: whether the first has captions."""
    batch, steps, units = trace["f"].shape
    if 0 in (batch, steps, units):
        raise ValueError(f"trace: expected at least one row, step and unit, got (B, T, H) = {(batch, steps, units)}")
    sections = []
    for row in range(min(batch, most)):
        ran = int(np.sum(trace["mask"][row])) if "mask" in trace else steps
        text = () if ran == steps else (f"{ran} of {steps} steps ran; the mask skipped the rest (grey).",)
        heading = f"{name.capitalize()}, row {row}" if name else f"Row {row}"
        sections.append(Section(heading, text, panels(trace, row, explain=explain and row == 0)))
    return sections


def _sizes(name: str, trace: Mapping[str, Array], traces: int) -> str:
    """Says how large a trace is, and how many of its rows the page shows."""
    batch, steps, units = trace["f"].shape
    said = f"{count(units, 'unit')}, {count(steps, 'step')}, {count(batch, 'sequence')}"
    if (shown := max(1, MAX_ROWS // traces)) < batch:
        said += f"; the first {shown} are shown" if shown > 1 else "; the first is shown"
    return f"{name}: {said}" if name else said


def panels(trace: Mapping[str, Array], row: int, explain: bool = True) -> tuple[Card, ...]:
    """The six heat maps of one row, its units in one common order."""
    forget = np.ma.masked_invalid(trace["f"][row])
    order = np.argsort(-forget.mean(0).filled(0.0), kind="stable")
    return tuple(_panel(panel, trace[panel.name][row], order, explain) for panel in PANELS)


def _panel(panel: Panel, values: Array, order: Array, explain: bool) -> Card:
    (steps, units), fact = values.shape, _fact(values[np.isfinite(values)], panel.scale)
    label = f"Heat map of {panel.name}, the {panel.title.lower()}: {units} units over {steps} steps. {fact}"
    svg = figures.heat_map(values, panel.scale, label, order)
    return Card(panel.title, svg, panel.caption if explain else "", symbol=panel.name, fact=fact)


def _fact(values: Array, scale: figures.Scale) -> str:
    if not values.size:
        return "No step ran."
    if scale == "gate":
        open_, closed = (percent(float(np.mean(share))) for share in (values > 0.9, values < 0.1))
        return f"Mean {values.mean():.2f}; {open_} above 0.9, {closed} below 0.1."
    return f"From {values.min():.2f} to {values.max():.2f}; mean size {np.abs(values).mean():.2f}."
