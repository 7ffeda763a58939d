"""The benchmark's table, in a terminal and in JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from glasscell.bench.measure import Row
from glasscell.bench.shapes import SHAPES
from glasscell.engine import show_config

if TYPE_CHECKING:
    from rich.table import Table

TARGET = 0.97  # of the best peer's speed: below it a row is a defeat
PACKAGES = ("torch", "onnx", "onnxruntime", "openvino", "keras", "tensorflow", "tensorflow-cpu", "jax", "jaxlib")


def ordered(rows: Iterable[Row]) -> list[Row]:
    """The worst last, by the ratio to the best peer; before them all, rows without peers, by the ratio to our own."""
    return sorted(rows, key=lambda row: (row.ratio is not None, -(row.ratio or 0.0), row.own_ratio or 0.0))


def table(rows: Sequence[Row], every_peer: bool = True) -> Table:
    """One line a row, the worst last.

    Columns: our milliseconds, the share of the roofline, our time as a multiple of our own baseline, the best peer's
    as a multiple of ours; with `every_peer` a column of such multiples for each other contestant.
    """
    from rich.table import Table

    others = list(dict.fromkeys(name for row in rows for name in row.seconds if name != "glasscell"))
    peers = [name.replace("glasscell.", "glasscell\n.").replace(" ", "\n") for name in others] if every_peer else []
    own = ["times\nown base"] if any(row.own_ratio for row in rows) else []
    view = Table("shape", "B,T,I,H", "mode", "ms", "of\nroofline", *own, *peers, "best peer")
    for column in view.columns:
        column.no_wrap = True
    for column in view.columns[3:-1]:
        column.justify = "right"
    for row in ordered(rows):
        ours = row.seconds["glasscell"]
        times = [f"{row.seconds[name] / ours:.2f}" if name in row.seconds else "" for name in others]
        view.add_row(
            row.shape,
            ",".join(map(str, SHAPES[row.shape])),
            row.mode,
            f"{ours * 1e3:.4g}",
            f"{row.share:.0%}",
            *([] if not own else [""] if row.own_ratio is None else [f"{row.own_ratio:.2f}"]),
            *(times if every_peer else []),
            "" if row.best_peer is None else f"{row.ratio:.2f} {row.best_peer[0]}",
        )
    return view


def summary(rows: Sequence[Row]) -> list[str]:
    """What stands below the table: what the numbers mean, the means, the defeats, and who was left out and why."""
    lines = ["Peers: their time as a multiple of ours, so above 1 glasscell is faster.", threads_and_limits(rows)]
    if any(row.own_ratio for row in rows):
        lines.insert(
            1, "Own base: our padded time by the steps kept (lengths), our time without dropout, or of a forward"
        )
        lines.insert(2, "pass that keeps its tape (trace); near 1, the mode costs nothing.")
    for mode in dict.fromkeys(row.mode for row in rows):
        chosen = [row for row in rows if row.mode == mode]
        best = geometric_mean(row.ratio for row in chosen if row.ratio is not None)
        keras = [row.seconds.get("Keras on TensorFlow", math.nan) / row.seconds["glasscell"] for row in chosen]
        against = geometric_mean(ratio for ratio in keras if not math.isnan(ratio))
        means = [f"best peer {best:.2f}"] if best else []
        means += [f"Keras on TensorFlow {against:.2f}"] if against else []
        if means:
            lines.append(f"{mode}, geometric mean: {', '.join(means)}")
    return [*lines, defeats(rows), *left_out_of(rows)]


def threads_and_limits(rows: Sequence[Row]) -> str:
    limits = [row.limits for row in rows]
    return (
        f"{limits[0].threads} threads, {max(m.peak_flops for m in limits) / 1e9:.0f} GFLOP/s, "
        f"{max(m.l2_bandwidth for m in limits) / 1e9:.0f} GB/s from L2, as measured in between."
    )


def defeats(rows: Sequence[Row]) -> str:
    ratios = [row.ratio for row in rows if row.ratio is not None]
    return f"below {TARGET} of the best peer: {sum(ratio < TARGET for ratio in ratios)} of {len(ratios)} rows"


def left_out_of(rows: Sequence[Row]) -> list[str]:
    return left_out((f"{name}: {why}", f"{row.shape} {row.mode}") for row in rows for name, why in row.left_out.items())


def left_out(entries: Iterable[tuple[str, str]]) -> list[str]:
    """A line for each reason, with the rows it holds for. entries: (who and why, row) each."""
    rows: dict[str, list[str]] = {}
    for why, row in entries:
        rows.setdefault(why, []).append(row)
    return [f"left out: {why} ({', '.join(where)})" for why, where in rows.items()]


def geometric_mean(ratios: Iterable[float]) -> float | None:
    """None of nothing."""
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(sum(logs) / len(logs)) if logs else None


def as_json(rows: Sequence[Row]) -> dict[str, Any]:
    """The machine, the versions, and the rows as plain values."""
    return {
        "machine": show_config(),
        "versions": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "rows": [
            {
                "shape": row.shape,
                "sizes": SHAPES[row.shape]._asdict(),
                "mode": row.mode,
                "seconds": row.seconds,
                "floor_seconds": row.floor,
                "baseline_seconds": row.baseline,
                **row.limits._asdict(),
                "share_of_roofline": row.share,
                "ratio_to_best_peer": row.ratio,
                "times_own_baseline": row.own_ratio,
                "left_out": row.left_out,
            }
            for row in rows
        ],
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
