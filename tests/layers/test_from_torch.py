"""A whole `torch.nn.LSTM` as a NumPy layer, and back: its outputs, states and gradients; and what cannot go over."""

import copy

import numpy as np
import pytest
import torch

import glasscell as gc
import glasscell.torch
from compare import assert_close, assert_same_bits, assert_same_results
from glasscell._layers.chain import Chain

B, T, I, H = 3, 6, 4, 5
X = np.random.default_rng(0).standard_normal((B, T, I)).astype(np.float32)
LENGTHS = [6, 2, 4]
# In float32, 8 epsilons of the array's scale a layer, and twice that through the layers' gradients.
FLOAT32 = 4e-6

KINDS = [(layers, both, bias) for layers in (1, 2, 3) for both in (False, True) for bias in (True, False)]


def module_of(layers=1, both=False, bias=True, kind=torch.nn.LSTM, **arguments):
    torch.manual_seed(layers)
    return kind(I, H, layers, bias=bias, bidirectional=both, batch_first=True, **arguments)


def parts_of(gradients):
    """The `Gradients` of each layer and direction, and that of x."""
    levels = gradients if isinstance(gradients, list) else [gradients]
    parts = [part for level in levels for part in (level[1:] if hasattr(level, "forward") else [level])]
    return levels[0].x, parts


