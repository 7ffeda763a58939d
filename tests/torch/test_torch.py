"""`glasscell.torch` against `torch.nn`: outputs, states, gradients, packed sequences, files, and what torch has not."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import glasscell as gc
from compare import assert_close, assert_same_bits, error, scale
from glasscell.torch import LSTM, LSTMCell, accelerate, restore
from glasscell.torch._pass import draw_masks
from torch_pairs import agree, agree_in_bits, flat, normal, pair, saved, twins

OURS = 1e-6  # of the scale, between ours in float32 and torch's in float64


def outputs_and_gradients(module, x, states, **extra):
    """Everything that comes out, and the gradients of everything that goes in under random cotangents."""
    packed = isinstance(x, PackedSequence)
    source = (x.data if packed else x).detach().clone().requires_grad_()
    states = None if states is None else tuple(s.clone().requires_grad_() for s in states)
    y, final = module(x._replace(data=source) if packed else source, states, **extra)
    outputs, rng = flat((y, final)), np.random.default_rng(0)
    loss = sum((o * normal(rng, o.shape, torch.float32)).sum() for o in outputs)
    sources = [source, *(states or ()), *module.parameters()]
    return [o.detach() for o in outputs], torch.autograd.grad(loss, sources), y


@pytest.mark.parametrize("seed", range(200))
def test_outputs_and_gradients_are_torchs(seed):
    theirs, mine, x, states = pair(seed)
    if seed % 3 == 0:
        first = x if mine.batch_first else x.transpose(0, 1)
        lengths = torch.as_tensor(np.random.default_rng(seed).integers(1, first.shape[1] + 1, len(first)))
        if seed % 2:
            lengths = lengths.sort(descending=True).values
        x = pack_padded_sequence(first, lengths, batch_first=True, enforce_sorted=bool(seed % 2))
    expected, expected_gradients, packed = outputs_and_gradients(theirs, x, states)
    got, gradients, ours = outputs_and_gradients(mine, x, states)
    agree((got, gradients), (expected, expected_gradients))
    if expected[0].dtype == torch.float32:
        double = None if states is None else tuple(s.double() for s in states)
        exact, exact_gradients, _ = outputs_and_gradients(copy.deepcopy(theirs).double(), x.double(), double)
        agree(got, exact, OURS)
        # Where the terms of a gradient cancel, torch's own float32 is further off, and ours may be twice as far.
        for k, (g, t, e) in enumerate(zip(gradients, expected_gradients, exact_gradients, strict=True)):
            worst, allowed = error(g, e).max(), max(OURS * scale(e), 2 * error(t, e).max())
            assert worst <= allowed, f"gradient {k}, beside float64: off by {worst:.3g}, allowed {allowed:.3g}"
    if isinstance(packed, PackedSequence):
        for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
            a, b = getattr(ours, name), getattr(packed, name)
            assert (a is None) == (b is None), name
            assert a is None or torch.equal(a, b), name
    assert mine.engine_used == "native"


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("sort", [False, True, None])
@pytest.mark.parametrize("lengths", [(7, 4, 4, 1), (2, 6, 3), (5, 5), (4,)])
def test_dropout_between_layers_draws_as_torch_does(lengths, sort, bidirectional):
    """Packed, or padded for `sort` None: losses and gradients at the same seed over some steps of training, and the
    generator's state afterwards; none in evaluation."""
    torch.manual_seed(1)
    theirs, mine = twins(3, 5, num_layers=3, dropout=0.4, bidirectional=bidirectional, batch_first=True)
    lengths = sorted(lengths, reverse=True) if sort else lengths
    x = torch.randn(len(lengths), max(lengths), 3)
    if sort is not None:
        x = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=sort)
    found = []
    for module in (theirs, mine):
        torch.manual_seed(5)
        found += [outputs_and_gradients(module, x, None)[:2] for _ in range(3)]
        module.generator = torch.get_rng_state()
    agree(found[3:], found[:3], 1e-5)
    assert torch.equal(mine.generator, theirs.generator)
    assert not torch.equal(found[0][0][0], found[1][0][0])
    mine.eval()
    agree_in_bits(mine(x), mine(x))
    assert mine.engine_used == "native"


