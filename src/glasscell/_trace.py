"""`Trace`: every gate and state of every step, as named arrays; `Traces`: those of several cells."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glasscell._ops.call import Call, Record

if TYPE_CHECKING:  # 5 ms that `import glasscell` need not pay
    from collections.abc import Iterable
    from pathlib import Path

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)  # equality of arrays has no single truth
class Trace:
    """What the cell did at every step; each array is (B, T, H), time in processing order.

    i, f, o: activated gates; g: the activated candidate; c, h: cell and hidden state after the step.
    zi, zf, zg, zo: the raw gates, before their activation. The gates of a skipped step were never computed and are
    NaN; h and c carry over.
    mask: (B, T) bool, True where the step ran, in processing order; None where all did.
    """

    i: Array
    f: Array
    g: Array
    o: Array
    c: Array
    h: Array
    zi: Array
    zf: Array
    zg: Array
    zo: Array
    mask: Array | None = None

    @classmethod
    def of(cls, call: Call, record: Record) -> Trace:
        """Make the trace of a call over the arrays of its record, without copying them."""
        mask, gates, z = call.kept_steps(), record.gates, record.z
        if mask is not None:
            gates[~mask], z[~mask] = np.nan, np.nan
        (i, f, g, o), (zi, zf, zg, zo) = (np.moveaxis(a, 2, 0) for a in (gates, z))
        return cls(i, f, g, o, record.c, record.h, zi, zf, zg, zo, mask)

    def __repr__(self) -> str:
        B, T, H = self.f.shape
        ran = "" if self.mask is None else f", {int(self.mask.sum())} of {B * T} steps ran"
        names = " ".join(self.asdict())
        return f"Trace(B={B}, T={T}, H={H}, {self.f.dtype}{ran}; arrays {names})"

    def asdict(self) -> dict[str, Array]:
        """The arrays by name, without those that are None; `numpy.savez(path, **trace.asdict())` keeps them."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: array for name, array in named.items() if array is not None}

    def report(self, path: str | Path, title: str = "What the cell did") -> Path:
        """Write a page of heat maps that opens offline. Needs matplotlib and jinja2. Returns: its path."""
        return _write_report(path, {"": self.asdict()}, title)


class Traces(list[Any]):
    """The traces of several cells: of the cells of a stack, or of both directions (a list, and each has its name).

    Its elements are `Trace`s, or `Traces` where each direction is a stack.
    """

    def __init__(self, traces: Iterable[Trace | Traces], names: Iterable[str]) -> None:
        super().__init__(traces)
        self.names = list(names)

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {trace!r}" for name, trace in self.named().items())

    def named(self) -> dict[str, Trace]:
        """Gives every trace by its name, those of a stack in both directions as "forward, cell 0"."""
        found: dict[str, Trace] = {}
        for name, trace in zip(self.names, self, strict=True):
            inner = trace.named() if isinstance(trace, Traces) else {"": trace}
            found |= {f"{name}, {within}" if within else name: each for within, each in inner.items()}
        return found

    def report(self, path: str | Path, title: str = "What the cells did") -> Path:
        """Write one page of heat maps for all of them. Needs matplotlib and jinja2. Returns: its path."""
        return _write_report(path, {name: trace.asdict() for name, trace in self.named().items()}, title)


def _write_report(path: str | Path, traces: dict[str, dict[str, Array]], title: str) -> Path:
    from pathlib import Path

    try:
        from glasscell._report import trace_report
    except ModuleNotFoundError as error:
        from glasscell import _doors

        raise _doors.missing("report", error) from None
    return Path(trace_report(path, traces, title=title))
