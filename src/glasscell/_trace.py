"""`Trace`: every gate and state of every step, as named arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glasscell._ops.call import KEEP, Tape

if TYPE_CHECKING:  # 5 ms that `import glasscell` need not pay
    from pathlib import Path

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)  # equality of arrays has no single truth
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
    def from_tape(cls, tape: Tape) -> Trace:
        """Open a tape that was kept for a trace (its raw gates included)."""
        assert tape.c is not None
        assert tape.gates is not None
        assert tape.z is not None
        mask = None
        gates, z = tape.gates, tape.z
        if tape.call.step_flags is not None:
            mask = (tape.call.step_flags & KEEP) != 0
            if tape.call.options.go_backwards:
                mask = mask[:, ::-1]
            gates[~mask], z[~mask] = np.nan, np.nan
        activated, raw = (np.moveaxis(a, 2, 0) for a in (gates, z))
        i, f, g, o = activated
        zi, zf, zg, zo = raw
        return cls(i, f, g, o, tape.c, tape.h, zi, zf, zg, zo, mask)

    def asdict(self) -> dict[str, Array]:
        """The arrays by name, without those that are None; `numpy.savez(path, **trace.asdict())` keeps them."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: array for name, array in named.items() if array is not None}

    def report(self, path: str | Path, title: str = "What the cell did") -> Path:
        """Write a page of heat maps that opens offline. Needs `pip install "glasscell[report]"`."""
        from pathlib import Path

        try:
            from glasscell._report import trace_report
        except ImportError as error:
            raise ImportError(f'report: {error.name} is missing; pip install "glasscell[report]"') from error
        return Path(trace_report(path, self.asdict(), title=title))
