"""Turns the records of a run into tables, for a terminal and for docs/benchmarks.md, and into means."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.peers import BASE, CONTESTANTS, OURS
from benchmarks.shapes import BACKENDS, MODELS, SHAPES, TORCH, VARIANTS

TARGET = 0.97  # of the best peer's speed: below it a row is a defeat
KEYS = ["shape", "mode"]
LENGTHS = f"{OURS}, lengths="
NAMES = list(dict.fromkeys(one.name for one in (*CONTESTANTS, BASE)))
WORDS = ("shape", "B,T,I,H", "mode", "best peer", "`train_on_batch`")  # columns that stand to the left
FACTS = ["ms", "of roofline", "own base", "best peer"]
WHOLE = ("infer", "train")  # modes of the page's first table
PEERS = ["torch", "ONNX Runtime", "OpenVINO", "Keras, TensorFlow", "Keras, JAX", "Keras, torch"]  # its columns
SPECIAL = ("vad-step", "amp-step", "policy-step", "odd7", "odd63")  # shapes that it leaves out
TORCH_COLUMNS = {  # mode, ours, theirs
    "padded, inference": ("padded", OURS, ["torch"]),
    "padded, training": ("padded-train", OURS, ["torch"]),
    "packed, inference": ("packed", OURS, ["torch"]),
    "packed, training": ("packed-train", OURS, ["torch"]),
    "with packing, training": ("lengths-train", OURS, ["torch"]),
    "by `lengths=`, training": ("lengths-train", LENGTHS, ["torch"]),
    "recurrent dropout, best loop": ("recurrent-dropout", OURS, ["best"]),
    "resets, loop / split": ("reset", OURS, ["LSTMCell loop", "split"]),
}


def frame(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    columns = [*KEYS, "contestant", "seconds", "engine", "left_out"]  # there even if no record is
    return pd.DataFrame(list(records), columns=None if records else columns).astype({"seconds": float})


def times(records: pd.DataFrame, ours: str = OURS) -> pd.DataFrame:
    """The seconds of every contestant as multiples of ours, and "best", of the fastest peer's.

    By shape and mode in their order; NaN where there is none.
    """
    rows = pd.MultiIndex.from_frame(records[KEYS].drop_duplicates())
    seconds = records.pivot(index=KEYS, columns="contestant", values="seconds").reindex(index=rows, columns=NAMES)
    ratios = seconds.div(seconds[ours], axis=0)
    return ratios.assign(best=ratios[[name for name in NAMES if not name.startswith(OURS)]].min(axis=1))


def lines(records: pd.DataFrame) -> pd.DataFrame:
    """A line of text for each shape and mode, the worst last: FACTS, then the times of the others."""
    if records.empty:
        return pd.DataFrame(columns=[*KEYS, "B,T,I,H", *FACTS, *NAMES])
    ratios, rows = times(records), records.drop_duplicates(KEYS).set_index(KEYS)
    ours = records[records["contestant"] == OURS].set_index(KEYS)["seconds"].reindex(rows.index)
    peers = ratios[[name for name in NAMES if not name.startswith(OURS)]]
    best = texts(ratios["best"]) + " " + peers.fillna(math.inf).idxmin(axis=1)
    facts = {
        "ms": texts(ours * 1e3, "{:.3g}".format),
        "of roofline": texts(rows["floor_seconds"] / ours, "{:.0%}".format),
        "own base": texts(1 / ratios[BASE.name]),
        "best peer": best.where(ratios["best"].notna(), ""),
    }
    sizes = pd.Series(map(_sizes, rows.index.get_level_values("shape")), rows.index)
    others = {name: texts(ratios[name]) for name in NAMES if name not in (OURS, BASE.name)}
    return pd.DataFrame({"B,T,I,H": sizes, **facts, **others}).iloc[(-ratios["best"]).argsort()].reset_index()


def whole(records: pd.DataFrame) -> pd.DataFrame:
    """The page's table of inference and training."""
    table = lines(records[records["mode"].isin(WHOLE) & ~records["shape"].isin(SPECIAL)])
    return table[["shape", "B,T,I,H", "mode", "ms", "of roofline", *PEERS]]


def others(records: pd.DataFrame) -> pd.DataFrame:
    """The page's table of the other modes, beside a base of our own."""
    table = lines(records[~records["mode"].isin([*WHOLE, *TORCH, *MODELS])]).sort_values("mode", kind="stable")
    return table[["shape", "B,T,I,H", "mode", "ms", "own base", "best peer", "Keras, TensorFlow"]]


def torch(records: pd.DataFrame) -> pd.DataFrame:
    """The page's table of PyTorch's modules."""
    columns = {
        name: [(f"torch {mode}", ours, peer) for peer in theirs] for name, (mode, ours, theirs) in TORCH_COLUMNS.items()
    }
    return _by_shape(records[records["mode"].isin(TORCH)], "shape", columns)


def keras(records: pd.DataFrame) -> pd.DataFrame:
    """The page's table of `train_on_batch` on each backend."""
    backends = sorted(BACKENDS)
    columns = {v.replace("-", " "): [(f"keras {b} {v}-train", OURS, "Keras") for b in backends] for v in VARIANTS}
    return _by_shape(records[records["mode"].isin(MODELS)], "`train_on_batch`", columns)


