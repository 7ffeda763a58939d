"""The order of every sum, as native/interface/call.h states it, written plainly here: the same bits.

The last 4H inputs have the identity as their kernel: their gradients are those of the raw gates, exactly.
"""

import numpy as np
import pytest

from compare import assert_same_bits
from glasscell import RNN, LSTMCell

BLOCK, CHUNK = 256, 128  # rows times steps; steps
OTHERS = 3  # inputs before the last 4H


def fma(a, b, c):
    """a * b + c of float32, rounded once.

    The product is exact in float64. Their sum is rounded to odd, which keeps what a second rounding must know.
    """
    a, b, c = (np.asarray(v, np.float32).astype(np.float64) for v in (a, b, c))
    product = a * b
    total = np.asarray(product + c)
    rest = total - product
    lost = (product - (total - rest)) + (c - rest)
    bits = total.view(np.int64)
    even = (lost != 0) & (bits % 2 == 0)
    away = (lost > 0) == (total > 0)
    return (bits + np.where(even, np.where(away, 1, -1), 0)).view(np.float64).astype(np.float32)


def test_fma_is_rounded_once():
    from fractions import Fraction

    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(3000) * 2.0 ** rng.integers(-12, 12, 3000) for _ in range(3))
    a, b = (np.float32(np.round(v * 4096) / 4096) for v in (a, b))
    c = np.where(rng.random(3000) < 0.5, -a * b * np.float32(1 + 2**-20), c).astype(np.float32)
    for got, *terms in zip(fma(a, b, c), a, b, c, strict=True):
        x, y, z = (Fraction(float(v)) for v in terms)
        exact, off = x * y + z, abs(Fraction(float(got)) - (x * y + z))
        for other in (np.nextafter(got, np.float32(np.inf)), np.nextafter(got, np.float32(-np.inf))):
            assert off <= abs(Fraction(float(other)) - exact)


def chain(start, pairs):
    for a, b in pairs:
        start = fma(a, b, start)
    return start


