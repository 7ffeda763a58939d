"""Calls of the native module with arrays by name: `FORWARD` and `BACKWARD` hold the shapes of all that each takes."""

import numpy as np

from glasscell import LSTMCell, _native
from glasscell._ops import operands
from glasscell._ops.call import step_flags_of
from glasscell._ops.operands import INPUTS, RESIDUALS, WEIGHTS, Operands, flatten

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


def two_directions(sizes, dtype=np.float32, gates=0, transposed_weights=False, scale=1.0, flags=False):
    """A call of both directions, forward and backward: all that it defines.

    gates: of the dropout masks, 0 for none. scale: of x, the states and the cotangents. flags: whether steps are
    skipped and reset. The call takes a function that copies an array to where the native module is to find it.
    """
    B, T, I, H = sizes
    rng, absent = np.random.default_rng(sum(sizes)), np.empty(0, dtype)

    def normal(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(dtype)

    shapes = [(4 * H, I), (4 * H, H)] if transposed_weights else [(I, 4 * H), (H, 4 * H)]
    arrays = [*(normal(*s) for s in (*shapes, (4 * H,))), *normal(2, B, H, scale=scale)]
    arrays[2] = arrays[2] if scale == 1 else None  # a bias would be added to far smaller numbers
    arrays += [normal(gates, B, n) if gates else None for n in (I, H)]
    x, dh, dhT = (normal(*shape, scale=scale) for shape in ((B, T, I), (B, T, H), (B, H)))
    steps = np.empty(0, np.uint8)
    if flags:
        steps = step_flags_of(B, T, rng.random((B, T)) < 0.8, reset=rng.random((B, T)) < 0.2)

    options = [LSTMCell(H, activation).options(back) for back, activation in ((False, "tanh"), (True, "silu"))]

    def call(give=lambda array: array):
        own = [Operands(o, *(a if a is None else give(a) for a in arrays), transposed_weights) for o in options]
        tensors, codes = flatten(own, absent)
        given = give(x), give(steps) if flags else steps, tensors, codes
        kept = operands.forward(*given, True, True)
        written = [array for k, array in enumerate(kept) if not flags or k % len(RESIDUALS) < 4]  # no gates if skipped
        kept = [give(array) if array.size else array for array in kept]
        return written + operands.backward(*given, kept, [give(dhT), absent, give(dh)] * 2)

    return call