def _by_shape(records: pd.DataFrame, title: str, columns: dict[str, list[tuple[str, str, str]]]) -> pd.DataFrame:
    """columns: of each the modes, whose multiples, and whose times stand side by side in a cell."""
    ratios = {ours: times(records, ours) for ours in (OURS, LENGTHS)}
    run = set(ratios[OURS].index)

    def cell(shape: str, parts: list[tuple[str, str, str]]) -> str:
        shown = [short(ratios[ours][peer][shape, mode]) for mode, ours, peer in parts if (shape, mode) in run]
        return " / ".join(shown)

    shapes = records["shape"].unique()
    table = {name: [cell(shape, parts) for shape in shapes] for name, parts in columns.items()}
    return pd.DataFrame({title: shapes, "B,T,I,H": [_sizes(shape) for shape in shapes], **table})


def summary(records: pd.DataFrame) -> list[str]:
    """The geometric means of each mode with the least in brackets, the defeats, and who was left out and why."""
    said = ["Times are multiples of ours: above 1 glasscell is faster. Geometric means, the least in brackets:"]
    for mode, chosen in records.groupby("mode", sort=False):
        for ours in (OURS, LENGTHS):
            ratios = times(chosen, ours)
            peers = [n for n in NAMES if not n.startswith(OURS) and ratios[n].notna().any()]
            peers = ["best", *peers] if len(peers) > 1 else peers
            means = [f"{n} {np.exp(np.log(ratios[n]).mean()):.2f} ({ratios[n].min():.2f})" for n in peers]
            said += [f"{mode}{ours.removeprefix(OURS)}: {', '.join(means)}"] if means else []
    best = times(records)["best"].dropna()
    behind = [f"{shape} {mode} {ratio:.2f}" for (shape, mode), ratio in best[best < TARGET].items()]
    said.append(
        f"below {TARGET} of the best peer: {len(behind)} of {len(best)} rows{': ' * bool(behind)}" + ", ".join(behind)
    )
    told = records["left_out"].fillna(records["engine"].map({"framework": "not native, but Keras's own loop"}))
    for (name, why), rows in records.assign(told=told).groupby(["contestant", "told"], sort=False):
        head = "left out: " * bool(rows["left_out"].notna().all())
        said.append(f"{head}{name}: {why} ({', '.join(rows['shape'] + ' ' + rows['mode'])})")
    return said


def show(records: pd.DataFrame, width: int) -> Iterable[str]:
    """The lines of a report, at most `width` wide where that can be."""
    kind = records["mode"].where(records["mode"].isin([*TORCH, *MODELS]), "").str.partition(" ")[0]
    for family, chosen in records.groupby(kind, sort=False):
        table = lines(chosen).assign(mode=lambda t, f=family: t["mode"].str.removeprefix(f"{f} "))
        table = table[[name for name in table if table[name].any()]]
        full = text(table)
        yield from [f"{family}:"] if family else []
        yield from full if len(full[0]) <= width else text(table[[n for n in (*KEYS, *FACTS) if n in table]])
        yield ""
    for last in records.tail(1).itertuples():
        peak, bandwidth = last.peak_flops / 1e9, last.l2_bandwidth / 1e9
        yield f"{last.threads} threads, {peak:.0f} GFLOP/s, {bandwidth:.0f} GB/s from L2, as measured in between."
    for line in summary(records):
        yield from textwrap.wrap(line, width, subsequent_indent="  ")


def text(table: pd.DataFrame) -> list[str]:
    cells = [list(table), *table.to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = ["<" if name in WORDS else ">" for name in table]
    return ["  ".join(f"{c:{s}{w}}" for c, s, w in zip(line, sides, widths, strict=True)).rstrip() for line in cells]


def markdown(table: pd.DataFrame) -> list[str]:
    rule = "|".join("---" if name in WORDS else "---:" for name in table)
    head, *body = (f"| {' | '.join(line)} |" for line in (list(table), *table.to_numpy().tolist()))
    return [head, f"|{rule}|", *body]


def replaced(page: str, records: pd.DataFrame) -> str:
    """The page's text with the tables of these records in place of those with the same heads.

    Raises: ValueError where there is none.
    """
    for make in (whole, others, torch, keras):
        new = markdown(make(records))
        page = with_table(page, new) if len(new) > 2 else page
    return page


def with_table(page: str, new: list[str]) -> str:
    """The page's text with the lines of a table in place of the table with the same head.

    Raises: ValueError where there is none.
    """
    old = page.splitlines()
    start = old.index(new[0])
    end = next((k for k in range(start, len(old)) if not old[k].startswith("|")), len(old))
    return "\n".join([*old[:start], *new, *old[end:]]) + "\n"


def short(value: float) -> str:
    return "\N{EN DASH}" if np.isnan(value) else f"{value:.2f}" if value < 9.95 else f"{value:.0f}"


def texts(values: pd.Series, form: Callable[[float], str] = "{:.2f}".format) -> pd.Series:
    return pd.Series(["" if np.isnan(value) else form(value) for value in values], values.index, dtype=str)


def _sizes(shape: str) -> str:
    return ",".join(map(str, SHAPES[shape]))
