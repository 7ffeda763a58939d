"""What layers receive while somebody looks on: one list, filled by `NativeLoop.inner_loop` while it is open."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
from keras import ops


class Received(NamedTuple):
    """One call of a layer, as NumPy arrays: sequences (B, T, I), the states it began with, mask (B, T) or None."""

    layer: Any
    sequences: Any
    initial_state: Any
    mask: Any


class _Recorder(threading.local):
    calls: list[Received] | None = None


_recorder = _Recorder()


@contextmanager
def recording() -> Iterator[list[Received]]:
    """Within it, what this thread's layers receive is appended to the list it gives."""
    before, _recorder.calls = _recorder.calls, []
    try:
        yield _recorder.calls
    finally:
        _recorder.calls = before


def note(layer: Any, sequences: Any, initial_state: Any, mask: Any) -> None:
    """Called by a layer with what it is about to run on. Does nothing unless a recording is open.

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
    _recorder.calls.append(Received(layer, *arrays))