def test_unbatched_input_and_wrong_arguments():
    theirs, mine, x, _ = pair(1, batch_first=True, dtype=torch.float32, bidirectional=False)
    one, state = x[0], [torch.randn(mine.num_layers, mine.hidden_size) for _ in "hc"]
    for given in (None, tuple(state)):
        agree(mine(one, given), theirs(one, given))
    with pytest.raises(ValueError, match=r"engine: 'native' needs .* cannot serve: proj_size is 2"):
        LSTM(3, 4, proj_size=2, engine="native")
    with pytest.raises(ValueError, match="reset: expected None, for both directions"):
        LSTM(3, 4, bidirectional=True)(torch.zeros(5, 2, 3), reset=torch.zeros(5, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="recurrent_dropout: expected"):
        LSTM(3, 4, recurrent_dropout=1.0)


def test_checkpoints_go_both_ways_and_modules_can_be_copied():
    theirs, mine, x, _ = pair(4, dtype=torch.float32)
    theirs.load_state_dict(saved(mine.state_dict()), strict=True)
    expected = mine(x)[0]
    for other in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine)), mine.share_memory()):
        agree_in_bits(other(x)[0], expected)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            agree_in_bits(mine(x)[0], expected)
    assert repr(mine) == repr(theirs)


def test_lengths_are_packed_sequences():
    _, mine, x, states = pair(7, batch_first=True, dtype=torch.float32)
    lengths = torch.tensor([(3 * k) % x.shape[1] + 1 for k in range(len(x))])
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, (h, c) = mine(packed, states)
    expected, _ = pad_packed_sequence(expected, batch_first=True, total_length=x.shape[1])
    for given in ({"lengths": lengths}, {"mask": torch.arange(x.shape[1]) < lengths[:, None]}):
        agree_in_bits(mine(x, states, **given), (expected, h, c))
    with pytest.raises(ValueError, match="beside a packed sequence"):
        mine(packed, lengths=lengths)


def test_a_reset_begins_anew():
    _, mine, x, _ = pair(8, batch_first=False, bidirectional=False, dtype=torch.float32)
    x = torch.randn(9, 2, mine.input_size)
    reset = torch.zeros(9, 2, dtype=torch.bool)
    reset[4] = True
    (first, _), (second, final) = mine(x[:4]), mine(x[4:])
    agree_in_bits(mine(x, reset=reset), (torch.cat([first, second]), final))
    reset[6:] = True  # beyond the length it does not happen
    agree_in_bits(mine(x, reset=reset, lengths=torch.tensor([6, 6]))[1], mine(x[4:6])[1])


