"""Splits a raw gate into its terms: the bias, one for each input feature and one for each recurrent unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from glasscell._cells.arguments import check_choice, check_size
from glasscell._cells.checks import Array, shapes
from glasscell._trace import Trace, selection
from glasscell.insight._arguments import check_index, check_trace, ran, was_reset

GATES = ("i", "f", "g", "o")


@dataclass(frozen=True, eq=False, repr=False)
class GateTerms:
    """Holds the terms of the raw gate of U units.

    bias: (U,). inputs: (I, U), the term of each input feature. recurrent: (H, U), the term of each unit's h before the
    step. names: I + H + 1 strings: the names of the inputs, those of the recurrent units, and "bias".
    """

    bias: Array
    inputs: Array
    recurrent: Array
    names: tuple[str, ...]

    def __repr__(self) -> str:
        return shapes("GateTerms", {name: getattr(self, name) for name in ("bias", "inputs", "recurrent")})

    def total(self) -> Array:
        """The raw gate, which is the sum of all terms: (U,)."""
        total: Array = self.bias + self.inputs.sum(0) + self.recurrent.sum(0)
        return total

    def largest(self, count: int = 5) -> list[list[tuple[str, float]]]:
        """The names and values of the `count` terms of largest absolute value, for each unit.

        >>> gate_terms(trace, 0, 12, units=7, gate="f").largest(2)
        [[('h[3]', -2.1), ('bias', 1.0)]]
        """
        count = check_size("count", count)
        terms = np.concatenate([self.inputs, self.recurrent, self.bias[None]])
        order = np.argsort(-np.abs(terms), 0, kind="stable")[:count]
        return [[(self.names[k], float(terms[k, unit])) for k in order[:, unit]] for unit in range(terms.shape[1])]


def gate_terms(trace: Trace, row: int, time: int, units: Any = None, *, gate: str) -> GateTerms:
    """Split the raw gate z of a step, before its activation, into its terms.

        z_u = b_u + sum_k m_k x_k W_ku + sum_j r_j h_j R_ju

    x is the input of the step, h the hidden state before it (zero after a reset). W, R and b are the gate's columns of
    kernel, recurrent_kernel and bias. m and r are the gate's dropout masks, 1 without dropout. The split is exact: the
    terms sum to `trace.zf[row, time]` (for the forget gate) up to rounding. h is not split into its own past.

    Source: the equations of the cell (Hochreiter & Schmidhuber 1997).

    row, time: indices of the trace; time counts from 0 in processing order. units: an index, a slice or a list; None
    for all. gate: "i", "f", "g" or "o".
    Returns: `GateTerms`: bias (U,), inputs (I, U) and recurrent (H, U), float64, and their names: "x[0]", "h[0]" and so
    on. Names of the trace, where it has them, replace the numbers.
    Raises: ValueError or TypeError naming the argument; ValueError for a step that was skipped, which has no gates.

    >>> gate_terms(trace, row=0, time=12, units=7, gate="f").largest(3)
    """
    trace = check_trace(trace, "x", "h0", "kernel", "recurrent_kernel")
    (B, T, H), k = trace.h.shape, GATES.index(check_choice("gate", gate, GATES))
    row, time = check_index("row", row, B), check_index("time", time, T)
    if not ran(trace)[row, time]:
        raise ValueError(f"time: expected a step that ran, got {time}, which the mask skips in row {row}")
    columns = np.arange(4 * H)[k * H : (k + 1) * H][selection("units", units, H)]
    h = trace.h[row, time - 1] if time else trace.h0[row]  # type: ignore[index]
    if was_reset(trace)[row, time]:
        h = np.zeros_like(h)
    x = trace.x[row, time]  # type: ignore[index]
    with np.errstate(all="ignore"):  # NaN and infinity pass as IEEE says
        inputs = _terms(x, trace.dropout_mask, row, k, trace.kernel, columns)
        recurrent = _terms(h, trace.recurrent_dropout_mask, row, k, trace.recurrent_kernel, columns)
    bias = np.zeros(columns.size) if trace.bias is None else trace.bias[columns].astype(np.float64)
    names = (*_names("x", trace.feature_names, x.size), *_names("h", trace.unit_names, H), "bias")
    return GateTerms(bias, inputs, recurrent, names)


def _terms(values: Array, masks: Array | None, row: int, gate: int, kernel: Any, columns: Array) -> Array:
    """Multiplies values (N,) with a kernel's columns: (N, U). masks: the dropout masks, (1 or 4, B, N), or None."""
    values = values.astype(np.float64)
    if masks is not None:
        values = values * masks[gate % len(masks), row]
    terms: Array = values[:, None] * kernel[:, columns]
    return terms


def _names(symbol: str, names: Array | None, count: int) -> list[str]:
    return [f"{symbol}[{name}]" for name in (range(count) if names is None else names)]
