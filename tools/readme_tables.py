"""Put the tables of a benchmark into README.md in place of those that stand there, and print the means of its prose.

    glasscell bench --grid full --json bench.json --plot docs/benchmark.svg
    python tools/readme_tables.py bench.json

Several files do too, one for each `--mode`. A table is known by the first line of its head.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"
PEERS = {
    "torch": "torch",
    "ONNX Runtime": "ONNX Runtime",
    "OpenVINO": "OpenVINO",
    "Keras on TensorFlow": "Keras, TensorFlow",
    "Keras on JAX": "Keras, JAX",
    "Keras on torch": "Keras, torch",
}
OURS, LENGTHS = "glasscell", "glasscell, lengths="
WHOLE = ("infer", "train")  # modes of the first table
SPECIAL = ("vad-step", "amp-step", "policy-step", "odd7", "odd63")  # shapes that it leaves out
BACKENDS = ("JAX", "TensorFlow", "torch")
VARIANTS = ("plain", "masked", "recurrent-dropout", "bidirectional")
TORCH = {  # column: mode, ours, theirs; without theirs the best
    "padded, inference": ("padded", OURS, ("torch",)),
    "padded, training": ("padded-train", OURS, ("torch",)),
    "packed, inference": ("packed", OURS, ("torch",)),
    "packed, training": ("packed-train", OURS, ("torch",)),
    "with packing, training": ("lengths-train", OURS, ("torch",)),
    "by `lengths=`, training": ("lengths-train", LENGTHS, ("torch",)),
    "recurrent dropout, best loop": ("recurrent-dropout", OURS, ()),
    "resets, loop / split": ("reset", OURS, ("LSTMCell loop", "split")),
}

NOTHING = "\N{EN DASH}"

Row = dict[str, Any]


def best(row: Row) -> tuple[str, float] | None:
    """The fastest peer and how many times longer it took."""
    peers = {name: s for name, s in row["seconds"].items() if not name.startswith(OURS)}
    name = min(peers, key=lambda n: peers[n], default=None)
    return None if name is None else (name, peers[name] / row["seconds"][OURS])


def times(row: Row | None, ours: str, theirs: str) -> float | None:
    """Their time as a multiple of ours."""
    seconds = row["seconds"] if row else {}
    return seconds[theirs] / seconds[ours] if ours in seconds and theirs in seconds else None


def short(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}" if value < 9.95 else f"{value:.0f}"


def mean(values: Iterable[float | None]) -> str:
    """Geometric, with the least in brackets."""
    known = [v for v in values if v is not None]
    return f"{math.exp(sum(map(math.log, known)) / len(known)):.2f} ({min(known):.2f})" if known else NOTHING


def sizes(row: Row) -> str:
    return ",".join(str(row["sizes"][name]) for name in "BTIH")


def table(head: list[str], sides: str, lines: Iterable[list[str]]) -> list[str]:
    """Markdown; each column stands to its side, "<" or ">"."""
    rule = ({"<": "---", ">": "---:"}[side] for side in sides)
    join = " | ".join
    return [f"| {join(head)} |", f"|{'|'.join(rule)}|", *(f"| {join(line)} |" for line in lines)]


def whole(rows: list[Row]) -> list[str]:
    """Inference and training, the largest lead first."""

    def line(row: Row) -> list[str]:
        ms, share = row["seconds"][OURS] * 1e3, row["share_of_roofline"]
        ratios = (times(row, OURS, name) for name in PEERS)
        return [row["shape"], sizes(row), row["mode"], f"{ms:.3g}", f"{share:.0%}",
                *("" if r is None else f"{r:.2f}" for r in ratios)]  # fmt: skip

    shown = [row for row in rows if row["mode"] in WHOLE and row["shape"] not in SPECIAL]
    shown.sort(key=lambda row: -(best(row) or ("", 0.0))[1])
    return table(["shape", "B,T,I,H", "mode", "ms", "of roofline", *PEERS.values()], "<<<>>>>>>>>", map(line, shown))


def others(rows: list[Row]) -> list[str]:
    """The other modes, beside a base of our own."""

    def line(row: Row) -> list[str]:
        base, peer = row["times_own_baseline"], best(row)
        keras = times(row, OURS, "Keras on TensorFlow")
        return [row["shape"], sizes(row), row["mode"], f"{row['seconds'][OURS] * 1e3:.3g}",
                "" if base is None else f"{base:.2f}", "" if peer is None else f"{peer[1]:.2f} {peer[0]}",
                "" if keras is None else f"{keras:.2f}"]  # fmt: skip

    shown = [row for row in rows if row["mode"] not in WHOLE and not row["mode"].startswith("torch ")]
    shown.sort(key=lambda row: (row["mode"], -(best(row) or ("", 0.0))[1]))
    head = ["shape", "B,T,I,H", "mode", "ms", "own base", "best peer", "Keras, TensorFlow"]
    return table(head, "<<<>><>", map(line, shown))


def keras(rows: list[Row]) -> list[str]:
    """`train_on_batch` on each backend."""
    shown = {(row["shape"], row["variant"]): row for row in rows if row["call"] == "train_on_batch"}

    def cell(shape: str, variant: str) -> str:
        return " / ".join(short(shown[shape, variant]["ratios"].get(backend)) for backend in BACKENDS)

    shapes = {shape: sizes(row) for (shape, _), row in shown.items()}
    head = ["`train_on_batch`", "B,T,I,H", *(variant.replace("-", " ") for variant in VARIANTS)]
    return table(head, "<<>>>>", ([shape, size, *(cell(shape, v) for v in VARIANTS)] for shape, size in shapes.items()))


def torch(rows: list[Row]) -> list[str]:
    """PyTorch's modules."""
    shown = {(row["shape"], row["mode"].removeprefix("torch ")): row for row in rows if "torch " in row["mode"]}

    def cell(shape: str, mode: str, ours: str, theirs: tuple[str, ...]) -> str:
        row = shown.get((shape, mode))
        if row is None:
            return ""
        return " / ".join(short(times(row, ours, name)) for name in theirs) or short((best(row) or ("", None))[1])

    shapes = {shape: sizes(row) for (shape, _), row in shown.items()}
    lines = ([shape, size, *(cell(shape, *column) for column in TORCH.values())] for shape, size in shapes.items())
    return table(["shape", "B,T,I,H", *TORCH], "<<" + ">" * len(TORCH), lines)


