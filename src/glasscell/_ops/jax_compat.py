"""Private parts of JAX that its primitives rely on; tests/keras/test_keras_compat.py notices when one moves."""

from __future__ import annotations

from typing import Any

import jax
from jax.interpreters import ad


def varies(aval: Any) -> bool:
    """Tells whether a value differs along an axis of a mesh. A primitive has no public way to ask, nor to say so."""
    return bool(aval.mat.varying)


def is_exported(context: Any) -> bool:
    """Tells whether a lowering is for a program that is saved, as that of `jax.export`; a rule has no public way."""
    return bool(context.module_context.lowering_parameters.for_export)


def zero_tangent(value: Any) -> Any:
    """Makes the zero that the derivative rule of a primitive gives; publicly there are only arrays of zeros."""
    return ad.Zero(jax.typeof(value).to_tangent_aval())
