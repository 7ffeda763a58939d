"""What `glasscell bench` does: run a plan under a progress bar, print the tables, write the files."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from glasscell.bench import keras_rows
from glasscell.bench.keras_rows import KerasRow
from glasscell.bench.keras_table import keras_as_json, keras_summary, keras_table
from glasscell.bench.measure import Row, run
from glasscell.bench.shapes import family
from glasscell.bench.table import as_json, left_out, summary, table
from glasscell.bench.torch_table import torch_summary
from glasscell.bench.worker import missing

Path = str | os.PathLike[str]


def main(
    plan: Sequence[tuple[str, str]], json_file: Path | None = None, plot_file: Path | None = None
) -> tuple[list[Row], list[KerasRow]]:
    """Run the plan of `shapes.plan` and show it, Keras models and PyTorch modules in tables of their own.

    The rows of modules are among the others that it returns; without torch there are none. The JSON file is written
    anew with each row: what is there outlives a run that is cut off. Without a terminal each row is a line instead of
    a step of the progress bar.

    Raises: as `run`; OSError where a file cannot be written.
    """
    # What is missing, or cannot be written, shows before the work.
    if json_file is not None:
        open(json_file, "a").close()
    if plot_file is not None:
        from glasscell.bench.plot import plot

        plot([], plot_file)
    no_torch = [item for item in plan if family(item[1]) == "torch" and missing("torch")]
    plan = [item for item in plan if item not in no_torch]
    of_keras = [item for item in plan if family(item[1]) == "keras"]
    ordinary = [item for item in plan if item not in of_keras]
    console, rows, models = Console(), list[Row](), list[KerasRow]()

    def save() -> None:
        if json_file is not None:
            with open(json_file, "w", encoding="utf-8") as file:
                file.write(json.dumps({**as_json(rows), "keras": keras_as_json(models)}, indent=1) + "\n")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # No thread that draws: it would cost the contestants.
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("starting", total=len(plan))

        def done() -> int:
            return len(rows) + len({(row.shape, row.variant) for row in models})

        def say(text: str) -> None:
            progress.update(task, description=text, completed=done(), refresh=True)

        def add(some: list[Any], row: Any, name: str) -> None:
            some.append(row)
            save()
            if not console.is_terminal:
                console.print(f"{done()} of {len(plan)}: {name}", highlight=False, markup=False, soft_wrap=True)

        for row in run(ordinary, say) if ordinary else ():
            add(rows, row, f"{row.shape}, {row.mode}")
        for model in keras_rows.run(of_keras, say) if of_keras else ():
            add(models, model, f"{model.shape}, keras {model.variant}, {model.call}")
    save()  # where there was nothing to do, too

    def show(full: Table, compact: Table, lines: list[str]) -> None:
        console.print(full if console.measure(full).maximum <= console.width else compact)
        for line in lines:
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    of_torch = [row for row in rows if family(row.mode) == "torch"]
    for some, words in (([row for row in rows if row not in of_torch], summary), (of_torch, torch_summary)):
        if some:
            show(table(some), table(some, every_peer=False), words(some))
    for line in left_out((missing("torch"), f"{shape} {mode}") for shape, mode in no_torch):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if models:
        show(keras_table(models), keras_table(models, with_times=False), keras_summary(models))
    if plot_file is not None:
        plot(rows, plot_file)
    return rows, models
