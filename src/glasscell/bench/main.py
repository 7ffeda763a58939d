"""What `glasscell bench` does: run a plan under a progress bar, print the table, write the files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from glasscell.bench.measure import Row, run
from glasscell.bench.table import as_json, summary, table

Path = str | os.PathLike[str]


def main(plan: Sequence[tuple[str, str]], json_file: Path | None = None, plot_file: Path | None = None) -> list[Row]:
    """Run the plan of `shapes.plan` and show it. Raises: as `run`; OSError where a file cannot be written."""
    # What is missing, or cannot be written, shows before the work.
    if json_file is not None:
        open(json_file, "a").close()
    if plot_file is not None:
        from glasscell.bench.plot import plot

        plot([], plot_file)
    console, rows = Console(), list[Row]()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # No thread that draws: it would cost the contestants.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("starting", total=len(plan))

        def say(text: str) -> None:
            progress.update(task, description=text, completed=len(rows), refresh=True)

        for row in run(plan, say):
            rows.append(row)
    full = table(rows)
    console.print(full if console.measure(full).maximum <= console.width else table(rows, every_peer=False))
    for line in summary(rows):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if json_file is not None:
        with open(json_file, "w", encoding="utf-8") as file:
            file.write(json.dumps(as_json(rows), indent=1) + "\n")
    if plot_file is not None:
        plot(rows, plot_file)
    return rows
