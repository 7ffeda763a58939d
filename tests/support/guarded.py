"""Arrays between pages that nobody may touch; run as a script, native calls on nothing but such arrays.

The instruction set is chosen once for a process, by GLASSCELL_TARGET. A byte read or written beyond an array ends it.
"""

import ctypes
import mmap
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np

from cases import make_case
from compare import assert_same_results
from glasscell import RNN, LSTMCell, Stream, _native
from glasscell._ops import aligned
from glasscell._ops import numpy as engine
from native_call import two_directions

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
at_end = True  # whether arrays end, or start, where a forbidden page does


def empty(shape, dtype=float):
    """Makes an array of NaN, or of ones among bytes."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    pages = -(-size // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (start, start + (pages + 1) * PAGE):
        assert libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0) == 0
    offset = PAGE + (pages * PAGE - size if at_end else 0)
    array = np.frombuffer(memory, dtype, int(np.prod(shape)), offset).reshape(shape)
    array[...] = np.nan if dtype.kind == "f" else 1
    return array


def guarded(array):
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def both_kinds(run):
    """Compares what run(guard) gives on guarded arrays and on others."""
    expected = run(lambda array: array)
    guarded_np = SimpleNamespace(**{**vars(np), "empty": empty, "empty_like": lambda a: empty(a.shape, a.dtype)})
    with patch.object(engine, "np", guarded_np), patch.object(aligned, "empty", empty):
        assert_same_results(run(guarded), expected)


def layer_calls(case, dtype):
    """Forward, trace, and the gradients of the tape and of the checkpoints."""

    def run(guard):
        options = {
            name: tuple(map(guard, value)) if isinstance(value, tuple) else value if value is None else guard(value)
            for name, value in case.arguments(dtype).items()
        }
        weights = [guard(w.astype(dtype)) for w in case.weights if w is not None]
        cell = LSTMCell(
            len(weights[1]), case.activation, case.recurrent_activation, use_bias=len(weights) == 3, engine="native"
        )
        cell.set_weights(weights)
        rnn = RNN(cell, return_sequences=True, go_backwards=case.flags["go_backwards"], engine="native")
        dy = guard(np.ones((*case.x.shape[:2], len(weights[1])), dtype))
        y, pullback = rnn.vjp(**options)
        _, less = rnn.vjp(**options, recompute=True)
        trace = rnn.trace(**options)
        results = [y, trace.h, trace.c, pullback(dy), less(dy)]
        if not rnn.go_backwards:
            stream = Stream(rnn, len(case.x))
            results += [stream.step(guard(options["x"][:, t])).copy() for t in range(min(3, case.x.shape[1]))]
        return results

    both_kinds(run)


def main():
    global at_end
    for end in (True, False):
        at_end = end
        for seed in range(24):
            for dtype in (np.float32, np.float64):
                layer_calls(make_case(seed, largest=(7, 6, 37, 37)), dtype)
        for n, H in enumerate((1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 65)):
            for transposed_weights in (False, True):
                B, T, I = 1 + n % 7, 1 + n % 5, 1 + 5 * n % 37
                dtype = (np.float32, np.float64)[n // 3 % 2]
                both_kinds(two_directions((B, T, I, H), dtype, (0, 1, 4)[n % 3], transposed_weights, flags=True))
    print(_native.target())


if __name__ == "__main__":
    main()
