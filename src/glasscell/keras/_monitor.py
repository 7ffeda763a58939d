"""`GateMonitor`: statistics of the gates and the cell state, epoch by epoch, among the metrics."""

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
    """Puts statistics of the gates into each epoch's logs, for every glasscell LSTM layer that the model runs on `x`.

    Unless `metrics` says otherwise one value for each layer, the mean of the forget gate: how much of its state the
    layer keeps from step to step. For a layer named `lstm`, over the steps that the mask keeps, all rows and all
    units, there are:

    - `lstm/input_mean`, `lstm/forget_mean`, `lstm/candidate_mean`, `lstm/output_mean`: the means of i, f, g and o;
    - `lstm/input_saturated`, `lstm/forget_saturated`, `lstm/output_saturated`: the share of values below 0.1 or above
      0.9 (the bounds of Karpathy, Johnson & Li 2015). Only where the recurrent activation is sigmoid or hard_sigmoid:
      for gates of another range, or of a callable, they would mean nothing and are left out;
    - `lstm/cell_rms`: the norm of c over the units, divided by sqrt(H), on average over rows and steps.

    A Bidirectional's layers have their own names, `forward_lstm` and `backward_lstm`; stacked cells are
    `rnn/cell_0/...`, `rnn/cell_1/...`. A layer called several times in one run (shared, or in TimeDistributed) counts
    all its calls; a name that another layer has already gets `_1`, `_2`, in the order in which the layers run.

    x: a small batch of inputs as the model takes them (array, list or dict), run in one piece.
    metrics: which of these, by the ends of their names, as ("forget_mean", "cell_rms"); "all" for all of them. Whatever
    shows the metrics shows each of them: the progress bar prints them in its one line.
    every: measure at the epochs 0, every, 2 * every, ...; the others repeat the values, so that the keys never change.

    Place it BEFORE the callbacks that shall see the values (`TensorBoard`, `CSVLogger`, `EarlyStopping`): Keras hands
    one dict from callback to callback, in their order. `History` and the progress bar come last by themselves.
    TensorBoard shows the values as `epoch_lstm/forget_mean`.

    The model runs on x with `training=False`, once before training (so that a wrong x fails at once) and then at the
    end of an epoch. That moves no state: no seed generator, no stateful layer, no moving average, no gradient, not
    PyTorch's global generator.

    Raises: TypeError for what is no batch of inputs, ValueError for an unknown metric; ValueError in `fit`, before the
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
        built = self.model.built  # `fit` has built it; a loop of one's own may not have
        self._values = gate_statistics(self.model, self.x, self.metrics) if built else {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Measure, if it is time, and add the values to `logs`."""
        if epoch % self.every == 0 or not self._values:
            self._values = gate_statistics(self.model, self.x, self.metrics)
        if logs is not None:
            logs.update(self._values)


def _check_batch(x: Any) -> None:
    """Refuses what gives batches one after another, or is none."""
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
    """Computes the values that `GateMonitor` logs, of the model as it is. Changes nothing in it."""
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
    """Traces a call: each cell of the layer with its trace."""
    found: Any = trace_layer(call.layer, call.sequences, call.initial_state, call.mask)
    return list(zip(lstm_cells(call.layer), found if isinstance(found, list) else [found], strict=True))


def _is_lstm(layer: Any) -> bool:
    """Tells whether `trace_layer` opens the layer."""
    try:
        return bool(lstm_cells(layer))
    except TypeError:
        return False


def _free_name(name: str, taken: Any) -> str:
    """Numbers the name of a layer where another layer has it already."""
    names = [name, *(f"{name}_{k}" for k in range(1, len(taken) + 1))]
    return next(n for n in names if n not in taken)
