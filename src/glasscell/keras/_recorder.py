"""A recording of layer calls: one list for each thread, filled by `NativeLoop.inner_loop` while it is open."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
from keras import ops


class LayerCall(NamedTuple):
    """One call of a layer, as NumPy arrays. sequences: (B, T, I). initial_state: as given. mask: (B, T) or None."""

    layer: Any
    sequences: Any
    initial_state: Any
    mask: Any


class _Recorder(threading.local):
    calls: list[LayerCall] | None = None


_recorder = _Recorder()


@contextmanager
def recording() -> Iterator[list[LayerCall]]:
    """Gives a list to which this thread's layers append their calls as long as the context is open."""
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