def replaced(text: str, lines: list[str]) -> str:
    """`text` with `lines` in place of the table that has the same head. Raises: ValueError where there is none."""
    old = text.splitlines()
    start = old.index(lines[0])
    end = next((k for k in range(start, len(old)) if not old[k].startswith("|")), len(old))
    return "\n".join([*old[:start], *lines, *old[end:]]) + "\n"


def means(rows: list[Row], models: list[Row]) -> Iterable[str]:
    for mode in dict.fromkeys(row["mode"] for row in rows if not row["mode"].startswith("torch ")):
        chosen = [row for row in rows if row["mode"] == mode]
        leads = [(row["shape"], *found) for row in chosen if (found := best(row))]
        yield f"{mode}: best peer {mean(ratio for *_, ratio in leads)}, Keras on TensorFlow " + mean(
            times(row, OURS, "Keras on TensorFlow") for row in chosen
        )
        behind = [f"{shape} {ratio:.2f} {name}" for shape, name, ratio in leads if ratio < 0.97]
        if behind:
            yield "  behind: " + ", ".join(behind)
    for name, (mode, ours, theirs) in TORCH.items():
        chosen = [row for row in rows if row["mode"] == f"torch {mode}"]
        for peer in theirs:
            yield f"torch, {name}, {peer}: {mean(times(row, ours, peer) for row in chosen)}"
        if not theirs:
            yield f"torch, {name}: {mean(found[1] for row in chosen if (found := best(row)))}"
    for call in dict.fromkeys(row["call"] for row in models):
        for backend in BACKENDS:
            ratios = [row["ratios"].get(backend) for row in models if row["call"] == call]
            yield f"Keras, {call}, {backend}: {mean(ratios)}, {sum(r is not None for r in ratios)} rows"


def main(paths: list[str]) -> None:
    results = [json.loads(Path(path).read_text(encoding="utf-8")) for path in paths]
    rows, models = ([row for result in results for row in result[key]] for key in ("rows", "keras"))
    text = README.read_text(encoding="utf-8")
    modes = {row["mode"].partition(" ")[0] for row in rows}
    for make, chosen, wanted in (
        (whole, rows, not modes.isdisjoint(WHOLE)),
        (others, rows, "step" in modes),
        (torch, rows, "torch" in modes),
        (keras, models, bool(models)),
    ):
        if wanted:
            text = replaced(text, make(chosen))
    README.write_text(text, encoding="utf-8")
    print(*means(rows, models), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
