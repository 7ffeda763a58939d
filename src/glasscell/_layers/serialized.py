"""Writes and reads the layers inside another layer's configuration, as Keras does; imports no class named there."""

from __future__ import annotations

from typing import Any


def serialized(layer: Any, class_name: str) -> dict[str, Any]:
    """Write a layer as Keras does, under a class name of `keras.layers`."""
    config = layer.get_config()
    return {"module": "keras.layers", "class_name": class_name, "config": config, "registered_name": None}


def deserialized(written: Any, kinds: dict[str, Any], argument: str) -> Any:
    """Make the layer that `serialized` wrote, by its class name in `kinds`; a layer is returned as it is.

    Raises: TypeError for another kind, naming the argument.
    """
    if not isinstance(written, dict):
        return written
    name = written.get("class_name")
    if name not in kinds:
        raise TypeError(f"{argument}: expected {' or '.join(kinds)}, got {name!r}")
    return kinds[name].from_config(written.get("config"))
