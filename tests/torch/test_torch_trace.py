"""`glasscell.torch.LSTM.trace` where people are: of packed sequences, of hooked, subclassed and wrapped modules."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.nn.utils.parametrize import register_parametrization
from torch.nn.utils.rnn import pack_sequence

from compare import assert_same_bits
from glasscell.torch import LSTM, accelerate
from torch_pairs import flat


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("lengths", [(2, 5, 1), (5, 3, 3), (4,)])
def test_a_packed_sequence_is_traced_in_the_order_of_the_batch(lengths, tmp_path):
    """Each row as it is by itself, padded, and `mask` tells where it ran."""
    lstm = LSTM(3, 4, num_layers=2, bidirectional=True)
    rows = [drawn(n, 3) for n in lengths]
    traces = lstm.trace(pack_sequence(rows, enforce_sorted=False))
    assert traces.names == ["layer 0", "layer 0 reverse", "layer 1", "layer 1 reverse"]
    for b, row in enumerate(rows):
        for k, (trace, alone) in enumerate(zip(traces, lstm.trace(row), strict=True)):
            padding = max(lengths) - len(row)
            ran = np.arange(max(lengths)) >= padding if k % 2 else np.arange(max(lengths)) < len(row)
            np.testing.assert_array_equal(trace.mask[b], ran)
            for name in ("i", "f", "g", "o", "c", "h", "zi"):
                assert_same_bits(getattr(trace, name)[b][ran], getattr(alone, name)[0])
            assert np.isnan(trace.f[b][~ran]).all()
    if len(lengths) > 2:
        assert traces.report(tmp_path / "report.html").stat().st_size > 10_000


class Halved(LSTM):
    """A subclass of somebody's, without the arguments that it does not need."""

    def forward(self, input, hx=None):
        y, state = super().forward(input * 0.5, hx)
        return y + 0, state


class Counted(torch.nn.Module):
    """A parametrization that counts, for each evaluation is seen in what it gives."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, w):
        if self.training:
            self.count += 1
        return w * (1 + 0.1 * self.count)


def compiled(module):
    module.compile(backend="eager")


DONE = {
    "dropout": lambda m: None,
    "input hooked": lambda m: m.register_forward_pre_hook(lambda _, args: (2 * args[0], *args[1:])),
    "output hooked": lambda m: m.register_forward_hook(lambda _, args, result: None),
    "gradient hooked": lambda m: m.register_full_backward_hook(lambda *_: None),
    "subclassed": lambda m: setattr(m, "__class__", Halved),
    "compiled in place": compiled,
    "weight norm": lambda m: parametrizations.weight_norm(m, "weight_hh_l0"),
    "spectral norm": lambda m: parametrizations.spectral_norm(m, "weight_hh_l0"),
    "counted": lambda m: register_parametrization(m, "weight_ih_l0", Counted()),
    "old weight norm": lambda m: weight_norm(m, "weight_hh_l0"),
    "old spectral norm": lambda m: spectral_norm(m, "weight_hh_l0"),
    "pruned": lambda m: prune.l1_unstructured(m, "weight_hh_l0", 0.5),
    "frozen": lambda m: m.requires_grad_(False),
    "weights by hand": lambda m: m._flat_weights.__setitem__(1, drawn(16, 4)),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("done", DONE)
def test_a_trace_is_of_the_call(done):
    """In inference, after a step of training, and with nothing changed in the module: no buffer, no weight, no flag."""
    torch.manual_seed(0)
    lstm, x, hx = LSTM(3, 4, num_layers=2, dropout=0.3, recurrent_dropout=0.3), drawn(5, 2, 3), tuple(drawn(2, 2, 2, 4))
    DONE[done](lstm)
    if done != "weights by hand":
        lstm(x, hx)
        with torch.no_grad():
            for parameter in lstm.parameters():
                parameter.mul_(1.5)
    before = copy.deepcopy(lstm.state_dict())
    weights = [w.clone() for w in lstm._flat_weights]
    traces = lstm.trace(x, hx)
    assert lstm.training
    assert all(torch.equal(value, before[name]) for name, value in lstm.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(weights, lstm._flat_weights, strict=True))
    assert "_traces" not in vars(lstm)
    y, h, c = flat(lstm.eval()(x, hx))
    assert_same_bits(traces[1].h, y.detach().transpose(0, 1))
    for k, trace in enumerate(traces):
        assert_same_bits(trace.h[:, -1], h[k].detach())
        assert_same_bits(trace.c[:, -1], c[k].detach())


def test_where_a_module_is():
    """In another, compiled, wrapped; accelerated after it was compiled; and inside of what is compiled."""
    model, x = torch.nn.Sequential(LSTM(3, 4, batch_first=True)), drawn(2, 5, 3)
    lstm, expected = model[0], model[0].trace(x)[0].f
    other = accelerate(torch.compile(torch.nn.LSTM(3, 4, batch_first=True), backend="eager"))
    other._orig_mod.load_state_dict(lstm.state_dict())
    compiled = torch.compile(lstm, backend="eager"), torch.compile(model, backend="eager")._orig_mod[0]
    for place in (*compiled, torch.nn.DataParallel(lstm).module, other, copy.deepcopy(model)[0]):
        assert_same_bits(place.trace(x)[0].f, expected)
    assert_same_bits(lstm.trace(x[0])[0].f, expected[:1])  # without a batch
    inside = torch.compile(lambda x: torch.from_numpy(lstm.trace(x)[0].f) + 0 * x.sum(), backend="eager")
    assert_same_bits(inside(x), expected)


class Other(LSTM):
    """A subclass of somebody's that does not run ours."""

    def forward(self, input):
        return input


def under_vmap(lstm):
    return torch.func.vmap(lambda x: lstm.trace(x)[0])(drawn(1, 5, 2, 3))


X, FLOAT = drawn(5, 2, 3), r"\.float\(\) of module and input is one"
REFUSED = {
    "half": (lambda m: m.half().trace(X.half()), f"the dtypes are torch.float16, .*{FLOAT}"),
    "bfloat16": (lambda m: m.bfloat16().trace(X.bfloat16()), f"the dtypes are torch.bfloat16, .*{FLOAT}"),
    "half input": (lambda m: m.trace(X.half()), f"the dtypes are torch.float16 and torch.float32, .*{FLOAT}"),
    "integers": (lambda m: m.trace(X.long()), f"the dtypes are torch.float32 and torch.int64, .*{FLOAT}"),
    "meta": (lambda m: m.to("meta").trace(X.to("meta")), r"the tensors are on meta, .*\.to_empty"),
    "input on meta": (lambda m: m.trace(X.to("meta")), r"the tensors are on cpu and meta; \.to\(device\)"),
    "module on meta": (lambda m: m.to("meta").trace(X), r"the tensors are on cpu and meta; \.to\(device\)"),
    "vmap": (under_vmap, "a transform, a mode or a class of tensors .* outside of it"),
    "another forward": (
        lambda m: Other(3, 4).trace(X),
        "expected a forward of Other that runs that of LSTM once, got 0",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refused_trace_says_what_to_do(what):
    call, message = REFUSED[what]
    with pytest.raises(ValueError, match=f"^trace: .*{message}") as refusal:
        call(LSTM(3, 4))
    assert "\n" not in str(refusal.value)
