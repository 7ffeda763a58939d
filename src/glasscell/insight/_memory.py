"""Splits a cell state, and the output it leads to, into exact sums over the steps of the past."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from glasscell._cells.arguments import described
from glasscell._cells.checks import Array, read_array
from glasscell._trace import Trace, selection
from glasscell.insight._arguments import check_index, check_trace, ran, was_reset


class MemorySources(NamedTuple):
    """Holds the parts of a cell state. initial: (U,), the rest of c_0. steps: (time + 1, U), written by each step."""

    initial: Array
    steps: Array

    def total(self) -> Array:
        """The cell state, which is the sum of all parts: (U,)."""
        total: Array = self.initial + self.steps.sum(0)
        return total


class OutputSources(NamedTuple):
    """Holds the parts of h, or of K logits (then U = K).

    initial: (U,), the part of the initial state. steps: (time + 1, U), the part of each step. constant: (U,), the part
    that belongs to no step.
    """

    initial: Array
    steps: Array
    constant: Array

    def total(self) -> Array:
        """h or the logits, which are the sum of all parts: (U,)."""
        total: Array = self.initial + self.steps.sum(0) + self.constant
        return total


def memory_sources(trace: Trace, row: int, time: int, units: Any = None) -> MemorySources:
    """Split the cell state after a step into the rest of c_0 and the part that each step has written.

        c_t = (prod_{r=1..t} f_r) c_0 + sum_{s=1..t} (prod_{r=s+1..t} f_r) i_s g_s

    This is the recurrence c_t = f_t c_{t-1} + i_t g_t, unrolled. It is exact: the parts sum to `trace.c[row, time]` up
    to rounding. A reset makes all parts before it zero. A skipped step writes nothing and forgets nothing. The gates f
    and i depend on the past too; this function does not split them, `gate_terms` does.

    Source: Hochreiter & Schmidhuber 1997 with the forget gate of Gers, Schmidhuber & Cummins 2000.

    row, time: indices of the trace; time counts from 0 in processing order. units: an index, a slice or a list; None
    for all.
    Returns: (initial, steps), (U,) and (time + 1, U) float64.
    Raises: ValueError or TypeError naming the argument.

    >>> left, written = memory_sources(trace, row=0, time=-1, units=7)
    >>> written[:, 0].argmax()  # the step that unit 7 remembers most of
    """
    trace = check_trace(trace, "c0")
    row, time = (check_index(n, v, s) for n, v, s in zip(("row", "time"), (row, time), trace.h.shape, strict=False))
    steps = ran(trace)[row, : time + 1, None]
    i, f, g = (_past(getattr(trace, name), row, time, units) for name in "ifg")
    resets = np.flatnonzero(was_reset(trace)[row, : time + 1])
    with np.errstate(all="ignore"):  # NaN and infinity pass as IEEE says
        kept = np.cumprod(np.where(steps, f, 1)[::-1], 0)[::-1]  # the product of f over each step and all later ones
        written = np.where(steps, i * g, 0) * np.concatenate([kept[1:], np.ones_like(kept[:1])])
        left = kept[0] * _past(trace.c0[:, None], row, 0, units)[0]  # type: ignore[index]
    if resets.size:
        left, written[: resets[-1]] = np.zeros_like(left), 0
    return MemorySources(left, written)


def output_sources(
    trace: Trace, row: int, time: int, units: Any = None, *, kernel: Any = None, bias: Any = None
) -> OutputSources:
    """Split h after a step, or the logits of a Dense layer on h, into the part of each step of the past.

    Let p_s be the part of c_t that c_0 left and the steps 1..s wrote (`memory_sources`), so that p_t = c_t. Then h_t is
    a telescoping sum:

        h_t = o_t a(c_t) = o_t a(0) + o_t (a(p_0) - a(0)) + sum_{s=1..t} o_t (a(p_s) - a(p_{s-1}))
        logit_k = bias_k + sum_j h_tj kernel_jk, part by part

    Source: Murdoch & Szlam 2017, "Automatic rule extraction from long short term memory networks", the additive
    decomposition of the cell state (there with c_0 = 0 and a = tanh).

    Two facts are exact, up to rounding: the sum, and that a step of which c_t holds nothing has the part zero. Three
    choices are an interpretation. The steps are added in their order, so that where a(.) bends, the same amount written
    earlier or later has another part. o_t is taken as given, although it depends on the past. So are the gates f and i,
    as in `memory_sources`.
    At a skipped step, h and its parts are those of the last step that ran. They are the parts of h itself, even where
    the layer's output is zero.

    row, time, units: as in `memory_sources`. kernel: (H, K), bias: (K,), of a Dense layer on h, whose logits are the
    sums before its activation. A kernel needs all units.
    Returns: (initial, steps, constant), (U,), (time + 1, U) and (U,) float64, U = K with a kernel. The constant is
    o_t a(0), which is zero for tanh; with a kernel it contains the bias.
    Raises: ValueError or TypeError naming the argument; ValueError where the trace does not know the activation a(.).

    >>> parts = output_sources(trace, row=0, time=-1, kernel=dense_kernel, bias=dense_bias)
    >>> parts.steps[:, 2].argmax()  # the step that spoke most for class 2
    """
    trace = check_trace(trace, "c0", "h0", "activation")
    row, time = (check_index(n, v, s) for n, v, s in zip(("row", "time"), (row, time), trace.h.shape, strict=False))
    if kernel is not None and units is not None:
        raise ValueError(f"units: expected None beside a kernel, which reads all units, got {described(units)}")
    if kernel is None and bias is not None:
        raise ValueError("kernel: expected that of the Dense layer beside its bias, got None")
    found = _telescoped(trace, row, time, units)
    if kernel is None:
        return found
    kernel, bias = _dense(kernel, bias, trace.h.shape[2])
    return OutputSources(found.initial @ kernel, found.steps @ kernel, found.constant @ kernel + bias)


def _telescoped(trace: Trace, row: int, time: int, units: Any) -> OutputSources:
    """Computes the parts of h after a step; for a skipped step, those of the last step that ran."""
    steps, resets = (np.flatnonzero(marks(trace)[row, : time + 1]) for marks in (ran, was_reset))
    shown, begun = (int(at[-1]) if at.size else -1 for at in (steps, resets))
    initial = _past(trace.h0[:, None], row, 0, units)[0]  # type: ignore[index]
    parts, none = np.zeros((time + 1, initial.size)), np.zeros_like(initial)
    if shown < begun or shown < 0:  # no step has run since the last reset, or none at all
        return OutputSources(initial if begun < 0 else none, parts, none)
    left, written = memory_sources(trace, row, shown, units)
    a = trace.activation.function  # type: ignore[union-attr]
    o = _past(trace.o, row, shown, units)[-1]
    with np.errstate(all="ignore"):
        levels = a(np.concatenate([none[None], left[None], written]).cumsum(0), np)
        first, *rest = o * np.diff(levels, axis=0)
    parts[: shown + 1] = rest
    return OutputSources(first, parts, o * levels[0])


def _past(array: Array, row: int, time: int, units: Any) -> Array:
    """Selects the steps 0..time of some units in one row of a (B, T, H) array: (time + 1, U) float64."""
    return array[row, : time + 1][:, selection("units", units, array.shape[2])].astype(np.float64)


def _dense(kernel: Any, bias: Any, units: int) -> tuple[Array, Array]:
    """Returns the weights of a Dense layer in float64. Raises: ValueError for another shape."""
    kernel = read_array("kernel", _numbers(kernel), "the (H, K) kernel of a Dense layer")
    if kernel.ndim != 2 or kernel.shape[0] != units:
        turned = "; a torch.nn.Linear has its transpose, weight.T" if kernel.shape[1:] == (units,) else ""
        raise ValueError(f"kernel: expected shape (H, K) = ({units}, K), got {kernel.shape}{turned}")
    bias = np.zeros(kernel.shape[1]) if bias is None else read_array("bias", _numbers(bias), "the bias")
    if bias.shape != kernel.shape[1:]:
        raise ValueError(f"bias: expected shape (K,) = {kernel.shape[1:]}, got {bias.shape}")
    return kernel.astype(np.float64), bias.astype(np.float64)


def _numbers(value: Any) -> Any:
    """Detaches a PyTorch tensor from autograd and its device; returns anything else as it is."""
    return value.detach().cpu() if hasattr(value, "detach") else value