@pytest.mark.parametrize(("layers", "both", "bias"), KINDS)
def test_a_module_is_a_layer(layers, both, bias):
    module = module_of(layers, both, bias)
    layer = gc.LSTM.from_torch(module)
    expected = {(1, False): gc.LSTM, (1, True): gc.Bidirectional}.get((layers, both), Chain if both else gc.RNN)
    assert type(layer) is expected
    x = torch.tensor(X, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    y, (h, _) = module(packed)
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
    (y**2).sum().backward()
    mine, pullback = layer.vjp(X, lengths=LENGTHS)
    assert_close(mine, y.detach(), FLOAT32)
    assert_same_bits(layer(X, lengths=LENGTHS), mine)
    dx, parts = parts_of(pullback(2 * mine))
    assert_close(dx, x.grad, 2 * FLOAT32)
    parameters = list(module.parameters())
    count = 4 if bias else 2
    for k, part in enumerate(parts):
        own = parameters[count * k : count * (k + 1)]
        assert_close(part.kernel, own[0].grad.T, 2 * FLOAT32)
        assert_close(part.recurrent_kernel, own[1].grad.T, 2 * FLOAT32)
        assert (part.bias is None) == (not bias)
        if bias:
            assert_close(part.bias, own[2].grad, 2 * FLOAT32)
    last = gc.LSTM.from_torch(module, return_sequences=False)(X, lengths=LENGTHS)
    assert_close(last, torch.cat(list(h[-2:] if both else h[-1:]), -1).detach(), FLOAT32)
    traces = layer.trace(X, lengths=LENGTHS)
    named = traces.named() if hasattr(traces, "named") else {"": traces}
    assert len(named) == layers * (1 + both)


@pytest.mark.parametrize(("layers", "both", "bias"), KINDS)
def test_and_back(layers, both, bias):
    """The module made of the layer, a `torch.nn.LSTM` that loads it, and the layer of its `state_dict` are the same."""
    layer = gc.LSTM.from_torch(module_of(layers, both, bias))
    module = glasscell.torch.from_layer(layer)
    theirs = module_of(layers, both, bias)
    theirs.load_state_dict(module.state_dict(), strict=True)
    y = layer(X)
    assert_same_bits(module(torch.from_numpy(X))[0].detach().numpy(), y)
    assert_close(theirs(torch.from_numpy(X))[0].detach(), y, FLOAT32)
    arrays = layer.to_torch()
    assert arrays.keys() == theirs.state_dict().keys()
    for again in (gc.LSTM.from_torch(arrays), gc.LSTM.from_torch(theirs.state_dict()), gc.LSTM.from_torch(module)):
        assert_same_results(again.get_weights(), layer.get_weights())
        assert_same_bits(again(X), y)
    for array in arrays.values():
        array[...] = np.nan  # copies
    assert_same_bits(layer(X), y)
    layer.set_weights([2 * w for w in layer.get_weights()])
    assert (layer(X) != y).any()


def test_states_of_a_chain():
    """`hx` of torch in the layers' lists; states come back as they go in, and the gradient of h0 as torch's."""
    module = module_of(2, True)
    layer = gc.LSTM.from_torch(module, return_state=True)
    rng = np.random.default_rng(1)
    h, c = (torch.tensor(rng.standard_normal((4, B, H)).astype(np.float32), requires_grad=True) for _ in range(2))
    state = [[s[k].detach().numpy() for k in (2 * n, 2 * n + 1) for s in (h, c)] for n in (0, 1)]
    y, (hT, cT) = module(torch.tensor(X), (h, c))
    mine, *states = layer(X, state)
    assert_close(mine, y.detach(), FLOAT32)
    for n in (0, 1):
        for k, s in enumerate(states[n]):
            assert_close(s, (hT, cT)[k % 2][2 * n + k // 2].detach(), FLOAT32)
    (y.sum() + (hT**2).sum()).backward()
    dstate = [[2 * s if k % 2 == 0 else 0 * s for k, s in enumerate(own)] for own in states]
    _, parts = parts_of(layer.vjp(X, state)[1](np.ones_like(mine), dstate))
    for k, part in enumerate(parts):
        assert_close(part.h0, h.grad[k], 2 * FLOAT32)
        assert_close(part.c0, c.grad[k], 2 * FLOAT32)
    with pytest.raises(ValueError, match=r"^initial_state: expected a list of 2, one for each layer, got"):
        layer(X, state[0])


def test_a_stateful_chain_traced():
    """A trace moves the state once, as a call does."""
    layer, other = (gc.LSTM.from_torch(module_of(2, True), stateful=True) for _ in range(2))
    for _ in range(2):
        traces, y = layer.trace(X), other(X)
        last = traces.named()["layer 1, backward"].h
        assert_same_bits(last[:, ::-1], y[..., H:])
    layer.reset_state()
    other.reset_state()
    assert_same_bits(layer(X), other(X))


def test_dropout_of_a_chain():
    module = module_of(2, True, kind=glasscell.torch.LSTM, recurrent_dropout=0.5)
    layer = gc.LSTM.from_torch(module)
    masks = layer.dropout_masks(B, seed=0)
    assert masks["recurrent_dropout_mask"][1][0].shape == (4, B, H)
    assert (layer(X, **masks) != layer(X)).any()
    with pytest.raises(ValueError, match=r"^training: expected True to draw the masks of recurrent_dropout=0.5"):
        layer.vjp(X)


def test_what_else_comes_along():
    """Activations and recurrent dropout of our module, the dtype, parametrizations; and a warning of what does not."""
    ours = module_of(2, kind=glasscell.torch.LSTM, activation="relu", recurrent_dropout=0.25, dtype=torch.float64)
    layer = gc.LSTM.from_torch(ours)
    assert (layer.cell.cells[1].activation.name, layer.cell.cells[1].recurrent_dropout) == ("relu", 0.25)
    x = X.astype(np.float64)
    ours.eval()
    assert_same_bits(ours(torch.from_numpy(x))[0].detach().numpy(), layer(x))
    back = glasscell.torch.from_layer(layer)
    assert (back.activation, back.recurrent_dropout, back.weight_ih_l0.dtype) == ("relu", 0.25, torch.float64)
    with pytest.raises(ValueError, match=r"^activation: expected 'tanh', as torch.nn.LSTM has, got 'relu'; glasscell"):
        layer.to_torch()
    normed = torch.nn.utils.parametrizations.weight_norm(module_of(), "weight_hh_l0")
    assert_close(gc.LSTM.from_torch(normed)(X), normed(torch.from_numpy(X))[0].detach(), FLOAT32)
    with pytest.warns(UserWarning, match=r"^module: its dropout=0.5 between layers stays behind"):
        gc.LSTM.from_torch(module_of(2, dropout=0.5))
    with pytest.warns(UserWarning, match=r"^layer: its dropout=0.5 stays behind"):
        glasscell.torch.from_layer(gc.LSTM(H, dropout=0.5).build(I))
    half = gc.LSTM.from_torch(module_of(dtype=torch.float16))
    assert half(X.astype(np.float16)).dtype == np.float16


def test_attributes_of_a_subclass_are_its_own():
    class Mine(torch.nn.LSTM):
        activation, recurrent_dropout = torch.nn.ReLU(), 0.5

    module = Mine(I, H, batch_first=True)
    layer = gc.LSTM.from_torch(module)
    assert (layer.cell.activation.name, layer.cell.recurrent_dropout) == ("tanh", 0.0)
    assert_close(layer(X), module(torch.from_numpy(X))[0].detach(), FLOAT32)


def test_weights_of_one_direction():
    module = torch.nn.LSTMCell(I, H)
    weights = gc.LSTMWeights.from_torch(*module.parameters())
    arrays = weights.to_torch()
    assert list(arrays) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    assert not arrays["bias_hh"].any()
    assert_same_results(gc.LSTMWeights.from_torch(**arrays), weights)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    cell = gc.LSTMCell(H)
    cell.set_weights(weights)
    assert_close(cell(X[:, 0])[0], module(torch.from_numpy(X[:, 0]))[0].detach(), FLOAT32)
    bare = gc.LSTMCell(H, use_bias=False)
    bare.set_weights(gc.LSTMWeights.from_torch(*torch.nn.LSTMCell(I, H, bias=False).parameters()))


def state_dict(**changes):
    return {**module_of(2).state_dict(), **changes}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (module_of(proj_size=2), "module: expected proj_size=0, got 2: the cell has no projection"),
        (module_of(proj_size=2).state_dict(), "module: expected proj_size=0, got a projection"),
        (torch.nn.GRU(I, H), "module: expected a torch.nn.LSTM or its state_dict(), got GRU"),
        (torch.nn.LSTMCell(I, H), "module: expected a torch.nn.LSTM or its state_dict(), got LSTMCell; LSTMWeights"),
        (torch.nn.Linear(I, H), "module: expected a torch.nn.LSTM or its state_dict(), got Linear"),
        (torch.nn.GRU(I, H).state_dict(), "weight_hh_l0: expected shape (4H, H), got (15, 5)"),
        (
            torch.nn.Linear(I, H).state_dict(),
            "weight_ih_l0: expected the state_dict() of one torch.nn.LSTM",
        ),
        (torch.nn.Sequential(module_of()).state_dict(), "weight_ih_l0: expected the state_dict() of one torch.nn.LSTM"),
        ({}, "weight_ih_l0: expected the state_dict() of one torch.nn.LSTM, got nothing of this name"),
        (state_dict(extra=1), "extra: expected the state_dict() of one torch.nn.LSTM, got it"),
        (state_dict(weight_ih_l1=torch.zeros(20, 4)), "weight_ih_l1: expected shape (4H, I) = (20, 5), got (20, 4)"),
        (state_dict(bias_hh_l1=torch.zeros(3)), "bias_hh_l1: expected shape (4H,) = (20,), got (3,)"),
        (state_dict(weight_hh_l1=None), "weight_hh_l1: expected an array of shape (4H, H), got None"),
        (
            module_of().to(torch.bfloat16),
            "weight_ih_l0: expected an array, got Tensor that NumPy cannot read: NumPy",
        ),
        (module_of(device="meta"), "weight_ih_l0: expected an array, got Tensor that NumPy cannot read: on meta"),
        (gc.LSTM(H), "module: expected a torch.nn.LSTM or its state_dict(), got LSTM(LSTMCell(5"),
        ("lstm.pt", "module: expected a torch.nn.LSTM or its state_dict(), got 'lstm.pt'"),
        (None, "module: expected a torch.nn.LSTM or its state_dict(), got None"),
    ],
)
def test_refused_modules(given, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        gc.LSTM.from_torch(given)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (gc.LSTM(H, go_backwards=True), "go_backwards: expected False"),
        (gc.Bidirectional(gc.LSTM(H), "sum"), "merge_mode: expected 'concat'"),
        (gc.RNN(gc.StackedRNNCells([gc.LSTMCell(H), gc.LSTMCell(2)])), "units: expected one for all cells"),
        (gc.Bidirectional(gc.RNN(gc.StackedRNNCells([gc.LSTMCell(H)] * 2))), "layer: expected one cell"),
        (gc.LSTM(H), "weights: the cell has none yet"),
        (gc.LSTMCell(H), "layer: expected a NumPy layer"),
        (torch.nn.LSTM(I, H), "layer: expected a NumPy layer"),
    ],
)
def test_layers_that_torch_has_not(layer, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        glasscell.torch.from_layer(copy.copy(layer))
    assert str(caught.value).startswith(message)
