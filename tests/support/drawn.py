"""Draws arrays and layers, gives arrays other layouts, and writes over them."""

import tempfile
from functools import partial

import numpy as np

from compare import arrays_of
from glasscell import LSTM

B, T, I, H = 3, 6, 4, 5


def draw(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def layer(inputs=I, units=H, dtype=np.float32, seed=0, **arguments):
    """Makes an LSTM of sequences, with no zero among its weights."""
    made = LSTM(units, **{"return_sequences": True, **arguments}).build(inputs, seed, dtype)
    made.cell.set_weights([w + made.cell.dtype.type(0.01) for w in made.cell.get_weights()])
    return made


def in_steps(stream, x):
    """Steps through x, and returns every h, (B, T, H)."""
    return np.stack([stream.step(x[:, t]).copy() for t in range(x.shape[1])], 1)


def twice_tanh(x):
    return 2 * np.tanh(x)


def _twice_tanh_derivative(x):
    return 2 - 2 * np.tanh(x) ** 2


twice_tanh.derivative = _twice_tanh_derivative


class Plain(np.ndarray):
    """A subclass that means nothing by it."""


def frozen(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def unaligned(array, off=1):
    """Copies an array to `off` bytes further on than its elements should start."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64 + off
    odd = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    odd[...] = array
    return odd


def mapped(array, mode):
    if array.size == 0:
        return array.copy()
    with tempfile.TemporaryFile() as file:
        file.write(array.tobytes())
        file.flush()
        return np.memmap(file, array.dtype, mode, shape=array.shape)


def tensor(array):
    import torch

    return torch.from_numpy(array.copy())


# Each gives an array of the same numbers.
LAYOUTS = {
    "plain": np.copy, "read-only": frozen, "Fortran": lambda a: a.copy("F"), "unaligned": unaligned,
    "strided": lambda a: np.repeat(a, 2, -1)[..., ::2], "reversed": lambda a: np.flip(np.flip(a).copy()),
    "subclass": lambda a: a.copy().view(Plain), "torch": tensor,
    **{f"memmap {mode}": partial(mapped, mode=mode) for mode in ("r", "r+", "c")},
}  # fmt: skip


def spoil(*things):
    """Writes over every array in `things`, where it can be written."""
    for array in arrays_of(things).values():
        if array.flags.writeable:
            array[...] = ~array if array.dtype == bool else 0 if array.dtype.kind in "iu" else np.nan
