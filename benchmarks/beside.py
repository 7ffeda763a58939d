"""`python -m benchmarks.beside`: times calls beside other programs, on all threads and on one, in turn.

A machine that others use has no least time that means anything. So every call counts, and medians are compared: all
threads beside one thread at the same moment, and ONNX Runtime likewise.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import glasscell as gc
from benchmarks.shapes import GRIDS, SHAPES
from benchmarks.tables import with_table
from glasscell._cli.bench import MODES, check
from glasscell._cli.contestants import Problem, Work, draw_problem, missing, numpy_lstm, onnx_lstm
from glasscell._files import write_whole

MOST = 1.25  # times what one thread takes at that moment: a row above it is behind
FEWEST = 12  # calls of each contestant
BURST = 3  # calls of one contestant in a row: the first one may find its threads asleep
BUSY = "while True: pass"
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
SITUATIONS = {"quiet": 0, "one busy process": 1, "two busy processes": 2, "spinning pools": 0}

Record = dict[str, Any]


@contextlib.contextmanager
def situation(name: str) -> Iterator[Callable[[], object]]:
    """Starts what runs beside. Gives what is to be called before each burst."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(SITUATIONS[name])]
    try:
        yield spinner() if name == "spinning pools" else lambda: None
    finally:
        for process in processes:
            process.kill()
            process.wait()


def spinner() -> Callable[[], object]:
    """Makes a call after which the threads of PyTorch's OpenMP runtime and of ONNX Runtime spin, as by default."""
    import onnxruntime
    import torch
    from onnx import TensorProto, helper

    size = [256, 256]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name in ("A", "B")]
    graph = helper.make_graph([helper.make_node("MatMul", ["A", "A"], ["B"])], "product", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    matrix = torch.ones(size)
    return lambda: (matrix @ matrix, session.run(None, {"A": matrix.numpy()}))


def works(problem: Problem, threads: int) -> dict[str, Work]:
    """Lists the contestants, each checked: ours on all threads and on one, and ONNX Runtime."""
    ours, right = numpy_lstm(problem), numpy_lstm(problem, "reference")()

    def on(number: int) -> Work:
        def work() -> Any:
            gc.set_num_threads(number)
            return ours()

        return work

    found: dict[str, Work] = {"all threads": on(threads), "one thread": on(1)}
    if not problem.train and not missing("onnx", "onnxruntime"):
        found["ONNX Runtime"] = onnx_lstm(problem)
    for name, work in found.items():
        check(name, work(), right)
    return found


def measure(shape: str, mode: str, beside: str, seconds: float) -> Record:
    """Times one row: the median seconds of a call by contestant."""
    threads, order = gc.num_threads(), random.Random(0)
    try:
        contestants = works(draw_problem(SHAPES[shape], mode == "train"), threads)
        taken: dict[str, list[float]] = {name: [] for name in contestants}
        with situation(beside) as before:
            end = time.perf_counter() + seconds
            while time.perf_counter() < end or len(taken["one thread"]) < FEWEST:
                for name in order.sample(list(contestants), len(contestants)):  # each after each of the others
                    before()
                    for _ in range(BURST):
                        start = time.perf_counter()
                        contestants[name]()
                        taken[name].append(time.perf_counter() - start)
    finally:
        gc.set_num_threads(threads)
    return {"shape": shape, "mode": mode, "beside": beside, **{name: median(all_) for name, all_ in taken.items()}}


def line(record: Record) -> str:
    """Writes one row: milliseconds, the multiple of one thread's time, and that of ONNX Runtime's."""
    ms, ratio = 1e3 * record["all threads"], record["all threads"] / record["one thread"]
    peer = f"{record['ONNX Runtime'] / record['all threads']:6.2f}" if "ONNX Runtime" in record else "      "
    sizes = ",".join(map(str, SHAPES[record["shape"]]))
    return f"{record['shape']:12} {sizes:16} {record['mode']:6} {record['beside']:20} {ms:9.4g} {ratio:6.2f} {peer}"


def table(records: Sequence[Record]) -> list[str]:
    """Writes records as a Markdown table: a line for each shape and mode, and two numbers for each situation.

    Times of all threads as multiples of those of one thread, and of ONNX Runtime's as multiples of ours.
    """
    found = {(r["shape"], r["mode"], r["beside"]): r for r in records}
    situations = list(dict.fromkeys(r["beside"] for r in records))
    lines = [f"| shape | B,T,I,H | mode | {' | '.join(situations)} |", "|---|---|---|" + "---:|" * len(situations)]
    for shape, mode in dict.fromkeys((r["shape"], r["mode"]) for r in records):
        cells = []
        for beside in situations:
            row = found[shape, mode, beside]
            cells.append(f"{row['all threads'] / row['one thread']:.2f}")
            if "ONNX Runtime" in row:
                cells[-1] += f", {row['ONNX Runtime'] / row['all threads']:.2f}"
        lines.append(f"| {shape} | {','.join(map(str, SHAPES[shape]))} | {mode} | {' | '.join(cells)} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--grid", choices=GRIDS, default="quick", help="which shapes (default: quick)")
    parser.add_argument("--beside", choices=SITUATIONS, action="append", help="only this one, or these")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was measured")
    parser.add_argument("--docs", action="store_true", help="also put the table into docs/benchmarks.md")
    given = parser.parse_args(arguments)
    rows = [(shape, mode) for mode in MODES for shape in GRIDS[given.grid][mode]]
    records = []
    print(f"{'shape':12} {'B,T,I,H':16} {'mode':6} {'beside':20} {'ms':>9} {'of one':>6} {'ORT':>6}")
    for beside, (shape, mode) in itertools.product(given.beside or SITUATIONS, rows):
        records.append(measure(shape, mode, beside, given.seconds))
        print(line(records[-1]), flush=True)
    behind = [r for r in records if r["all threads"] > MOST * r["one thread"]]
    print(f"{len(behind)} of {len(records)} rows take more than {MOST} times what one thread takes")
    if given.docs:
        write_whole(PAGE, with_table(PAGE.read_text(encoding="utf-8"), table(records)))
    if given.json:
        write_whole(given.json, json.dumps({"machine": gc.show_config(), "records": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