def time_blocks(B, T):
    steps = max(1, min(-(-BLOCK // B), T))
    return [range(first, min(first + steps, T)) for first in range(0, T, steps)][::-1]


CASES = [
    # B, T, H, backwards, masked, gates of the masks
    (1, 300, 2, False, False, 0),
    (3, 130, 5, True, True, 1),
    (300, 2, 3, False, True, 4),
    (2, 9, 40, True, False, 4),
    (7, 40, 17, False, True, 0),
]


def problem(B, T, H, backwards, masked, gates):
    rng = np.random.default_rng(B)
    inputs = OTHERS + 4 * H

    def normal(*shape, scale=1.0):
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    kernel = np.concatenate([normal(OTHERS, 4 * H), np.eye(4 * H, dtype=np.float32)])
    cell = LSTMCell(H, engine="native")
    cell.set_weights([kernel, normal(H, 4 * H, scale=H**-0.5), normal(4 * H)])
    options = {
        "initial_state": (normal(B, H), normal(B, H)),
        "mask": rng.random((B, T)) < 0.7 if masked else None,
        "reset": rng.random((B, T)) < 0.1 if masked else None,
        "dropout_mask": normal(gates, B, inputs)[0 if gates == 1 else slice(None)] if gates else None,
        "recurrent_dropout_mask": normal(gates, B, H)[0 if gates == 1 else slice(None)] if gates else None,
    }
    rnn = RNN(cell, return_sequences=True, go_backwards=backwards, engine="native")
    return rnn, 0.5 * normal(B, T, inputs), options, normal(B, T, H)


class Steps:
    """The operands of the sums, in processing order: x and h before each step, for each gate times its mask; dx; dz."""

    def __init__(self, rnn, x, options, y, dx):
        B, T, H = y.shape
        order = slice(None, None, -1) if rnn.go_backwards else slice(None)
        h = np.concatenate([options["initial_state"][0][:, None], y[:, :-1]], 1)
        never, always = np.zeros((B, T), bool), np.ones((B, T), bool)
        self.reset = never if options["reset"] is None else options["reset"][:, order]
        self.kept = always if options["mask"] is None else options["mask"][:, order]
        h = np.where(self.reset[..., None], np.float32(0), h)
        given = options["dropout_mask"], options["recurrent_dropout_mask"]
        self.masks = [
            np.broadcast_to(np.float32(1) if mask is None else mask, (4, B, n))
            for mask, n in zip(given, (x.shape[2], H), strict=True)
        ]
        self.x, self.h = (v * mask[:, :, None] for v, mask in zip((x[:, order], h), self.masks, strict=True))
        self.dx = dx[:, order]
        self.dz = self.dx[:, :, OTHERS:].reshape(B, T, 4, H)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("count", [1, 2])
def test_the_order_of_every_sum(threads, case, count):
    B, T, H, _, _, gates = case
    rnn, x, options, dy = problem(*case)
    if gates:  # masks of the last inputs would stand between their gradients and those of the gates
        options["dropout_mask"] = options["dropout_mask"].copy()
        options["dropout_mask"][..., OTHERS:] = 1
    threads(count)
    kernel, recurrent, bias = rnn.cell.weights
    trace = rnn.trace(x, **options)
    y, pullback = rnn.vjp(x, **options)
    got = pullback(dy)
    steps = Steps(rnn, x, options, y, got.x)
    columns = [slice(gate * H, (gate + 1) * H) for gate in range(4)]

    for gate, name in enumerate("ifgo"):  # raw gates
        xs, hs, own = steps.x[gate], steps.h[gate], columns[gate]
        z = np.broadcast_to(bias[own], (B, T, H))
        z = chain(z, ((xs[..., k, None], kernel[k, own]) for k in range(len(kernel))))
        z = chain(z, ((hs[..., k, None], recurrent[k, own]) for k in range(H)))
        assert_same_bits(getattr(trace, f"z{name}")[steps.kept], z[steps.kept], f"z{name}")

    def back(dz, matrix, masks):  # dx, dh
        total = np.float32(0)
        for gate, own in enumerate(columns):
            part = np.zeros((*dz.shape[:-2], len(matrix)), np.float32)
            part = chain(part, ((dz[..., gate, u, None], matrix[:, own][:, u]) for u in range(H)))
            total = total + part * masks[gate]
        return total

    others = back(steps.dz, kernel[:OTHERS], [m[:, None, :OTHERS] for m in steps.masks[0]])
    assert_same_bits(steps.dx[..., :OTHERS][steps.kept], others[steps.kept], "dx")
    first = steps.kept[:, 0] & ~steps.reset[:, 0]
    assert_same_bits(got.h0[first], back(steps.dz[:, 0], recurrent, steps.masks[1])[first], "dh0")

    sums = {"kernel": np.zeros_like(kernel), "recurrent_kernel": np.zeros_like(recurrent), "bias": np.zeros_like(bias)}
    for block in time_blocks(B, T):  # weights
        kept = [(b, s) for b in range(B) for s in block if steps.kept[b, s]]
        for begin in range(0, len(kept), CHUNK):
            chunk = kept[begin : begin + CHUNK]
            for gate, own in enumerate(columns):
                dz = [steps.dz[b, s, gate] for b, s in chunk]
                for name, rows in (("kernel", steps.x[gate]), ("recurrent_kernel", steps.h[gate])):
                    pairs = ((rows[b, s][:, None], d) for (b, s), d in zip(chunk, dz, strict=True))
                    start = np.zeros((rows.shape[-1], H), np.float32)
                    sums[name][:, own] += chain(start, pairs)
                total = np.zeros(H, np.float32)
                for d in dz:
                    total = total + d
                sums["bias"][own] += total
    for name, value in sums.items():
        assert_same_bits(getattr(got, name), value, f"d_{name}")
