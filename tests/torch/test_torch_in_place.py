"""What `glasscell.torch.LSTM` hands out may be written into wherever that of `torch.nn.LSTM` may, and tensors without
numbers have the shapes of torch's.
"""

import contextlib

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.nn.utils.rnn import pack_padded_sequence

from glasscell.torch import LSTM
from torch_pairs import agree, flat

SHAPES = [
    {},
    {"num_layers": 2},
    {"bidirectional": True},
    {"batch_first": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]
WRITES = {
    "h.detach_()": lambda y, h, c: (h.detach_(), c.detach_()),
    "h[..., 0] = 0": lambda y, h, c: h[..., 0].zero_(),
    "h *= 2": lambda y, h, c: h.mul_(2),
    "c += 1": lambda y, h, c: c.add_(1),
    "y.relu_()": lambda y, h, c: y.relu_(),
    "y += 1": lambda y, h, c: y.add_(1),
    "y[0] = 0": lambda y, h, c: y[0].zero_(),
    "y.detach_()": lambda y, h, c: y.detach_(),
    "y.view(-1)": lambda y, h, c: y.view(-1).add_(1),
    "h.view(-1)": lambda y, h, c: h.view(-1).add_(1),
}
INPUTS = ("batch", "one sequence", "packed", "packed, one row")


def run(kind, write, given, dtype, options, train):
    """The outputs after a write, and all gradients; or the error."""
    torch.manual_seed(1)
    module, x = (
        kind(3, 4, **options, dtype=torch.float64).to(dtype),
        torch.randn(4, 4, 3, dtype=torch.float64).to(dtype),
    )
    x = (x[:, 0] if given == "one sequence" else x).clone().requires_grad_(train)
    module.requires_grad_(train)
    entry = x
    if given.startswith("packed"):
        first = x if options.get("batch_first") else x.transpose(0, 1)
        lengths = [4] if given.endswith("row") else [2, 4, 1, 3]
        entry = pack_padded_sequence(first[: len(lengths)], lengths, batch_first=True, enforce_sorted=False)
    y, h, c = flat(module(entry))
    try:
        write(y, h, c)
        outputs = [y, h, c]
        if not train:
            return outputs
        sum(((k + 1) * t * t).sum() for k, t in enumerate(outputs) if t.requires_grad).backward()
    except RuntimeError as error:
        return error
    return [*(t.detach() for t in outputs), x.grad, *(p.grad for p in module.parameters())]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_writes_into_what_is_handed_out(write, given, dtype):
    """torch's own refuses some of them, in float32 more: there ours refuses too, or gives torch's float64 numbers."""
    served = 0
    for options in SHAPES:
        for train in (True, False):
            expected, got = (run(kind, WRITES[write], given, dtype, options, train) for kind in (torch.nn.LSTM, LSTM))
            served += not isinstance(expected, RuntimeError)
            if isinstance(expected, RuntimeError):
                if isinstance(got, RuntimeError) or "detach_" in write:
                    continue
                expected = run(torch.nn.LSTM, WRITES[write], given, torch.float64, options, train)
                if isinstance(expected, RuntimeError):
                    continue
            assert not isinstance(got, RuntimeError), f"{options}, {train}: {got}"
            agree(got, expected, 1e-11 if dtype == torch.float64 else 1e-5)
    assert served or "detach_" in write  # there torch's own may be views


def shapes(outputs):
    return [(tuple(t.shape), t.dtype, t.device, type(t)) for t in flat(outputs)]


def trained(kind, options, **where):
    """Outputs, gradients and second derivatives by their shapes."""
    module = kind(3, 4, **options, dtype=torch.float64, **where)
    x = torch.empty(5, 2, 3, dtype=torch.float64, requires_grad=True, **where)
    outputs = module(x)
    (first,) = torch.autograd.grad(sum(t.sum() for t in (outputs[0], *outputs[1])), x, create_graph=True)
    sources = [x, *module.parameters()]
    second = torch.autograd.grad(first.sum(), sources, allow_unused=True)
    return (
        shapes(outputs),
        [(tuple(first.shape), first.device)],
        [g is None or (tuple(g.shape), g.device) for g in second],
    )


@pytest.mark.parametrize("options", SHAPES)
def test_shapes_on_meta_are_torchs(options):
    assert trained(LSTM, options, device="meta") == trained(torch.nn.LSTM, options, device="meta")
    packed = pack_padded_sequence(torch.empty(5, 2, 3), [3, 5], enforce_sorted=False).to("meta")
    of_packed, of_autocast, in_context = [], [], []
    for kind in (torch.nn.LSTM, LSTM):
        module = kind(3, 4, **options).to("meta")
        of_packed.append(shapes(module(packed)))
        with torch.autocast("cpu", torch.bfloat16):
            of_autocast.append(shapes(module(torch.empty(5, 2, 3, device="meta"))))
        with torch.device("meta"):
            in_context.append(shapes(kind(3, 4, **options)(torch.empty(5, 2, 3))))
    for theirs, mine in (of_packed, of_autocast, in_context):
        assert mine == theirs


@pytest.mark.parametrize("options", SHAPES)
def test_shapes_of_fakes_are_torchs(options):
    found = []
    for kind in (torch.nn.LSTM, LSTM):
        module = kind(3, 4, **options)
        with FakeTensorMode():
            found.append([trained(kind, options)])
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            found[-1].append(shapes(module(mode.from_tensor(torch.empty(5, 2, 3)))))
    assert found[1] == found[0]


@pytest.mark.parametrize("where", [FakeTensorMode, lambda: torch.device("meta"), contextlib.nullcontext])
@pytest.mark.parametrize("what", ["lengths", "listed", "mask", "reset", "mask reset"])
def test_steps_left_out_have_shapes_too(where, what):
    with where():
        lstm, flags = LSTM(3, 4, recurrent_dropout=0.2), torch.ones(5, 2, dtype=torch.bool)
        lengths = [3, 5] if what == "listed" else torch.ones(2, dtype=torch.int64)
        flagged = [name for name in what.split() if name in ("mask", "reset")]
        given = dict.fromkeys(flagged, flags) or {"lengths": lengths}
        y, (h, c) = lstm(torch.empty(5, 2, 3), **given)
    assert (y.shape, h.shape, c.shape) == ((5, 2, 4), (1, 2, 4), (1, 2, 4))
    assert y.device == lstm.weight_hh_l0.device
    assert lstm.engine_used == "native"
