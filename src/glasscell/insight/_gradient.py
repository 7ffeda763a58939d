"""Computes the gradients dL/dh_t and dL/dc_t of every step, and the share that the cell state alone carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from glasscell._cells.arguments import check_choice, kind_of
from glasscell._cells.checks import Array, shapes
from glasscell._cells.lstm import Gates, Options, raw_gates_gradient, step_gradient
from glasscell._trace import Trace, Traces
from glasscell.insight._arguments import check_trace, ran, was_reset
from glasscell.insight._output_gradient import flow_of_layer


@dataclass(frozen=True, eq=False, repr=False)
class GradientFlow:
    """Holds the gradients of every step of one cell, in processing order.

    h: (B, T, H), dL/dh_t.
    c: (B, T, H), dL/dc_t. It has two parts: the one that comes back from the next step, and the one that comes through
    h_t = o_t a(c_t).
    c_next: (B, T, H), only the part from the next step: the gradient of c_t as part of the state (h_t, c_t) that enters
    the next step. Autograd shows this part for the states between calls of one step.
    carousel: (B, T, H), prod_{r=t+1..T} f_r: the share of dL/dc_T that reaches c_t through the cell state alone. A
    skipped step leaves it unchanged; a reset makes it zero for all steps before.
    h0, c0: (B, H), the gradients of the initial state.
    """

    h: Array
    c: Array
    c_next: Array
    carousel: Array
    h0: Array
    c0: Array

    def __repr__(self) -> str:
        return shapes("GradientFlow", {name: getattr(self, name) for name in ("h", "c", "carousel")})

    def per_unit(self, name: str = "c") -> Array:
        """The norm of "h", "c", "c_next" or "carousel" over the rows, for each step and unit: (T, H)."""
        norms: Array = np.linalg.norm(self._named(name), axis=0)
        return norms

    def in_all(self, name: str = "c") -> Array:
        """The norm of "h", "c", "c_next" or "carousel" over rows and units, for each step: (T,)."""
        norms: Array = np.linalg.norm(self.per_unit(name), axis=1)
        return norms

    def _named(self, name: str) -> Array:
        found: Array = getattr(self, check_choice("name", name, ("h", "c", "c_next", "carousel")))
        return found


def gradient_flow(layer: Any, x: Any, dy: Any, **call: Any) -> Any:
    """Carry the gradient of a loss back through time, and keep dL/dh_t and dL/dc_t of every step.

        dL/dc_t = dL/dc_{t+1} f_{t+1} + dL/dh_t o_t a'(c_t) + ...

    The terms come from the gradient of the step in `_cells/lstm.py`, computed over the trace of the call in float64.
    The loss L is any function of the output whose gradient is `dy`; ones stand for the sum of the output. The norms
    show the steps at which gradients vanish or explode. The carousel, the product of the forget gates, is the share
    that the cell state alone carries (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000); the
    rest comes through the gates.

    layer: a NumPy, Keras or PyTorch layer with `trace(x, ...)`: a cell over time, a stack, or two directions. It may
    also be a `Trace`, or the `Traces` of a stack, as `glasscell.keras.trace(model, x)` returns them. Then x is None,
    and dy is the gradient of the last cell's h. For the `Traces` of two directions dy is a pair, each in its own
    processing order.
    x: the input of the layer. dy: shaped as the layer's output, of every step or the last; a pair for merge_mode=None.
    call: the other arguments of `layer.trace`: mask, resets, initial state, dropout masks.
    Where the layer's output is zero at skipped steps, dy has no effect there. Otherwise it acts on the h that the
    output repeats: that of the last step that ran, or the initial h before the first. The state of a stateful NumPy
    layer moves on, as in `trace`.

    Returns: a `GradientFlow`. Where `layer.trace` gives `Traces`, for a stack or two directions, a list of
    `GradientFlow`, each in its own processing order.
    Raises: TypeError for a layer without `trace`; ValueError for a dy of another shape, and for an activation without
    its derivative.

    >>> flow = gradient_flow(lstm, x, np.ones_like(y))
    >>> flow.in_all("c"), flow.in_all("carousel")
    """
    if not isinstance(layer, (Trace, Traces)):
        if not callable(getattr(layer, "trace", None)) or hasattr(layer, "shape"):  # arrays have another `trace`
            raise TypeError(f"layer: expected one with trace(x), or its Trace, got {kind_of(layer)}")
        return flow_of_layer(layer, layer.trace(x, **call), dy, flow_of_trace)
    if x is not None or call:
        raise ValueError("x: expected None beside a trace, which knows its call, got an argument of a call")
    return flow_of_layer(None, layer, dy, flow_of_trace)


def flow_of_trace(trace: Trace, dy: Array) -> tuple[GradientFlow, Array]:
    """Runs a trace backwards. dy: (B, T, H), the gradient of h. Returns the flow and the gradient of x, (B, T, I)."""
    trace = check_trace(trace, "x", "h0", "c0", "kernel", "recurrent_kernel", "activation", "recurrent_activation")
    B, T, H = trace.h.shape
    h, c, c_next = (np.zeros((B, T, H)) for _ in range(3))
    dx = np.zeros(trace.x.shape)  # type: ignore[union-attr]
    dh, dc, steps, resets = np.zeros((B, H)), np.zeros((B, H)), ran(trace)[..., None], was_reset(trace)[..., None]
    with np.errstate(all="ignore"):  # NaN and infinity pass as IEEE says
        for t in reversed(range(T)):
            h[:, t], c_next[:, t] = dh, dc = dh + dy[:, t], dc
            c[:, t], dh_before, dc_before, dx_t = _step_back(trace, t, dh, dc)
            c[:, t], dx[:, t] = np.where(steps[:, t], c[:, t], dc), np.where(steps[:, t], dx_t, 0)
            dh, dc = np.where(steps[:, t], dh_before, dh), np.where(steps[:, t], dc_before, dc)
            dh, dc = np.where(resets[:, t], 0, dh), np.where(resets[:, t], 0, dc)
    return GradientFlow(h, c, c_next, _carousel(trace), dh, dc), dx


def _step_back(trace: Trace, t: int, dh: Array, dc: Array) -> tuple[Array, Array, Array, Array]:
    """Computes the gradients of c_t, of h and c before the step, and of x_t, from those of h and c after it."""
    options = Options(trace.activation, trace.recurrent_activation)  # type: ignore[arg-type]
    z, gates = (Gates(*(getattr(trace, p + k)[:, t].astype(np.float64) for k in "ifgo")) for p in ("z", ""))
    c_before: Any = trace.c[:, t - 1] if t else trace.c0
    state = np.where(was_reset(trace)[:, t, None], 0, c_before), trace.c[:, t].astype(np.float64), dh, dc
    dz, dc_before = step_gradient(z, gates, *state, options, np)
    _, dc_t = step_gradient(z, gates._replace(f=np.ones_like(gates.f)), *state, options, np)  # f = 1 gives that of c_t
    none = [np.empty((len(dh), 0))] * 4  # no columns: the gradients of the weights are not needed
    dx, dh_before, *_ = raw_gates_gradient(dz, none, none, trace.kernel, trace.recurrent_kernel, np)
    return dc_t, _through(dh_before, trace.recurrent_dropout_mask), dc_before, _through(dx, trace.dropout_mask)


def _through(gradients: list[Array], masks: Array | None) -> Array:
    """Sums the gradients of the four gates' masked inputs to the gradient of the input before the masks."""
    if masks is not None:
        gradients = [d * m for d, m in zip(gradients, np.broadcast_to(masks, (4, *masks.shape[1:])), strict=True)]
    total: Array = sum(gradients[1:], gradients[0])
    return total


def _carousel(trace: Trace) -> Array:
    """Computes the product of the forget gates of all later steps, for each step: (B, T, H)."""
    f = np.where(ran(trace)[..., None], trace.f, 1).astype(np.float64)
    f = np.where(was_reset(trace)[..., None], 0, f)
    return np.concatenate([np.cumprod(f[:, :0:-1], 1)[:, ::-1], np.ones_like(f[:, :1])], 1)
