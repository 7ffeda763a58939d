"""The benchmark's table, in a terminal and in JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from glasscell.bench.measure import Row
from glasscell.bench.shapes import SHAPES

if TYPE_CHECKING:
    from rich.table import Table


def table(rows: Sequence[Row]) -> Table:
    """One line a row, the worst last: milliseconds, share of the peak, and the times by which others are slower."""
    from rich.table import Table

    others = list(dict.fromkeys(name for row in rows for name in row.seconds if name != "glasscell"))
    view = Table("shape", "B,T,I,H", "mode", "ms", "of peak", *others, "best peer", title=_title(rows))
    for column in view.columns[3:]:
        column.justify = "right"
    for row in sorted(rows, key=lambda row: -row.ratio):
        ours = row.seconds["glasscell"]
        times = [f"{row.seconds[name] / ours:.2f}" if name in row.seconds else "-" for name in others]
        size = ",".join(map(str, SHAPES[row.shape]))
        view.add_row(row.shape, size, row.mode, f"{ours * 1e3:.3f}", f"{row.share:.0%}", *times, f"{row.ratio:.2f}")
    return view


def _title(rows: Sequence[Row]) -> str:
    ratios = [row.ratio for row in rows if row.ratio > 0]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
    peak = max(row.peak for row in rows) / 1e9
    return f"times slower than glasscell; best peer in geometric mean {mean:.2f}; peak {peak:.0f} GFLOP/s"


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain values."""
    return [
        {
            "shape": row.shape,
            "sizes": SHAPES[row.shape]._asdict(),
            "mode": row.mode,
            "seconds": row.seconds,
            "peak_flops": row.peak,
            "share_of_peak": row.share,
            "ratio_to_best_peer": row.ratio,
        }
        for row in rows
    ]
