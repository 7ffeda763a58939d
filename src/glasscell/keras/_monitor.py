"""Defines `GateMonitor`, which adds statistics of the gates and the cell state to each epoch's metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from glasscell._trace import Trace
from glasscell.keras._recorder import LayerCall, recording, unnoticed
from glasscell.keras._refusals import describe
from glasscell.keras._trace import lstm_cells, trace_layer

GATES = {"input": "i", "forget": "f", "candidate": "g", "output": "o"}
SIGMOIDS = ("sigmoid", "hard_sigmoid")  # gates from 0 to 1, where "saturated" means something
LOW, HIGH = 0.1, 0.9
SATURATED = ("input_saturated", "forget_saturated", "output_saturated")
METRICS = (*(f"{gate}_mean" for gate in GATES), *SATURATED, "cell_rms")


class GateMonitor(keras.callbacks.Callback):  # type: ignore[misc]
    """Adds statistics of the gates to each epoch's logs, for every glasscell LSTM layer that the model runs on `x`.

    By default it adds one value for each layer, the mean of the forget gate: the share of its state that the layer
    keeps from step to step. The statistics are over the steps that the mask keeps, all rows and all units. For a layer
    named `lstm` they are:

    - `lstm/input_mean`, `lstm/forget_mean`, `lstm/candidate_mean`, `lstm/output_mean`: the means of i, f, g and o;
    - `lstm/input_saturated`, `lstm/forget_saturated`, `lstm/output_saturated`: the share of values below 0.1 or above
      0.9 (the bounds of Karpathy, Johnson & Li 2015). They exist only where the recurrent activation is sigmoid or
      hard_sigmoid, for gates of another range do not saturate at these bounds;
    - `lstm/cell_rms`: the norm of c over the units, divided by sqrt(H), on average over rows and steps.

    The layers of a Bidirectional have their own names, `forward_lstm` and `backward_lstm`; stacked cells are
    `rnn/cell_0/...`, `rnn/cell_1/...`. For a layer that runs several times (shared, or in TimeDistributed), the
    statistics are over all its calls. Where layers have the same name, the later ones get `_1`, `_2`, in the order in
    which they run.

    x: a small batch of inputs as the model takes them (array, list or dict), run in one piece.
    metrics: the statistics to add, by the ends of their names, as ("forget_mean", "cell_rms"); "all" adds all. Each one
    appears wherever metrics appear: the progress bar prints them all in its one line.
    every: measure at the epochs 0, every, 2 * every, ...; others repeat the values, so that the keys never change.

    Place it BEFORE the callbacks that should see the values (`TensorBoard`, `CSVLogger`, `EarlyStopping`): Keras passes
    one dict from callback to callback, in their order. `History` and the progress bar always come last.
    TensorBoard shows the values as `epoch_lstm/forget_mean`.

    The model runs on x with `training=False`, once before training (so that a wrong x fails at once) and then at the
    end of an epoch. These runs change nothing: no seed generator, no stateful layer, no moving average, no gradient,
    and not PyTorch's global generator.

    Raises: TypeError where x is no batch of inputs, ValueError for an unknown metric; ValueError in `fit`, before the
    first step, if the model runs no glasscell LSTM layer.

    >>> model.fit(x, y, callbacks=[GateMonitor(x[:32], metrics="all"), keras.callbacks.TensorBoard("logs")])
    """

    def __init__(self, x: Any, every: int = 1, metrics: str | Iterable[str] = ("forget_mean",)) -> None:
        super().__init__()
        if isinstance(every, bool) or not isinstance(every, (int, np.integer)) or every < 1:
            raise ValueError(f"every: expected a positive integer, got {every!r}")
        _check_batch(x)
        self.x, self.every, self.metrics = x, int(every), _chosen(metrics)
        self._values: dict[str, float] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        """Run the model on x once."""
        built = self.model.built  # a custom training loop, unlike `fit`, may not have built the model
        self._values = gate_statistics(self.model, self.x, self.metrics) if built else {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Measure if `every` asks for it, and add the values to `logs`."""
        if epoch % self.every == 0 or not self._values:
            self._values = gate_statistics(self.model, self.x, self.metrics)
        if logs is not None:
            logs.update(self._values)


