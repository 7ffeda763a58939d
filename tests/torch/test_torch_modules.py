"""PyTorch's own list of a module's inputs, `module_db`, run through ours beside torch's: every entry, and each as a
batch and packed too, which the list leaves to others."""

import copy
import pickle
import warnings

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from glasscell.torch import LSTM
from torch_pairs import RELATIVE, agree, agree_in_bits, flat, saved, twins

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ImportWarning)  # it can do without hypothesis
    from torch.testing._internal.common_modules import ModuleErrorEnum, module_db

(INFO,) = (info for info in module_db if info.name == "nn.LSTM")
GROWN = 20  # times as much between derivatives of derivatives, which are sums of sums
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")


def entries(dtype=torch.float32, training=True):
    """Constructor arguments and inputs, as PyTorch lists them: an input and, mostly, its states."""
    torch.manual_seed(0)
    listed = INFO.module_inputs_func(INFO, device="cpu", dtype=dtype, requires_grad=True, training=training)
    return [(entry.constructor_input, entry.forward_input.args) for entry in listed]


def widen(made, arguments, layout):
    """An unbatched call of a layer as a batch of two rows, padded or packed, with other numbers in the second row."""
    x, *hx = arguments
    if layout == "unbatched":
        return arguments
    first = made.kwargs["batch_first"]
    batch = torch.stack([x, 2 * x], 0 if first else 1).detach().requires_grad_()
    hx = [tuple(torch.stack([s, -s], 1).detach().requires_grad_() for s in pair) for pair in hx]
    if layout == "packed":
        lengths = torch.tensor([len(x) - 1, len(x)])
        packed = pack_padded_sequence(batch.detach(), lengths, batch_first=first, enforce_sorted=False)
        return packed._replace(data=packed.data.requires_grad_()), *hx
    return batch, *hx


LAYOUTS = ("unbatched", "batched", "packed")
CASES = [(k, layout) for k in range(len(entries())) for layout in LAYOUTS]
every_entry = pytest.mark.parametrize(("k", "layout"), CASES)


def case(k, layout, dtype=torch.float32, training=True):
    """torch's module and ours with the same parameters, in training or not, and the arguments of a call."""
    made, arguments = entries(dtype, training)[k]
    modules = twins(*made.args, **made.kwargs, dtype=dtype)
    return *(module.train(training) for module in modules), widen(made, arguments, layout)


def converted(arguments, to):
    """The arguments of a call, detached and with `to` applied to each tensor."""
    x, *states = (to(t.detach()) for t in flat(arguments))
    first = arguments[0]
    return first._replace(data=x) if isinstance(first, PackedSequence) else x, *([tuple(states)] if states else [])


def check_engine(module, native_is="native"):
    assert module.engine_used == ("framework" if module.proj_size else native_is)


def loss(outputs):
    """A sum of all outputs with weights from -1 to 1."""
    return sum((t * torch.linspace(-1, 1, t.numel(), dtype=t.dtype).view_as(t)).sum() for t in flat(outputs))


def gradients(module, arguments, **more):
    sources = [*flat(arguments), *module.parameters()]
    return torch.autograd.grad(loss(module(*arguments)), sources, **more)


def test_the_list_is_whole():
    """With and without biases, batch_first, both directions, projections; each with states and without."""
    flags = ("bias", "batch_first", "bidirectional", "proj_size")
    made = [(tuple(bool(m.kwargs[flag]) for flag in flags), len(a)) for m, a in entries()]
    assert len(set(made)) == len(made) == 2**5
    assert len(CASES) == 3 * 2**5


@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
@every_entry
def test_outputs_and_gradients(k, layout, dtype):
    for training in (True, False):
        theirs, mine, arguments = case(k, layout, dtype, training)
        agree(mine(*arguments), theirs(*arguments))
        agree(gradients(mine, arguments), gradients(theirs, arguments))
        check_engine(mine)


@every_entry
def test_gradients_are_those_of_finite_differences(k, layout):
    _, mine, arguments = case(k, layout, torch.float64)

    def run(*tensors):
        x, *hx = tensors
        packed = arguments[0]._replace(data=x) if layout == "packed" else x
        return tuple(flat(mine(packed, *([tuple(hx)] if hx else []))))

    assert torch.autograd.gradcheck(run, flat(arguments))


@every_entry
def test_copies_and_files(k, layout):
    _, mine, arguments = case(k, layout)
    expected = flat(mine(*arguments))
    for other in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine)), saved(mine)):
        assert type(other) is type(mine)
        agree_in_bits(other(*arguments), expected)


@every_entry
def test_changes_of_dtype(k, layout):
    """There and back; where the native engine has no such dtype, with the bits of torch's own."""
    theirs, mine, arguments = case(k, layout)
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float32):
        given = converted(arguments, lambda t, dtype=dtype: t.to(dtype))
        got, expected = (flat(module.to(dtype)(*given)) for module in (mine, theirs))
        agree(got, expected)
        check_engine(mine, "native" if dtype in RELATIVE else "framework")


def test_errors_are_torchs():
    """Those of constructors, and of calls: the kind and the words that PyTorch lists."""
    given = {"device": "cpu", "dtype": torch.float32, "requires_grad": False, "training": False}
    listed = INFO.module_error_inputs_func(INFO, **given)
    for entry in listed:
        made, called = entry.module_error_input.constructor_input, entry.module_error_input.forward_input
        if entry.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(entry.error_type, match=entry.error_regex):
                LSTM(*made.args, **made.kwargs)
        else:
            module = LSTM(*made.args, **made.kwargs)
            with pytest.raises(entry.error_type, match=entry.error_regex):
                module(*called.args, **called.kwargs)
    assert len(listed) == 14


def second(module, arguments):
    """Of a gradient penalty: the derivatives of what the first ones add up to."""
    sources = [*flat(arguments), *module.parameters()]
    first = torch.autograd.grad(loss(module(*arguments)), sources, create_graph=True)
    return torch.autograd.grad(sum(g.sin().sum() for g in first), sources)


@every_entry
def test_second_derivatives(k, layout):
    """In float64: oneDNN's float32 pass has none."""
    theirs, mine, arguments = case(k, layout, torch.float64)
    agree(second(mine, arguments), second(theirs, arguments), GROWN)


@every_entry
def test_batched_gradients(k, layout):
    """Beside torch's, one by one: the sum over each output, and over parts of them."""
    theirs, mine, arguments = case(k, layout, torch.float64)
    outputs = [flat(module(*arguments)) for module in (mine, theirs)]
    batches = [torch.randn(3, *t.shape, dtype=t.dtype) for t in outputs[0]]
    for some in (slice(None), *(slice(n, n + 1) for n in range(len(batches)))):
        sources = [[*flat(arguments), *module.parameters()] for module in (mine, theirs)]
        cotangents = batches[some]
        more = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        got = torch.autograd.grad(outputs[0][some], sources[0], cotangents, is_grads_batched=True, **more)
        single = [
            torch.autograd.grad(outputs[1][some], sources[1], [c[n] for c in cotangents], **more) for n in range(3)
        ]
        agree(got, [torch.stack(g) for g in zip(*single, strict=True)])


@every_entry
def test_shapes_on_the_meta_device(k, layout):
    theirs, mine, arguments = case(k, layout)
    given = converted(arguments, lambda t: t.to("meta"))
    expected = flat(theirs.to("meta")(*given))
    got = flat(mine.to("meta")(*given))
    assert [(t.shape, t.dtype, t.device) for t in got] == [(t.shape, t.dtype, t.device) for t in expected]
    check_engine(mine)
