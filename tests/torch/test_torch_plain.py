"""The short way of `glasscell.torch.LSTM` gives what the long way gives, whatever has become of module and tensors."""

import numpy as np
import pytest
import torch
from torch.nn.utils.parametrize import register_parametrization

from glasscell.torch import LSTM
from glasscell.torch import _lstm as module_of_lstm
from torch_pairs import agree_in_bits, flat, normal

SHAPES = [(1, 1, 8, 16), (3, 5, 4, 6)]
OPTIONS = [
    {},
    {"bias": False},
    {"batch_first": True},
    {"activation": "gelu", "recurrent_activation": "hard_sigmoid"},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 3, "batch_first": True, "dtype": torch.float64},
]


@pytest.fixture
def short(monkeypatch):
    """Counts the calls that took the short way; `off` closes it."""

    class Short:
        taken, off = 0, False

    def run_plain(*arguments):
        outputs = None if Short.off else run(*arguments)
        Short.taken += outputs is not None
        return outputs

    run = module_of_lstm.run_plain
    monkeypatch.setattr(module_of_lstm, "run_plain", run_plain)
    return Short


def on_the_long_way(short, call, *arguments):
    short.off = True
    try:
        return call(*arguments)
    finally:
        short.off = False


def results(lstm, x, hx):
    outputs = flat(lstm(x, hx))
    weight = sum((t * normal(np.random.default_rng(1), t.shape, t.dtype)).sum() for t in outputs if t.requires_grad)
    sources = [t for t in (x, *(hx or ()), *lstm.parameters()) if t.requires_grad]
    return [*outputs, *(torch.autograd.grad(weight, sources) if torch.is_tensor(weight) else ())]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_both_ways_give_the_same_bits(short, options):
    rng, dtype = np.random.default_rng(0), options.get("dtype", torch.float32)
    for B, T, features, H in SHAPES:
        lstm = LSTM(features, H, **options)
        x = normal(rng, (B, T, features) if lstm.batch_first else (T, B, features), dtype)
        count = lstm.num_layers * (1 + lstm.bidirectional)
        for hx in (None, tuple(normal(rng, (count, B, H), dtype) for _ in "hc")):
            for graph in (False, True):
                with torch.set_grad_enabled(graph):
                    taken, got = short.taken, results(lstm, x.requires_grad_(graph), hx)
                    assert short.taken == taken + (not graph or count == 1)
                    agree_in_bits(got, on_the_long_way(short, results, lstm, x, hx))


def test_gradients_are_those_that_are_needed(short):
    for wanted in range(1, 8):
        lstm, x = LSTM(3, 4), torch.randn(5, 2, 3, requires_grad=bool(wanted & 1))
        hx = tuple(torch.randn(1, 2, 4, requires_grad=bool(wanted & 2)) for _ in "hc")
        lstm.requires_grad_(bool(wanted & 4))
        agree_in_bits(results(lstm, x, hx), on_the_long_way(short, results, lstm, x, hx))
    assert short.taken == 7


def in_place(lstm):
    with torch.no_grad():
        for p in lstm.parameters():
            p.mul_(0.5)


def through_data(lstm):
    for p in lstm.parameters():
        p.data.add_(0.1)


def other_data(lstm):
    for p in lstm.parameters():
        p.data = p.data.flip(0).clone()


def transposed_data(lstm):
    lstm.weight_hh_l0.data = lstm.weight_hh_l0.data.t().contiguous().t().neg()


def loaded(lstm):
    lstm.load_state_dict({k: v * 2 for k, v in lstm.state_dict().items()})


def loaded_by_assignment(lstm):
    lstm.load_state_dict({k: v * 2 for k, v in lstm.state_dict().items()}, assign=True)


def stepped(lstm):
    lstm(torch.ones(2, 2, 3))[0].sum().backward()
    torch.optim.SGD(lstm.parameters(), 0.5).step()