def _check_batch(x: Any) -> None:
    """Refuses a source of many batches, and anything that is no batch."""
    streams = x is None or isinstance(x, (str, Iterator, keras.utils.PyDataset)) or hasattr(x, "element_spec")
    if streams or (not hasattr(x, "shape") and not keras.tree.is_nested(x)):
        raise TypeError(
            f"x: expected one batch of inputs as the model takes them (an array, list or dict), got {describe(x)}; "
            "of what gives many batches, give the inputs of one"
        )


def _chosen(metrics: str | Iterable[str]) -> tuple[str, ...]:
    """Reads the names of the metrics; refuses unknown ones by name."""
    if isinstance(metrics, str):
        metrics = METRICS if metrics == "all" else (metrics,)
    if not isinstance(metrics, Iterable):
        raise TypeError(f'metrics: expected names of metrics or "all", got {describe(metrics)}')
    chosen = tuple(metrics)
    unknown = [name for name in chosen if name not in METRICS]
    if unknown or not chosen:
        raise ValueError(f'metrics: expected some of {", ".join(METRICS)}, or "all", got {unknown or chosen}')
    return chosen


def gate_statistics(model: Any, x: Any, metrics: Iterable[str] = METRICS) -> dict[str, float]:
    """Computes the values that `GateMonitor` logs, for the model as it is now, and changes nothing in it."""
    metrics = set(metrics)
    with unnoticed(), recording() as calls:
        model(x, training=False)
    by_cell: dict[tuple[int, int], tuple[str, Any, list[Trace]]] = {}
    names: dict[int, str] = {}
    for call in calls:
        if not _is_lstm(call.layer):
            continue
        name = names.setdefault(id(call.layer), _free_name(call.layer.name, names.values()))
        for k, (cell, of_cell) in enumerate(_traces(call)):
            key = name if cell is call.layer.cell else f"{name}/cell_{k}"
            by_cell.setdefault((id(call.layer), k), (key, cell, []))[2].append(of_cell)
    if not by_cell:
        raise ValueError(
            f"model: expected glasscell LSTM layers, got {model.name!r}, which runs none on x; "
            "call glasscell.keras.accelerate(model) first, or build it with the layers of glasscell.keras"
        )
    values = {
        f"{name}/{key}": value
        for name, cell, traces in by_cell.values()
        for key, value in _statistics(cell, traces)
        if key in metrics
    }
    if not values:
        raise ValueError(
            f"metrics: expected some that the model's LSTMs have, got {', '.join(sorted(metrics))}; "
            "a saturation has a meaning only where recurrent_activation is sigmoid or hard_sigmoid"
        )
    return values


def _statistics(cell: Any, traces: list[Trace]) -> Iterator[tuple[str, float]]:
    """Yields the statistics of one cell over all its traces, each with the end of its name."""
    gates = {name: _at_kept_steps(traces, letter) for name, letter in GATES.items()}
    for name, values in gates.items():
        yield f"{name}_mean", _mean(values)
    if any(cell.recurrent_activation is keras.activations.get(name) for name in SIGMOIDS):
        for name in SATURATED:
            gate = gates[name.removesuffix("_saturated")]
            yield name, _mean((gate < LOW) | (gate > HIGH))
    c = _at_kept_steps(traces, "c").astype(np.float64)
    yield "cell_rms", _mean(np.sqrt(np.square(c).mean(axis=1)))


def _at_kept_steps(traces: list[Trace], name: str) -> Any:
    """Gathers one of the traces' arrays at the N steps that the masks keep: (N, H)."""
    arrays = [getattr(t, name)[np.ones(t.h.shape[:2], bool) if t.mask is None else t.mask] for t in traces]
    return np.concatenate(arrays)


def _mean(values: Any) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")


def _traces(call: LayerCall) -> list[tuple[Any, Trace]]:
    """Traces a call, and pairs each cell of the layer with its trace."""
    found: Any = trace_layer(call.layer, call.sequences, call.initial_state, call.mask)
    return list(zip(lstm_cells(call.layer), found if isinstance(found, list) else [found], strict=True))


def _is_lstm(layer: Any) -> bool:
    """Tells whether `trace_layer` can trace the layer."""
    try:
        return bool(lstm_cells(layer))
    except TypeError:
        return False


def _free_name(name: str, taken: Any) -> str:
    """Appends a number to the name of a layer where another layer has that name."""
    names = [name, *(f"{name}_{k}" for k in range(1, len(taken) + 1))]
    return next(n for n in names if n not in taken)
