"""`gradient_flow`: the gradients of every step, beside autograd of JAX and PyTorch and beside our own pullback."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch

import glasscell as gc
import glasscell.keras
import glasscell.torch
from cases import make_case
from compare import assert_close
from drawn import B, H, I, T, draw, layer
from glasscell.insight import gradient_flow

FLOAT32 = 2e-5  # float32 rounding of what autograd sums over steps, in another order

MASK = np.array([[1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], bool)
RESET = np.array([[0, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0]], bool)
STATE = draw(B, H), draw(B, H, seed=1)


def test_equal_to_autograd_of_jax():
    """Of a scan whose states are moved by numbers that are zero: dL/dc_t with all that h_t owes to c_t."""
    lstm, x, dy = layer(), draw(B, T, I), draw(B, T, H, seed=2)
    kernel, recurrent_kernel, bias = lstm.weights

    def loss(moved_h, moved_c):
        def step(state, now):
            (h, c), (x_t, more_h, more_c) = state, now
            i, f, g, o = jnp.split(x_t @ kernel + h @ recurrent_kernel + bias, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g) + more_c
            h = jax.nn.sigmoid(o) * jnp.tanh(c) + more_h
            return (h, c), h

        moves = (jnp.swapaxes(a, 0, 1) for a in (x, moved_h, moved_c))
        _, hs = jax.lax.scan(step, STATE, tuple(moves))
        return (jnp.swapaxes(hs, 0, 1) * dy).sum()

    dh, dc = jax.grad(loss, (0, 1))(jnp.zeros((B, T, H)), jnp.zeros((B, T, H)))
    flow = gradient_flow(lstm, x, dy, initial_state=STATE)
    assert_close(flow.h, dh, FLOAT32)
    assert_close(flow.c, dc, FLOAT32)
    assert_close(flow.per_unit("h"), np.sqrt((np.asarray(dh) ** 2).sum(0)), FLOAT32)
    assert_close(flow.in_all(), np.sqrt((np.asarray(dc) ** 2).sum((0, 2))), FLOAT32)


def test_equal_to_autograd_of_pytorch():
    """Of a `torch.nn.LSTM` called step by step, whose states retain their gradients."""
    lstm, x, dy = torch.nn.LSTM(I, H, batch_first=True), torch.randn(B, T, I), torch.randn(B, T, H)
    state, states = tuple(torch.from_numpy(s)[None] for s in STATE), []
    for t in range(T):
        _, state = lstm(x[:, t : t + 1], state)
        for s in state:
            s.retain_grad()
        states.append(state)
    sum((h[0] * dy[:, t]).sum() for t, (h, _) in enumerate(states)).backward()
    hx = tuple(torch.from_numpy(s)[None] for s in STATE)
    (flow,) = gradient_flow(glasscell.torch.accelerate(lstm), x, dy, hx=hx)
    for t, (h, c) in enumerate(states):
        assert_close(flow.h[:, t], h.grad[0], FLOAT32)
        assert_close(flow.c_next[:, t], np.zeros((B, H)) if c.grad is None else c.grad[0], FLOAT32)


def test_equal_to_the_pullback_of_every_tail():
    """With masks, resets, both orders of time and every activation: the state's gradients are those of the steps left.

    The sums of the pullback are rounded to the dtype; in float64 little is left of that.
    """
    for seed in range(24):
        case = make_case(seed, largest=(3, 7, 4, 5))
        arguments, (dy, _) = case.arguments(np.float64), case.cotangents(np.float64)
        rnn = case.layer("native", np.float64)
        flow = gradient_flow(rnn, dy=dy, **arguments)
        found = rnn.vjp(**arguments)[1](dy)
        assert_close(flow.h0, found.h0, 1e-9, case)
        assert_close(flow.c0, found.c0, 1e-9, case)
        assert_tails(rnn, arguments, dy, flow, rnn.trace(**arguments), case)


def assert_tails(rnn, arguments, dy, flow, trace, case):
    time, axis = arguments["x"].shape[1], {"x": 1, "mask": 1, "reset": 1}
    if arguments["lengths"] is not None:
        inside = np.arange(time) < arguments["lengths"][:, None]
        mask, reset = arguments["mask"], arguments["reset"]
        arguments = {**arguments, "mask": inside if mask is None else inside & mask, "lengths": None}
        arguments["reset"] = None if reset is None else reset & inside
    zeroed = rnn.zero_output_for_mask and arguments["mask"] is not None
    for t in range(time - 1):
        here = slice(0, time - 1 - t) if rnn.go_backwards else slice(t + 1, time)
        tail = {n: a[:, here] if n in axis and a is not None else a for n, a in arguments.items()}
        tail["initial_state"] = trace.h[:, t].copy(), trace.c[:, t].copy()
        found = rnn.vjp(**tail)[1](np.ascontiguousarray(dy[:, t + 1 :]) if rnn.return_sequences else dy)
        own = dy[:, t] if rnn.return_sequences else 0
        own = np.where(trace.mask[:, t, None], own, 0) if zeroed and trace.mask is not None else own
        assert_close(flow.h[:, t], found.h0 + own, 1e-9, case)
        assert_close(flow.c_next[:, t], found.c0, 1e-9, case)


def merged(mode, sequences=True, **arguments):
    both = gc.Bidirectional(gc.LSTM(H, return_sequences=sequences), merge_mode=mode)
    return both.build(I, 0), arguments


def stack(**arguments):
    cells = gc.StackedRNNCells([gc.LSTMCell(H), gc.LSTMCell(3)])
    return gc.RNN(cells, return_sequences=True, **arguments).build(I, 0), {"mask": MASK, "reset": RESET}


def chain():
    return gc.LSTM.from_torch(torch.nn.LSTM(I, H, 2, bidirectional=True)), {"mask": MASK}


def both_stacks():
    cells = gc.StackedRNNCells([gc.LSTMCell(H), gc.LSTMCell(3)])
    return gc.Bidirectional(gc.RNN(cells, return_sequences=True), "mul").build(I, 0), {"mask": MASK}


LAYERS = {
    "stack": stack, "stack backwards": lambda: stack(go_backwards=True), "chain": chain, "stacks": both_stacks,
    **{f"{mode} {every}": lambda mode=mode, every=every: merged(mode, every, mask=MASK)
       for mode in ("concat", "sum", "mul", "ave", None) for every in (True, False)},
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_several_cells(name):
    """Each cell's initial state has the gradient that the layer's own pullback gives it."""
    rnn, arguments = LAYERS[name]()
    x = draw(B, T, I)
    y, pullback = rnn.vjp(x, **arguments)
    dy = [draw(*one.shape, seed=k) for k, one in enumerate(y)] if isinstance(y, tuple) else draw(*y.shape, seed=1)
    found = flat(pullback(dy), lambda g: hasattr(g, "h0"))
    flows = flat(gradient_flow(rnn, x, dy, **arguments), lambda g: hasattr(g, "h0"))
    assert len(flows) == len(found)
    for flow, gradients in zip(flows, found, strict=True):
        assert_close(flow.h0, gradients.h0, FLOAT32)
        assert_close(flow.c0, gradients.c0, FLOAT32)


def flat(value, is_leaf):
    if is_leaf(value):
        return [value]
    parts = (value.forward, value.backward) if hasattr(value, "forward") else value
    return [leaf for part in parts for leaf in flat(part, is_leaf)]


@pytest.mark.parametrize("batch_first", [True, False])
def test_layers_of_pytorch(batch_first):
    lstm = glasscell.torch.LSTM(I, H, 2, bidirectional=True, batch_first=batch_first)
    x, hx = torch.randn(*((B, T) if batch_first else (T, B)), I), [torch.randn(4, B, H) for _ in "hc"]
    hx = tuple(s.requires_grad_() for s in hx)
    lengths = torch.tensor([T, 2, 4])
    y, _ = lstm(x, hx, lengths=lengths)
    dy = torch.randn_like(y)
    y.backward(dy)
    flows = gradient_flow(lstm, x, dy, hx=hx, lengths=lengths)
    for k, flow in enumerate(flows):
        assert_close(flow.h0, hx[0].grad[k], FLOAT32)
        assert_close(flow.c0, hx[1].grad[k], FLOAT32)
    one = gradient_flow(lstm.eval(), x[0] if batch_first else x[:, 0], dy[0] if batch_first else dy[:, 0])
    assert one[0].h.shape == (1, T, H)


def test_layers_of_keras():
    """As a NumPy layer of the same weights, which the tests above hold; and by its trace, where a layer has none."""
    x, dy = draw(B, T, I), draw(B, T, 2 * H, seed=1)
    theirs = glasscell.keras.Bidirectional(glasscell.keras.LSTM(H, return_sequences=True))
    theirs.build(x.shape)
    ours = gc.Bidirectional.from_config(theirs.get_config()).build(I)
    ours.set_weights(theirs.get_weights())
    expected = gradient_flow(ours, x, dy, mask=MASK)
    kerass = keras.layers.Bidirectional(keras.layers.LSTM(H, return_sequences=True))
    kerass.build(x.shape)
    kerass.set_weights(theirs.get_weights())
    zeroed = np.where(MASK[..., None], dy, 0)
    pair = zeroed[..., :H], zeroed[:, ::-1, H:]
    for found in (
        gradient_flow(theirs, x, dy, mask=MASK),
        gradient_flow(glasscell.keras.trace(kerass, x, mask=MASK), None, pair),
    ):
        for flow, wanted in zip(found, expected, strict=True):
            for name in ("h", "c", "c_next", "carousel", "h0", "c0"):
                np.testing.assert_allclose(getattr(flow, name), getattr(wanted, name), rtol=1e-4, atol=1e-6)


def test_the_carousel_is_the_product_of_the_forget_gates():
    lstm, x = layer(), draw(B, T, I)
    flow, trace = gradient_flow(lstm, x, np.ones((B, T, H)), mask=MASK, reset=RESET), lstm.trace(x, mask=MASK)
    row = 0  # skips step 2, and starts anew before step 4
    np.testing.assert_allclose(flow.carousel[row, 4], trace_f(lstm, x)[row, 5], rtol=1e-6)
    np.testing.assert_array_equal(flow.carousel[row, 5], 1)
    assert not flow.carousel[row, :4].any()
    plain = gradient_flow(trace, None, np.ones((B, T, H))).carousel
    np.testing.assert_allclose(plain[row, 1], trace.f[row, 3:].prod(0), rtol=1e-6)


def trace_f(lstm, x):
    return lstm.trace(x, mask=MASK, reset=RESET).f
