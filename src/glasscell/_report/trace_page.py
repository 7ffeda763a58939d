"""Writes the page of traces: every gate and state of every step, with explanations."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glasscell._report.data import Answer, trace_data
from glasscell._report.size import FLOATS, Part, count, left_out, part_of
from glasscell._report.write import check_path, write_page
from glasscell._trace import Trace


def trace_report(
    path: str | os.PathLike[str],
    traces: Mapping[str, Trace],
    title: str = "What the cell did",
    *,
    answer: Answer | None = None,
) -> Path:
    """Write a page of traces.

    path: the HTML file; an existing one is replaced, whole or not at all. traces: by name ("" for a single one).
    answer: the Dense layer that reads the h of all traces, where it is known.
    Returns: its path.
    Raises: ValueError for an empty trace, naming its shape; TypeError for a path of another kind; OSError where the
    file cannot be written.
    """
    check_path(path)
    parts = parts_of(traces)
    lead = "; ".join(_sizes(name, trace) for name, trace in traces.items())
    return write_page(path, title=title, lead=f"{lead}.", data=page_data(traces, parts, answer=answer))


def parts_of(traces: Mapping[str, Trace]) -> dict[str, Part]:
    """Chooses the part of each trace to show. Raises: ValueError for a trace without a row, a step or a unit."""
    for trace in traces.values():
        if 0 in trace.h.shape:
            raise ValueError(f"trace: expected at least one row, step and unit, got (B, T, H) = {trace.h.shape}")
    return {name: part_of(trace, FLOATS // len(traces)) for name, trace in traces.items()}


def page_data(
    traces: Mapping[str, Trace],
    parts: Mapping[str, Part],
    *,
    answer: Answer | None = None,
    row_names: Sequence[str] | None = None,
    **others: Any,
) -> dict[str, Any]:
    """Makes the data of a page. row_names: by default "row 0" and so on. others: further entries for the scripts."""
    cells = []
    for name, trace in traces.items():
        rows = row_names or [f"row {row}" for row in range(parts[name].rows)]
        cells.append({**trace_data(trace, parts[name], name, rows, answer), "leftOut": left_out(trace, parts[name])})
    return {"cells": cells, **others}


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _sizes(name: str, trace: Trace) -> str:
    """Words the size of a trace."""
    batch, steps, units = trace.h.shape
    said = f"{count(units, 'unit')}, {count(steps, 'step')}, {count(batch, 'sequence')}"
    return f"{name}: {said}" if name else said
