"""What stands below the table of PyTorch modules, whose rows are those of every other mode."""

from __future__ import annotations

from collections.abc import Sequence

from glasscell.bench.measure import Row
from glasscell.bench.table import defeats, geometric_mean, left_out_of, threads_and_limits


def torch_summary(rows: Sequence[Row]) -> list[str]:
    """What the numbers mean, the means and the worst of each mode, the defeats, and who was left out and why."""
    lines = [
        "glasscell.torch.LSTM and what PyTorch has in its place, forward, and backward by autograd: their time as a "
        "multiple of ours, so above 1 glasscell is faster.",
        threads_and_limits(rows),
        "Geometric means, the worst row in brackets:",
    ]
    for mode in dict.fromkeys(row.mode for row in rows):
        chosen = [row for row in rows if row.mode == mode]
        names = list(dict.fromkeys(name for row in chosen for name in row.seconds))
        for own in (name for name in names if name.startswith("glasscell")):
            means = []
            if best := [row.best_peer[1] / row.seconds[own] for row in chosen if row.best_peer]:
                means.append(f"best peer {geometric_mean(best):.2f} ({min(best):.2f})")
            for name in names:
                timed = [row for row in chosen if name in row.seconds]
                if not name.startswith("glasscell"):
                    ratios = [row.seconds[name] / row.seconds[own] for row in timed]
                    means.append(f"{name} {geometric_mean(ratios):.2f} ({min(ratios):.2f})")
            lines.append(f"{mode.removeprefix('torch ')}{own.removeprefix('glasscell')}: {', '.join(means)}")
    return [*lines, defeats(rows), *left_out_of(rows)]
