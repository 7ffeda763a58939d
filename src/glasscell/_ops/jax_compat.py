"""Private parts of JAX that its primitives rely on; tests/keras/test_keras_compat.py notices when one moves."""

from __future__ import annotations

from typing import Any

import jax
from jax.interpreters import ad


def varies(aval: Any) -> bool:
    """Tells whether a value differs along an axis of a mesh. Primitives have no public way to ask or declare it."""
    return bool(aval.mat.varying)


def is_exported(context: Any) -> bool:
    """Tells whether a lowering is for a saved program, as in `jax.export`; rules have no public way to ask."""
    return bool(context.module_context.lowering_parameters.for_export)


def zero_tangent(value: Any) -> Any:
    """Makes the symbolic zero tangent that a derivative rule returns; publicly there are only arrays of zeros."""
    return ad.Zero(jax.typeof(value).to_tangent_aval())
