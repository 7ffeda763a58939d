"""Splits the gradient of a layer's output into the gradients of its cells' h: for stacks, directions and chains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from glasscell._cells.arguments import described
from glasscell._cells.checks import Array, read_array
from glasscell._trace import Trace, Traces
from glasscell.insight._arguments import ran

# Runs one trace backwards, from the gradient of every h, (B, T, H). Returns a result and the gradient of x, (B, T, I).
Flow = Callable[[Trace, Array], tuple[Any, Array]]


def flow_of_layer(layer: Any, traces: Trace | Traces, dy: Any, flow: Flow) -> Any:
    """Runs `flow` over the traces of a layer's call, from the last cell to the first.

    layer: None where only the traces are known. dy: the gradient of the output. Returns the results of `flow`, nested
    as the traces are.
    """
    first: Any = traces
    while not isinstance(first, Trace):
        first = first[0]
    if not first.h.shape[1]:
        raise ValueError("x: expected at least one step, got none")
    if hasattr(layer, "batch_first"):
        every: Any = traces
        return _torch(layer, list(every), dy, flow)
    return _back(layer, traces, dy, flow)[0]


def _back(layer: Any, traces: Trace | Traces, dy: Any, flow: Flow) -> tuple[Any, Array]:
    """Runs a layer's traces backwards. Returns the results, and the gradient of x, its steps in the order of x."""
    if isinstance(traces, Trace):
        found, dx = flow(traces, _of_h(layer, traces, dy))
        return found, dx[:, ::-1] if traces.go_backwards else dx
    if hasattr(layer, "layers") and all(name.startswith("layer ") for name in traces.names):
        return _one_after_another(layer.layers, traces, dy, flow)
    if traces.names == ["forward", "backward"]:
        return _both(layer, traces, dy, flow)
    if all(name.startswith("cell ") for name in traces.names):  # cells below read every h
        return _one_after_another([*[None] * (len(traces) - 1), layer], traces, dy, flow)
    raise ValueError(
        f"layer: expected the traces of one call of a stack or of two directions, got those of {traces.names}; "
        "give the layer itself, or one of them"
    )


def _one_after_another(layers: Sequence[Any], traces: Sequence[Any], dy: Any, flow: Flow) -> tuple[list[Any], Array]:
    found: list[Any] = []
    for layer, trace in zip(reversed(layers), reversed(traces), strict=True):
        one, dy = _back(layer, trace, dy, flow)
        found.insert(0, one)
    return found, dy


def _both(layer: Any, traces: Traces, dy: Any, flow: Flow) -> tuple[list[Any], Array]:
    """Runs both directions backwards from the gradient of their merged output. Returns as `_back`."""
    layers = (None, None) if layer is None else (layer.forward_layer, layer.backward_layer)
    last = [trace if isinstance(trace, Trace) else trace[-1] for trace in traces]
    mode = None if layer is None else layer.merge_mode
    if mode is None:
        if not isinstance(dy, (list, tuple)) or len(dy) != 2:
            raise ValueError(f"dy: expected a pair, one for each direction, got {described(dy)}")
        halves = list(dy)
    else:
        halves = _halves(mode, layer.forward_layer.return_sequences, last, _read(dy))
    if layer is not None and layer.forward_layer.return_sequences:
        halves[1] = _read(halves[1])[:, ::-1]
    pairs = [_back(one, trace, half, flow) for one, trace, half in zip(layers, traces, halves, strict=True)]
    return [found for found, _ in pairs], pairs[0][1] + pairs[1][1]


def _halves(mode: str, sequences: bool, last: list[Trace], dy: Array) -> list[Array]:
    """Splits the gradient of the merged output into those of both outputs, in the order of time."""
    (B, T, H), width = last[0].h.shape, sum(t.h.shape[2] for t in last) if mode == "concat" else last[0].h.shape[2]
    _check(dy, (B, T, width) if sequences else (B, width))
    if mode == "concat":
        return list(np.split(dy, [H], -1))
    if mode == "mul":
        there, back = (np.where(ran(t)[..., None] | (not sequences), t.h, 0) for t in last)
        return [dy * back[:, ::-1], dy * there] if sequences else [dy * back[:, -1], dy * there[:, -1]]
    return [dy / 2, dy / 2] if mode == "ave" else [dy, dy]


def _torch(lstm: Any, traces: list[Trace], dy: Any, flow: Flow) -> list[Any]:
    """Runs a `glasscell.torch.LSTM` backwards. Returns a result for each layer and direction, as its traces."""
    (B, T, H), directions, found = traces[0].h.shape, 1 + bool(lstm.bidirectional), list[Any]()
    dy = _read(dy)
    if dy.ndim == 2 and B == 1:
        dy = dy[None]
    elif not lstm.batch_first and dy.ndim == 3:
        dy = dy.swapaxes(0, 1)
    _check(dy, (B, T, directions * H), "with the batch first, ")
    dy = np.where(ran(traces[0])[..., None], dy, 0)
    while traces:
        own, traces = traces[-directions:], traces[:-directions]
        halves = np.split(dy, directions, -1)
        pairs = [flow(t, half[:, ::-1] if t.go_backwards else half) for t, half in zip(own, halves, strict=True)]
        found = [one for one, _ in pairs] + found
        dy = np.sum([dx[:, ::-1] if t.go_backwards else dx for t, (_, dx) in zip(own, pairs, strict=True)], 0)
    return found


def _of_h(layer: Any, trace: Trace, dy: Any) -> Array:
    """Extends the gradient of a layer's output, of every step or the last, to that of every h: (B, T, H)."""
    (B, T, H), dy = trace.h.shape, _read(dy)
    sequences = getattr(layer, "return_sequences", dy.ndim == 3)
    _check(dy, (B, T, H) if sequences else (B, H))
    every = dy
    if not sequences:
        every = np.zeros((B, T, H))
        every[:, T - 1 :] = dy[:, None]
    zeroed = getattr(layer, "zero_output_for_mask", False)
    return np.where(ran(trace)[..., None], every, 0) if zeroed else every


def _read(dy: Any) -> Array:
    dy = dy.detach().cpu() if hasattr(dy, "detach") else dy
    return read_array("dy", dy, "the gradient of the output").astype(np.float64)


def _check(dy: Array, shape: tuple[int, ...], how: str = "") -> None:
    if dy.shape != shape:
        raise ValueError(f"dy: expected the shape of the output, {how}{shape}, got {dy.shape}")
