"""Arrays between pages that nobody may touch; run as a script, native calls on nothing but such arrays.

The instruction set is chosen once for a process, by GLASSCELL_TARGET. A byte read or written beyond an array ends it.
"""

import ctypes
import mmap

import numpy as np

from cases import make_case
from compare import assert_same_bits
from glasscell import LSTMCell, Stream, _native
from glasscell._layers.rnn import RNN
from glasscell._ops import aligned
from glasscell._ops import numpy as engine
from glasscell._ops.call import step_flags_of
from glasscell._ops.operands import RESIDUALS, Operands, backward, flatten, forward

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
at_end = True  # whether arrays end, or start, where a forbidden page does


def empty(shape, dtype):
    """Of NaN, or ones among bytes."""
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


class Guarded:
    """NumPy, except that its empty arrays are guarded."""

    def __getattr__(self, name):
        return getattr(np, name)

    @staticmethod
    def empty(shape, dtype=float):
        return empty(shape, dtype)

    @staticmethod
    def empty_like(array):
        return empty(array.shape, array.dtype)


def both_kinds(run):
    """What run(array) gives, guarded and not: the same."""
    plain_np, plain_empty = engine.np, aligned.empty
    expected = run(lambda array: array)
    engine.np, aligned.empty = Guarded(), empty
    try:
        got = run(guarded)
    finally:
        engine.np, aligned.empty = plain_np, plain_empty
    for one, other in zip(got, expected, strict=True):
        if other is not None:
            assert_same_bits(one, other)


def layer_calls(case, dtype):
    """Forward, trace, and the gradients of the tape and of the spans."""

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
        results = [y, trace.h, trace.c, *vars(pullback(dy)).values(), *vars(less(dy)).values()]
        if not rnn.go_backwards:
            stream = Stream(rnn, len(case.x))
            results += [stream.step(guard(options["x"][:, t])).copy() for t in range(min(3, case.x.shape[1]))]
        return results

    both_kinds(run)


def direction_calls(B, T, I, H, gates, transposed_weights, dtype):
    rng = np.random.default_rng(B + T + I + H)
    normal = rng.standard_normal
    shapes = [(4 * H, I), (4 * H, H)] if transposed_weights else [(I, 4 * H), (H, 4 * H)]
    arrays = [normal(shape).astype(dtype) for shape in (*shapes, (4 * H,), (B, H), (B, H))]
    masks = [normal((gates, B, n)).astype(dtype) for n in (I, H)] if gates else [None, None]
    x, dy, absent = normal((B, T, I)).astype(dtype), normal((B, T, H)).astype(dtype), np.empty(0, dtype)
    steps = step_flags_of(B, T, rng.random((B, T)) < 0.8, reset=rng.random((B, T)) < 0.2)

    def run(guard):
        own = [
            Operands(LSTMCell(H, "silu" if back else "tanh").options(back),
                      *map(guard, arrays), *(m if m is None else guard(m) for m in masks), transposed_weights)
            for back in (False, True)
        ]  # fmt: skip
        tensors, codes = flatten(own, absent)
        kept = forward(guard(x), guard(steps), tensors, codes, True, True)
        written = [array for k, array in enumerate(kept) if k % len(RESIDUALS) < 4]  # no gates: none at skipped steps
        cotangents = [guard(dy[:, 0].copy()), absent, guard(dy)] * 2
        return written + backward(guard(x), guard(steps), tensors, codes, kept, cotangents)

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
                direction_calls(B, T, I, H, (0, 1, 4)[n % 3], transposed_weights, (np.float32, np.float64)[n // 3 % 2])
    print(_native.target())


if __name__ == "__main__":
    main()
