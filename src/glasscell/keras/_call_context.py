"""Carries data from a layer's `call` to its `inner_loop`, past the Keras code between them."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import keras

from glasscell.keras._inner_loop import LoopResult


class Call(NamedTuple):
    """Holds what `call` tells `inner_loop` about a layer's call, where only Keras's code runs between them.

    from_zero: the initial state is Keras's zeros. result: the loop's result, if `Bidirectional` has computed it.
    """

    layer: Any
    from_zero: bool
    result: LoopResult | None


class Precomputed(NamedTuple):
    """Holds the result of a layer's loop, computed by `Bidirectional`, and the arguments of the layer's call."""

    arguments: list[Any]
    result: LoopResult


class CallContext(threading.local):
    """Holds the data for `inner_loop`, for each thread.

    call: the innermost running call. precomputed: results of loops, by the id of the layer.
    """

    def __init__(self) -> None:
        self.call: Call | None = None
        self.precomputed: dict[int, Precomputed] = {}

    def precompute(self, layer: Any, result: LoopResult, *arguments: Any) -> None:
        """Stores the loop's result for a call of this layer with these arguments."""
        self.precomputed[id(layer)] = Precomputed(keras.tree.flatten(arguments), result)

    def take(self, layer: Any, *arguments: Any) -> LoopResult | None:
        """Removes and returns the result stored for a call of this layer with the identical arguments, or None."""
        kept, flat = self.precomputed.pop(id(layer), None), keras.tree.flatten(arguments)
        if kept is None or len(kept.arguments) != len(flat):
            return None
        return kept.result if all(a is b for a, b in zip(kept.arguments, flat, strict=True)) else None


context = CallContext()