def test_recurrent_dropout_is_the_cells():
    mine = LSTM(5, 6, batch_first=True, recurrent_dropout=0.5)
    plain = gc.LSTM(6, return_sequences=True, engine="reference")
    W, R, b, b2 = (p.detach().numpy() for p in mine.parameters())
    plain.cell.set_weights([W.T, R.T, b + b2])
    x = torch.randn(3, 7, 5)
    torch.manual_seed(1)
    y, _ = mine(x)
    torch.manual_seed(1)
    mask = draw_masks(x, 6, 0.5)
    assert_close(y.detach(), plain(x.numpy(), recurrent_dropout_mask=mask.numpy()), 1e-6)
    assert_close(mine.eval()(x)[0].detach(), plain(x.numpy()), 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masks_of_recurrent_dropout_keep_the_mean(dtype):
    torch.manual_seed(0)
    mask = draw_masks(torch.empty(100, 1, 1, dtype=dtype), 250, 0.25)
    assert mask.shape == (4, 100, 250)
    assert mask.unique().tolist() == [0, torch.tensor(1 / 0.75, dtype=dtype).item()]
    dropped = (mask == 0).double().mean().item()
    assert abs(dropped - 0.25) < 5 * (0.25 * 0.75 / mask.numel()) ** 0.5  # five standard deviations
    rows = (mask == 0).double().mean(2)  # no gate, row or unit is dropped more than others
    assert rows.min() > 0.1
    assert rows.max() < 0.4


def test_gradients_of_parts_and_of_eval_mode():
    mine = LSTM(3, 4, num_layers=2, dtype=torch.float64)
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
    states = tuple(torch.randn(2, 2, 4, dtype=torch.float64, requires_grad=True) for _ in "hc")
    weights = [p.detach().requires_grad_() for p in mine.parameters()]
    names = [name for name, _ in mine.named_parameters()]

    def run(x, h, c, *weights):
        y, (hT, cT) = torch.func.functional_call(mine, dict(zip(names, weights, strict=True)), (x, (h, c)))
        return y, hT, cT

    assert torch.autograd.gradcheck(run, (x, *states, *weights))
    mine.eval()
    mine.weight_hh_l0.requires_grad_(False)
    mine(x)[0].sum().backward()
    assert mine.weight_hh_l0.grad is None
    assert mine.weight_ih_l0.grad.abs().sum() > 0


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_of_weights_alone_and_with_x_have_the_same_bits(compiled):
    mine = LSTM(3, 4, num_layers=2, bidirectional=True)
    run = torch.compile(mine, backend="aot_eager", fullgraph=True) if compiled else mine
    x, found = torch.randn(5, 2, 3), []
    for wanted in (False, True):
        mine.zero_grad()
        run(x.requires_grad_(wanted))[0].square().sum().backward()
        found.append([p.grad for p in mine.parameters()])
    assert x.grad.abs().sum() > 0
    agree_in_bits(*found)


@pytest.mark.parametrize(("features", "units"), [(1, 5), (3, 1), (1, 1), (3, 5), (99, 160)])
def test_gradients_lie_as_their_parameters(features, units):
    """DistributedDataParallel warns of others."""
    mine = LSTM(features, units, num_layers=2, bidirectional=True)
    mine(torch.randn(4, 2, features))[0].sum().backward()
    for name, parameter in mine.named_parameters():
        assert parameter.grad.stride() == parameter.stride(), name


def test_traces_open_every_layer_and_direction():
    _, mine, x, states = pair(12, num_layers=2, bidirectional=True, batch_first=True, dtype=torch.float32)
    lengths = torch.full((len(x),), max(1, x.shape[1] - 1))
    traces = mine.trace(x, states, lengths=lengths)
    assert len(traces) == 4
    y, (h, _) = mine(x, states, lengths=lengths)
    H = mine.hidden_size
    kept = torch.arange(x.shape[1]) < lengths[:, None]
    for k, part in ((2, y[..., :H]), (3, y[..., H:].flip(1))):
        order = kept.flip(1) if k == 3 else kept
        assert_same_bits(traces[k].h[order.numpy()], part.detach()[order])
    for k, trace in enumerate(traces):
        assert_same_bits(trace.h[:, -1], h[k].detach())


def test_what_the_engine_cannot_do_runs_in_torch():
    theirs, mine, x, _ = pair(13, dtype=torch.float32)
    mine.engine = "auto"
    low, x_low = copy.deepcopy(mine).to(torch.bfloat16), x.to(torch.bfloat16)
    low(x_low)
    assert low.engine_used == "framework"
    with torch.autocast("cpu", torch.bfloat16):
        got, expected = mine(x)[0], theirs(x)[0]
    assert mine.engine_used == "framework"
    assert_same_bits(got.detach().float(), expected.detach().float())
    low.engine = "native"
    with pytest.raises(ValueError, match="dtypes are"):
        low(x_low)
    low.engine, low.recurrent_dropout = "auto", 0.1
    with pytest.raises(ValueError, match="what this LSTM has beyond"):
        low(x_low)
    with pytest.raises(ValueError, match="engine: expected one of"):
        LSTM(3, 4, engine="fast")


def test_a_cell_shares_the_parameters_of_a_layer():
    lstm, cell = LSTM(3, 4), LSTMCell(3, 4)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        setattr(cell, name, getattr(lstm, f"{name}_l0"))
    x = torch.randn(6, 2, 3)
    y, _ = lstm(x)
    state = None
    for t in range(6):
        state = cell(x[t], state)
        assert_close(state[0].detach(), y[t].detach(), 2e-6)
    torch.optim.SGD(lstm.parameters(), 0.1)
    y.sum().backward()
    assert cell.weight_ih.grad is lstm.weight_ih_l0.grad


class Own(torch.nn.LSTM):
    """A subclass of somebody's."""


def test_a_finished_module_changes_in_place_and_back():
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"a": torch.nn.LSTM(3, 4, 2), "b": torch.nn.ModuleList([torch.nn.LSTM(4, 2)])})
    optimizer, x = torch.optim.Adam(model.parameters()), torch.randn(6, 2, 3)
    parameters = list(model.parameters())
    expected = model["b"][0](model["a"](x)[0])[0].detach()
    assert accelerate(model) is model
    assert [type(m) for m in (model["a"], model["b"][0])] == [LSTM, LSTM]
    y = model["b"][0](model["a"](x)[0])[0]
    assert_close(y.detach(), expected, 2e-6)
    assert model["a"].engine_used == "native"
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    y.sum().backward()
    optimizer.step()
    restore(model)
    assert [type(m) for m in (model["a"], model["b"][0])] == [torch.nn.LSTM] * 2
    assert model["a"](x)[0].shape == (6, 2, 4)


def test_what_is_left_is_listed_with_its_reason():
    model = torch.nn.Sequential(Own(3, 4), torch.nn.LSTM(4, 5, proj_size=2), torch.nn.GRU(2, 2), torch.nn.LSTM(2, 2))
    with pytest.warns(UserWarning, match="'0' .Own is a subclass, and may differ.; '1' .proj_size is 2"):
        accelerate(model)
    assert [type(m) for m in model] == [Own, torch.nn.LSTM, torch.nn.GRU, LSTM]
    with pytest.warns(UserWarning, match="Linear has no LSTM in it"):
        accelerate(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"module: expected a torch.nn.Module, got str"):
        accelerate("model.pt")
    with pytest.raises(ValueError, match="expected LSTMs that torch"):
        restore(LSTM(2, 3, recurrent_dropout=0.5))
    assert type(accelerate(torch.nn.LSTM(2, 3))) is LSTM
