"""The table of Keras models, in a terminal and in JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from glasscell.bench.keras_models import CALLS
from glasscell.bench.keras_rows import BACKENDS, KerasRow
from glasscell.bench.shapes import SHAPES
from glasscell.bench.table import TARGET, geometric_mean, left_out

if TYPE_CHECKING:
    from rich.table import Table


def ordered(rows: Iterable[KerasRow]) -> list[KerasRow]:
    """The worst last, by the smallest ratio of its backends; rows without any are the first."""
    return sorted(rows, key=lambda row: -min(row.ratios.values(), default=float("inf")))


def keras_table(rows: Sequence[KerasRow], with_times: bool = True) -> Table:
    """One line a row, the worst last.

    Columns of each backend: Keras's time as a multiple of ours, marked where our layer ran as the framework's own
    loop; with `with_times` our milliseconds before it, and the sizes.
    """
    from rich.table import Table

    view = Table("shape", *(["B,T,I,H"] if with_times else []), "variant", "call")
    for backend in BACKENDS:
        if with_times:
            view.add_column(f"{backend}\nms", justify="right", no_wrap=True)
        view.add_column(f"Keras on\n{backend}", justify="right", no_wrap=True)
    for column in view.columns:
        column.no_wrap = True
    for row in ordered(rows):
        cells = [row.shape, *([",".join(map(str, SHAPES[row.shape]))] if with_times else []), row.variant]
        cells.append(row.call.removesuffix("_on_batch"))
        for backend in BACKENDS:
            timed = backend in row.seconds
            if with_times:
                cells.append(f"{row.seconds[backend]['glasscell'] * 1e3:.4g}" if timed else "")
            mark = "" if row.engines.get(backend) == "native" else "*"
            cells.append(f"{row.ratios[backend]:.2f}{mark}" if timed else "")
        view.add_row(*cells)
    return view


def keras_summary(rows: Sequence[KerasRow]) -> list[str]:
    """What stands below the table: what the numbers mean, the means, the defeats, and who was left out and why."""
    lines = [
        "Keras models of one layer, train_on_batch and predict_on_batch: Keras's time as a multiple of ours, on each "
        "backend; * where our layer ran as Keras's own loop, not natively."
    ]
    for call in CALLS:
        for backend in BACKENDS:
            chosen = [row for row in rows if row.call == call and backend in row.ratios]
            if not chosen:
                continue
            ratios = [row.ratios[backend] for row in chosen]
            defeats = sum(ratio < TARGET for ratio in ratios)
            framework = sum(row.engines[backend] != "native" for row in chosen)
            lines.append(
                f"{call} on {backend}: geometric mean {geometric_mean(ratios):.2f}, worst {min(ratios):.2f}, "
                f"below {TARGET} of Keras: {defeats} of {len(ratios)} rows, not native: {framework}"
            )
    return lines + left_out(
        (f"{backend}: {why}", f"{row.shape} {row.variant} {row.call}")
        for row in rows
        for backend, why in row.left_out.items()
    )


def keras_as_json(rows: Iterable[KerasRow]) -> list[dict[str, Any]]:
    """The rows as plain values."""
    return [
        {
            "shape": row.shape,
            "sizes": SHAPES[row.shape]._asdict(),
            "variant": row.variant,
            "call": row.call,
            "seconds": row.seconds,
            "engines": row.engines,
            "ratios": row.ratios,
            "left_out": row.left_out,
        }
        for row in rows
    ]