def assigned(lstm):
    lstm.bias_hh_l0 = torch.nn.Parameter(lstm.bias_hh_l0.detach() + 1)


def listed(lstm):
    lstm._flat_weights[0] = torch.zeros(16, 3)


def parametrized(lstm):
    register_parametrization(lstm, "weight_hh_l0", torch.nn.Tanh())


def written_by_numpy(lstm):
    lstm.weight_ih_l0.detach().numpy()[:] = 0.25


def of_other_activation(lstm):
    lstm.activation = "relu"


CHANGES = [
    in_place, through_data, other_data, transposed_data, loaded, loaded_by_assignment, stepped, assigned, listed,
    parametrized, written_by_numpy, of_other_activation,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_of_an_earlier_call_is_left(short, change):
    for graph in (False, True):
        lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)
        with torch.set_grad_enabled(graph):
            before, _ = lstm(x)
        change(lstm)
        with torch.set_grad_enabled(graph):
            after, expected = flat(lstm(x)), flat(on_the_long_way(short, lstm, x))
        assert not torch.equal(before, after[0])
        agree_in_bits(after, expected)


def test_called_with_other_parameters_and_back(short):
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)
    others = {name: p.detach() * 2 for name, p in lstm.named_parameters()}
    with torch.no_grad():
        first = flat(lstm(x))
        other = flat(torch.func.functional_call(lstm, others, (x,)))
        agree_in_bits(flat(lstm(x)), first)
        twice = {name: torch.stack([p, others[name]]) for name, p in lstm.named_parameters()}
        both = flat(torch.func.vmap(lambda own: torch.func.functional_call(lstm, own, (x,)))(twice))
        agree_in_bits([t[0] for t in both], first)
        agree_in_bits([t[1] for t in both], other)
        agree_in_bits(flat(lstm(x)), first)
    assert not torch.equal(first[0], other[0])


def test_memory_that_others_have_now_is_read_anew(short):
    """The allocator gives the memory of tensors that are gone to the next ones, in other shapes and dtypes too."""
    with torch.no_grad():
        for k in range(40):
            dtype, B = (torch.float32, torch.float64)[k % 2], 1 + k % 3
            lstm, x = LSTM(4 + 4 * (k % 2), 8, dtype=dtype), torch.randn(5, B, 4 + 4 * (k % 2), dtype=dtype)
            agree_in_bits(flat(lstm(x)), flat(on_the_long_way(short, lstm, x)))
    assert short.taken == 40


def test_what_is_handed_out_has_memory_of_its_own(short):
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)
    with torch.no_grad():
        first = flat(lstm(x))
        kept = [t.clone() for t in first]
        for t in flat(lstm(x)):
            t.zero_()
    agree_in_bits(first, kept)


def test_biases_that_do_not_fit_are_refused_as_ever(short):
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)
    lstm.bias_hh_l0.data = torch.zeros(5)
    for graph in (False, True):
        with torch.set_grad_enabled(graph), pytest.raises(RuntimeError, match="must match"):
            lstm(x)


@pytest.mark.parametrize("graph", [False, True])
def test_what_is_not_common_goes_the_long_way(short, graph):
    lstm, x, state = LSTM(3, 4), torch.randn(5, 2, 3), torch.zeros(1, 2, 4)
    with torch.set_grad_enabled(graph):
        for hx in ((), [], (state,), (state, None), (state, state[:, :1]), (state.double(), state), 3):
            with pytest.raises((TypeError, ValueError), match=r"hx: expected"):
                lstm(x, hx)
        for wrong in (x[:0], x[..., :2], x[0, 0]):
            with pytest.raises(ValueError, match=r"input: expected"):
                lstm(wrong)
        lstm(x[:, :0]), lstm(x[:, 0]), lstm(x, lengths=[5, 3]), lstm(x, mask=x[..., 0] > 0)
        dropping = LSTM(3, 4, recurrent_dropout=0.5)
        dropping(x)
        assert short.taken == 0
        dropping.eval()(x)
        assert short.taken == 1
