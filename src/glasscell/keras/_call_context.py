"""The call context: what passes through Keras's code between a layer's `call` and its `inner_loop`."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import keras

from glasscell.keras._inner_loop import LoopResult


class Call(NamedTuple):
    """A layer's call on its way to the layer's `inner_loop`, with Keras's code alone in between.

    from_zero: the initial state is Keras's zeros. result: of the loop, if `Bidirectional` has computed it, or None.
    """

    layer: Any
    from_zero: bool
    result: LoopResult | None


class Precomputed(NamedTuple):
    """The result of a layer's loop, computed by `Bidirectional`, and the arguments of the call that it belongs to."""

    arguments: list[Any]
    result: LoopResult


class CallContext(threading.local):
    """What passes through Keras's code to a layer's `inner_loop`, in one thread.

    call: the innermost call that runs. precomputed: by the layer's id.
    """

    def __init__(self) -> None:
        self.call: Call | None = None
        self.precomputed: dict[int, Precomputed] = {}

    def precompute(self, layer: Any, result: LoopResult, *arguments: Any) -> None:
        """Keeps the result of the loop of a layer's call with these arguments."""
        self.precomputed[id(layer)] = Precomputed(keras.tree.flatten(arguments), result)

    def take(self, layer: Any, *arguments: Any) -> LoopResult | None:
        """Gives the result that is kept for a call of this layer with the very same arguments, and forgets it."""
        kept, flat = self.precomputed.pop(id(layer), None), keras.tree.flatten(arguments)
        if kept is None or len(kept.arguments) != len(flat):
            return None
        return kept.result if all(a is b for a, b in zip(kept.arguments, flat, strict=True)) else None


context = CallContext()
