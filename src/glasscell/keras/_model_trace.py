"""Defines `trace`, which gives every gate and state of an LSTM inside a Keras model, for an input of the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from glasscell._trace import Trace, Traces
from glasscell.keras._compat import layers_in
from glasscell.keras._layers import NativeLoop
from glasscell.keras._recorder import LayerCall, recordable, recording, unnoticed
from glasscell.keras._refusals import check_model, describe
from glasscell.keras._trace import lstm_cells, trace_layer

LAYERS = (keras.layers.RNN, keras.layers.Bidirectional)


def trace(model: Any, x: Any, initial_state: Any = None, mask: Any = None, *, layer: Any = None) -> Trace | Traces:
    """Run a model on `x` in inference, and return every gate, raw and activated, and every h and c of one LSTM in it.

    model: a built model or layer: Sequential, functional, subclassed or nested, with layers of glasscell or of Keras.
    Nothing in the model changes, not even the state of a stateful layer.
    x: the input of the model: an array, a tensor, or a list or dict of them. The model computes the input, the mask and
    the initial state of the LSTM from it.
    layer: the LSTM or its name. It is an RNN or LSTM over `LSTMCell`, an RNN over `StackedRNNCells` of them, or a
    `Bidirectional` of such layers; or a layer that contains one, such as TimeDistributed. Default: the only LSTM.
    mask: passed to the model as its own argument.

    Where `model` is itself such an LSTM, x is its input, (B, T, I). mask: (B, T), True = use the step. initial_state:
    (h, c), each (B, H); for stacked cells one such pair for each cell; for a Bidirectional the states of the forward
    layer and then those of the backward layer. Default: the current state of a stateful layer, else the layer's own
    initial state.

    Returns a `glasscell.Trace`. For stacked cells, for two directions and for several calls of one layer it returns
    `Traces`, a list. Time is in processing order, so it is reversed for a layer with `go_backwards`. The arrays are
    float64 where the weights are float64, and float32 otherwise, also for lower and mixed precision.

    Raises: ValueError for a model that is not built, for a wrong shape, and for a layer that is not in the model or
    does not run; TypeError for a layer or cell of another kind. The errors name it and the expected kind.

    >>> trace(model, words, layer="lstm").f.mean()
    """
    check_model(model)
    if isinstance(model, LAYERS) and layer is None:
        return trace_layer(model, x, initial_state, mask)
    if initial_state is not None:
        raise ValueError(
            f"initial_state: expected None for a whole model, got {describe(initial_state)}; "
            "the model itself finds the state, in x where it is one of its inputs"
        )
    chosen = _choose(model, layer)
    if not model.built:
        raise ValueError(f"model: expected a built model, got {model.name!r} without weights; call or build it first")
    directions = [chosen.forward_layer, chosen.backward_layer] if _is_bidirectional(chosen) else [chosen]
    calls = _record(model, x, mask, directions)
    return _assemble(model, chosen, [[call for call in calls if call.layer is one] for one in directions])


def _choose(model: Any, layer: Any) -> Any:
    """Finds the LSTM to trace: `layer`, or the only LSTM inside `layer`, or the only one in the model."""
    part = model if layer is None else _find(model, layer)
    found = [part] if isinstance(part, LAYERS) else list(_lstms_in(part))
    if len(found) == 1:
        for one in _directions(found[0]):
            lstm_cells(one)  # raises a TypeError for other cells
        return found[0]
    where = describe(part)
    if not found and layer is None and not isinstance(model, keras.Model):
        raise TypeError(f"layer: expected an LSTM, RNN or Bidirectional layer, got {where}, which has none in it")
    if not found:
        raise ValueError(f"model: expected a model with an LSTM in it, got {where}, which has none")
    raise ValueError(f"layer: expected the name of one LSTM, for {where} has several: {_names(found)}")


def _find(model: Any, layer: Any) -> Any:
    """Finds a layer of the model, given by its name or as the layer itself."""
    parts = {id(part): part for part in layers_in(model)}
    if isinstance(layer, keras.layers.Layer):
        if id(layer) in parts:
            return layer
        raise ValueError(
            f"layer: expected a layer of the model {model.name!r}, got {describe(layer)}, which is not in it; "
            f"its LSTMs are {_names(_lstms_in(model))}"
        )
    if not isinstance(layer, str):
        raise TypeError(f"layer: expected the name of a layer, or the layer itself, got {describe(layer)}")
    named = [part for part in parts.values() if part.name == layer]
    if len(named) == 1:
        return named[0]
    if named:
        raise ValueError(f"layer: expected one layer, got {layer!r}, the name of {len(named)}; give the layer itself")
    raise ValueError(f"layer: expected one of {_names(_lstms_in(model))}, got {layer!r}")


def _lstms_in(part: Any) -> Iterator[Any]:
    """Yields each LSTM in a part of a model once; a Bidirectional stands for its two layers."""
    inside = {id(layer): layer for layer in layers_in(part)}
    for both in [layer for layer in inside.values() if _is_bidirectional(layer)]:
        for direction in _directions(both):
            inside.pop(id(direction), None)
    yield from (layer for layer in inside.values() if isinstance(layer, LAYERS) and _is_lstm(layer))


def _is_bidirectional(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Bidirectional)


def _directions(layer: Any) -> list[Any]:
    """Lists the two layers of a Bidirectional, or the layer itself."""
    return [layer.forward_layer, layer.backward_layer] if _is_bidirectional(layer) else [layer]


def _is_lstm(layer: Any) -> bool:
    """Tells whether `trace_layer` can trace the layer."""
    try:
        return all(lstm_cells(one) for one in _directions(layer))
    except TypeError:
        return False


def _names(layers: Any) -> str:
    return ", ".join(repr(layer.name) for layer in layers) or "none"


def _record(model: Any, x: Any, mask: Any, layers: list[Any]) -> list[LayerCall]:
    """Runs the model once, and returns all recorded calls, those of these layers among them."""
    given = {} if mask is None else {"mask": mask}
    theirs = [layer for layer in layers if not isinstance(layer, NativeLoop)]
    with recordable(theirs), unnoticed(), recording() as calls:
        model(x, training=False, **given)
    return calls


def _assemble(model: Any, chosen: Any, calls: list[list[LayerCall]]) -> Trace | Traces:
    """Traces recorded calls, given as a list for each direction, and groups the directions of each call."""
    if not calls[0] or len({len(of_one) for of_one in calls}) > 1:
        times = " and ".join(str(len(of_one)) for of_one in calls)
        raise ValueError(
            f"layer: expected one that runs over time when {model.name!r} is called on x, got {describe(chosen)}, "
            f"which ran {times} times"
        )
    traces: list[Any] = []
    for together in zip(*calls, strict=True):
        found = [trace_layer(call.layer, call.sequences, call.initial_state, call.mask) for call in together]
        traces.append(Traces(found, ["forward", "backward"]) if len(found) > 1 else found[0])
    return traces[0] if len(traces) == 1 else Traces(traces, [f"call {k}" for k in range(len(traces))])
