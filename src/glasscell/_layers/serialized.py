"""Layers inside the configuration of others, as Keras writes them. Nothing named in one is imported."""

from __future__ import annotations

from typing import Any


def serialized(layer: Any, class_name: str) -> dict[str, Any]:
    """Write a layer as Keras does."""
    config = layer.get_config()
    return {"module": "keras.layers", "class_name": class_name, "config": config, "registered_name": None}


def deserialized(written: Any, kinds: dict[str, Any], argument: str) -> Any:
    """Make the layer that was written, one of `kinds` by its class name; a layer stays as it is.

    Raises: TypeError for another kind, naming the argument.
    """
    if not isinstance(written, dict):
        return written
    name = written.get("class_name")
    if name not in kinds:
        raise TypeError(f"{argument}: expected {' or '.join(kinds)}, got {name!r}")
    return kinds[name].from_config(written.get("config"))
