"""What layers and traces say of themselves: a line, whatever their size."""

import numpy as np
import pytest
import torch

import glasscell as gc
from glasscell import LSTMWeights


def test_reprs():
    lstm = gc.LSTM(5, return_sequences=True)
    assert repr(lstm) == "LSTM(LSTMCell(5, not built, tanh, sigmoid, float32), return_sequences=True)"
    lstm.build(3, seed=0)
    assert repr(lstm.cell) == "LSTMCell(5, I=3, tanh, sigmoid, float32)"
    trace = lstm.trace(np.zeros((2, 4, 3), np.float32), lengths=[4, 1])
    assert repr(trace) == "Trace(B=2, T=4, H=5, float32, 5 of 8 steps ran; arrays i f g o c h zi zf zg zo mask)"
    stack = gc.RNN(gc.StackedRNNCells([gc.LSTMCell(5), gc.LSTMCell(2)]))
    both = gc.Bidirectional(gc.LSTM(5))
    for layer in (stack, both):
        assert "\n" not in repr(layer)
    assert repr(both).startswith("Bidirectional(LSTM(LSTMCell(5, not built")


def test_arrays_by_their_shapes():
    """States, weights, gradients and streams: what they hold, in a line."""
    x = np.zeros((2, 4, 3), np.float32)
    lstm = gc.LSTM(5, use_bias=False).build(3, seed=0)
    assert repr(lstm.weights) == "LSTMWeights(kernel (3, 20), recurrent_kernel (5, 20), bias None, float32)"
    assert repr(lstm.cell.get_initial_state(2)) == "State(h (2, 5), c (2, 5), float32)"
    y, pullback = lstm.vjp(x)
    assert repr(pullback(y)) == (
        "Gradients(x (2, 4, 3), kernel (3, 20), recurrent_kernel (5, 20), bias None, h0 (2, 5), c0 (2, 5), float32)"
    )
    assert repr(gc.Stream(lstm, 2)) == "Stream(LSTM(LSTMCell(5, I=3, tanh, sigmoid, float32)), batch=2)"
    both = gc.Bidirectional(gc.LSTM(5)).build(3, seed=0)
    y, pullback = both.vjp(x)
    chain = gc.LSTM.from_torch(torch.nn.LSTM(3, 5, 2, bidirectional=True))
    assert repr(pullback(y)).startswith("BidirectionalGradients(x (2, 4, 3), forward Gradients(x (2, 4, 3), kernel")
    for value in (pullback(y), both, chain, both.weights, chain.weights, gc.Stream(lstm).state, both.trace(x)[0]):
        assert "\n" not in repr(value)
        assert "array(" not in repr(value)


@pytest.mark.parametrize("bias", [True, False])
def test_weights_of_torch_parameters(bias):
    """A parameter requires its gradient, and is read all the same."""
    module = torch.nn.LSTM(3, 5, batch_first=True, bias=bias)
    layer = gc.LSTM(5, return_sequences=True, use_bias=bias)
    weights = LSTMWeights.from_torch(*module.parameters())
    layer.set_weights([w for w in weights if w is not None])
    x = torch.randn(2, 4, 3)
    np.testing.assert_allclose(layer(x), module(x)[0].detach(), atol=1e-6)
