"""`python -m benchmarks`: run a plan, or read what earlier runs wrote; print the tables, write the files."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import glasscell as gc
from benchmarks.run import run
from benchmarks.shapes import GRIDS, MODES, plan
from benchmarks.tables import frame, replaced, show
from glasscell._files import write_whole

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PACKAGES = ("torch", "onnx", "onnxruntime", "openvino", "keras", "tensorflow", "tensorflow-cpu", "jax", "jaxlib")


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit codes: 1 a wrong result or a file that cannot be written, 2 bad arguments, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time glasscell beside the peers that are installed, in turn, with equal threads, each result "
        "checked first. Close everything else.",
    )
    add, file = parser.add_argument, dict[str, Any](type=Path, metavar="FILE")
    add("--grid", choices=GRIDS, default="quick", help="which shapes (default: quick)")
    add("--mode", choices=MODES, action="append", help="only this one; can be given several times")
    add("--json", **file, help="also write what was measured, anew with each row")
    add("--from", **file, nargs="+", dest="files", help="time nothing: what earlier runs wrote")
    add("--plot", type=_picture, metavar="FILE", help="also draw inference and training (.svg, .png, .pdf)")
    add("--docs", action="store_true", help="also put the tables into docs/benchmarks.md")
    given = parser.parse_args(arguments)
    try:
        if given.files:
            records = [r for file in given.files for r in json.loads(file.read_text(encoding="utf-8"))["records"]]
        else:
            records = measure(plan(given.grid, given.mode or ()), given.json, given.plot)
        table = frame(records)
        print(*show(table, shutil.get_terminal_size().columns), sep="\n")
        if given.docs:
            PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), table), encoding="utf-8")
        if given.plot is not None:
            from benchmarks.plot import plot

            plot(table, given.plot)
    except (RuntimeError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {' '.join(str(error).split())}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: interrupted\n")


def _picture(name: str) -> Path:
    if Path(name).suffix not in (".svg", ".png", ".pdf"):
        raise argparse.ArgumentTypeError(f"expected a name in .svg, .png or .pdf, got {name}")
    return Path(name)


def measure(
    rows: Sequence[tuple[str, str]], json_file: Path | None = None, plot_file: Path | None = None
) -> list[dict[str, Any]]:
    """The records of a plan. Each row is a line; on a terminal a last line tells what is going on.

    The JSON file is written anew with each row: what is there outlives a run that is cut off.
    """
    for file in filter(None, (json_file, plot_file)):
        file.open("a").close()  # what cannot be written shows before the work
    records: list[dict[str, Any]] = []
    versions = {d.name: d.version for d in metadata.distributions() if d.name in PACKAGES}
    known = {"machine": gc.show_config(), "versions": versions}

    def say(text: str) -> None:
        if sys.stdout.isatty():
            print(f"\r\x1b[K{text}", end="", flush=True)  # in place of what was said before

    for done, row in enumerate(run(rows, say), 1):
        records += row
        if json_file is not None:
            write_whole(json_file, json.dumps({**known, "records": records}, indent=1) + "\n")
        say("")
        print(f"{done} of {len(rows)}: {row[0]['shape']}, {row[0]['mode']}", flush=True)
    return records


if __name__ == "__main__":
    main()
