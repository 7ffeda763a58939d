"""Gradients of stacks, both directions and chains, with every option at once, against differences in float64."""

import numpy as np
import pytest

import glasscell as gc
from glasscell._layers.bidirectional import BidirectionalGradients
from glasscell._layers.chain import Chain

B, T, I, H = 3, 5, 3, 4
RNG = np.random.default_rng(0)
X = RNG.standard_normal((B, T, I))
STEPS = {"mask": RNG.random((B, T)) < 0.7, "lengths": [5, 2, 4]}
RESET = RNG.random((B, T)) < 0.3
RATES = {"dropout": 0.3, "recurrent_dropout": 0.3, "dtype": "float64"}


def stack(**flags):
    cells = [gc.LSTMCell(H, "softsign", **RATES), gc.LSTMCell(2, use_bias=False, **RATES)]
    return gc.RNN(gc.StackedRNNCells(cells), **flags).build(I, seed=0)


def both(layer=None, inputs=I, **flags):
    layer = layer or gc.LSTM(H, return_sequences=True, **RATES)
    return gc.Bidirectional(layer, **flags).build(inputs, seed=1)


def states(*widths):
    return [RNG.standard_normal((B, width)) for width in widths]


def pairs(*widths):
    return [tuple(states(width, width)) for width in widths]


LAYERS = {
    "stack": (stack(return_sequences=True), pairs(H, 2)),
    "stack, last": (stack(go_backwards=True), pairs(H, 2)),
    "stack, zeroed": (stack(return_sequences=True, zero_output_for_mask=True), pairs(H, 2)),
    "both": (both(), states(H, H, H, H)),
    "both, mul": (both(merge_mode="mul"), states(H, H, H, H)),
    "both, last": (both(gc.LSTM(H, **RATES), merge_mode="ave"), states(H, H, H, H)),
    "both of stacks": (both(stack(return_sequences=True)), pairs(H, 2, H, 2)),
    "chain": (Chain([both(), both(inputs=2 * H)]), [states(H, H, H, H), states(H, H, H, H)]),
}


def flat(value):
    return [a for part in value for a in flat(part)] if isinstance(value, (list, tuple)) else [value]


def gradients_of(found):
    """The gradients in the order of `get_weights`, and those of the states in the order of `initial_state`."""
    if isinstance(found, BidirectionalGradients):
        return [a + b for a, b in zip(*map(gradients_of, found[1:]), strict=True)]
    if isinstance(found, list):
        return [[g for part in parts for g in part] for parts in zip(*map(gradients_of, found), strict=True)]
    return [g for g in (found.kernel, found.recurrent_kernel, found.bias) if g is not None], [found.h0, found.c0]


@pytest.mark.parametrize("kind", LAYERS)
def test_against_differences(kind):
    """Along one random direction of all inputs at once: the error of the difference is some 1e-10 of the value."""
    layer, initial = LAYERS[kind]
    options = {**STEPS, "reset": RESET, **layer.dropout_masks(B, seed=2)}
    weights, given = layer.get_weights(), flat(initial)
    y, pullback = layer.vjp(X, initial, **options)
    dy = RNG.standard_normal(y.shape)
    found = pullback(dy)
    dx = (found[0] if isinstance(found, list) else found).x
    d_weights, d_states = gradients_of(found)
    moves = [RNG.standard_normal(a.shape) for a in (X, *weights, *given)]
    expected = sum((g * m).sum() for g, m in zip([dx, *d_weights, *d_states], moves, strict=True))

    def loss(step):
        x, *moved = (a + step * m for a, m in zip((X, *weights, *given), moves, strict=True))
        layer.set_weights(moved[: len(weights)])
        rest = iter(moved[len(weights) :])

        def like(value):
            return [like(part) for part in value] if isinstance(value, (list, tuple)) else next(rest)

        return (layer(x, like(initial), **options) * dy).sum()

    difference = (loss(1e-5) - loss(-1e-5)) / 2e-5
    layer.set_weights(weights)
    np.testing.assert_allclose(difference, expected, rtol=1e-7)
    np.testing.assert_array_equal(layer(X, initial, **options), y)
