"""Calls of the native module with arrays by name: `FORWARD` and `BACKWARD` hold the shapes of all that each takes."""

import numpy as np

from glasscell import _native
from glasscell._ops.operands import INPUTS, RESIDUALS, WEIGHTS

B, T, I, H = 2, 3, 4, 5
CODES = {"activation": 0, "recurrent_activation": 1, "go_backwards": 0, "transposed_weights": 0}
COTANGENTS = ("dhT", "dcT", "dh")
GRADIENTS = ("dx", *(f"d_{name}" for name in WEIGHTS))

SHARED = {
    "x": (B, T, I), "step_flags": (B, T), "kernel": (I, 4 * H), "recurrent_kernel": (H, 4 * H), "bias": (4 * H,),
    "h0": (B, H), "c0": (B, H), "dropout_mask": (4, B, I), "recurrent_dropout_mask": (1, B, H), "h": (B, T, H),
    "c": (B, T, H), "gates": (B, T, 4, H), "z": (B, T, 4, H), "cell_checkpoints": (1, B, H),
}  # fmt: skip
FORWARD = {**SHARED, "hT": (B, H), "cT": (B, H)}
BACKWARD = {
    **SHARED, "dh": (B, T, H), "dhT": (B, H), "dcT": (B, H), "dx": (B, T, I),
    **{f"d_{name}": SHARED[name] for name in WEIGHTS},
}  # fmt: skip
OPTIONAL = {
    "step_flags", "bias", "dropout_mask", "recurrent_dropout_mask", "c", "gates", "z", "cell_checkpoints",
    "dh", "dhT", "dcT", "dx", "d_bias",
}  # fmt: skip


def native_arguments(shapes, dtype=np.float32):
    return {name: np.ones(shape, np.uint8 if name == "step_flags" else dtype) for name, shape in shapes.items()}


def is_optional(name, function):
    return name in OPTIONAL or (name == "h" and function is forward)


def forward(a, codes=CODES, packed=None):
    inputs, residuals = ([a[name] for name in names] for names in (INPUTS, RESIDUALS))
    _native.forward(a["x"], a["step_flags"], inputs, [*codes.values()], residuals, packed)


def backward(a, codes=CODES):
    lists = [[a.get(name) for name in names] for names in (INPUTS, RESIDUALS, COTANGENTS, GRADIENTS)]
    _native.backward(a["x"], a["step_flags"], lists[0], [*codes.values()], *lists[1:])


SHAPES = {forward: FORWARD, backward: BACKWARD}
