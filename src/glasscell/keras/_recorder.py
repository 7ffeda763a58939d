"""Records layer calls, in one list for each thread, at the start of a layer's loop over time."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
from keras import ops

from glasscell.keras._inner_loop import step_mask


class LayerCall(NamedTuple):
    """Holds one call of a layer, as NumPy arrays. sequences: (B, T, I). mask: (B, T) or None."""

    layer: Any
    sequences: Any
    initial_state: Any
    mask: Any


class _Recorder(threading.local):
    calls: list[LayerCall] | None = None


_recorder = _Recorder()


@contextmanager
def recording() -> Iterator[list[LayerCall]]:
    """Yields a list to which this thread's layers append their calls while the context is open."""
    before, _recorder.calls = _recorder.calls, []
    try:
        yield _recorder.calls
    finally:
        _recorder.calls = before


def record_call(layer: Any, sequences: Any, initial_state: Any, mask: Any) -> None:
    """Appends the call that a layer is about to run. Does nothing unless a recording is open.

    Raises: ValueError where the tensors have no values, because the layer runs inside a compiled function.
    """
    if _recorder.calls is None:
        return
    try:
        arrays = keras.tree.map_structure(
            lambda t: None if t is None else ops.convert_to_numpy(t), (sequences, initial_state, mask)
        )
    except (TypeError, NotImplementedError, AttributeError) as error:  # what JAX, TensorFlow and PyTorch raise
        raise ValueError(
            f"layer: {layer.name!r} runs inside a function that its framework compiles or rematerialises, "
            "so what it receives cannot be looked at"
        ) from error
    _recorder.calls.append(LayerCall(layer, *arrays))


class _Recorded:
    """Records the calls of Keras's own layers, in `inner_loop`, as `NativeLoop` does for glasscell's."""

    def inner_loop(self, sequences: Any, initial_state: Any, mask: Any, training: bool = False) -> Any:
        """As `keras.layers.RNN.inner_loop`."""
        record_call(self, sequences, initial_state, step_mask(self, mask))
        return super().inner_loop(sequences, initial_state, mask, training)  # type: ignore[misc]


class _RecordedLSTM(_Recorded, keras.layers.LSTM):  # type: ignore[misc]
    pass


class _RecordedRNN(_Recorded, keras.layers.RNN):  # type: ignore[misc]
    pass


@contextmanager
def recordable(layers: Iterable[Any]) -> Iterator[None]:
    """Makes Keras's own recurrent layers, and subclasses of them, recordable while the context is open.

    A layer changes its class and stays the same object. In the new class `_Recorded` comes after a user's subclass and
    before Keras's class, so the record holds the arguments of Keras's own loop.
    """
    changed = {id(layer): (layer, type(layer)) for layer in layers}
    try:
        for layer, kind in changed.values():
            base = _RecordedLSTM if isinstance(layer, keras.layers.LSTM) else _RecordedRNN
            alone = kind is keras.layers.LSTM or kind is keras.layers.RNN
            layer.__class__ = base if alone else type(kind.__name__, (kind, base), {})
        yield
    finally:
        for layer, kind in changed.values():
            layer.__class__ = kind


@contextmanager
def unnoticed() -> Iterator[None]:
    """Lets a model run without side effects: on variables, gradients and the global random state."""
    with keras.StatelessScope():
        if keras.backend.backend() != "torch":
            yield
            return
        import torch

        # Layers without a seed of their own draw from PyTorch's global generator, also in inference.
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.no_grad(), torch.random.fork_rng(devices):
            yield
