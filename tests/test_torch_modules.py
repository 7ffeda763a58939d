"""PyTorch's own list of a module's inputs, `module_db`, run through ours beside torch's: every entry, and each as a
batch and packed too, which the list leaves to others."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from compare import assert_close
from glasscell.torch import LSTM, LSTMCell

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ImportWarning)  # it can do without hypothesis
    from torch.testing._internal.common_modules import ModuleErrorEnum, module_db

OURS = {"nn.LSTM": LSTM, "nn.LSTMCell": LSTMCell}
INFO = {info.name: info for info in module_db if info.name in OURS}
RELATIVE = {torch.float32: 4e-6, torch.float64: 1e-12}  # of the scale: the roundings of both
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")


def entries(name, dtype=torch.float32, training=True):
    """Constructor arguments and inputs, as PyTorch lists them: an input and, mostly, its states."""
    torch.manual_seed(0)
    info = INFO[name]
    listed = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=training)
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
CASES = [("nn.LSTM", k, layout) for k in range(len(entries("nn.LSTM"))) for layout in LAYOUTS]
CASES += [("nn.LSTMCell", k, "unbatched") for k in range(len(entries("nn.LSTMCell")))]
every_entry = pytest.mark.parametrize(("name", "k", "layout"), CASES)


def case(name, k, layout, dtype=torch.float32, training=True):
    """torch's module and ours with the same parameters, in training or not, and the arguments of a call."""
    made, arguments = entries(name, dtype, training)[k]
    kinds = INFO[name].module_cls, OURS[name]
    theirs, mine = (kind(*made.args, **made.kwargs, dtype=dtype).train(training) for kind in kinds)
    mine.load_state_dict(theirs.state_dict())
    return theirs, mine, widen(made, arguments, layout)


def native(module):
    return isinstance(module, LSTM) and not module.proj_size


def check_engine(module, native_is="native"):
    if isinstance(module, LSTM):
        assert module.engine_used == (native_is if native(module) else "framework")


def flat(values):
    """The tensors in nested tuples and packed sequences."""
    if isinstance(values, torch.Tensor):
        return [values]
    if isinstance(values, PackedSequence):
        return [values.data]
    return [t for value in values for t in flat(value)]


def loss(outputs):
    return sum((t * torch.linspace(-1, 1, t.numel(), dtype=t.dtype).view_as(t)).sum() for t in flat(outputs))


def gradients(module, arguments, **more):
    sources = [*flat(arguments), *module.parameters()]
    return torch.autograd.grad(loss(module(*arguments)), sources, **more)


def agree(got, expected):
    for k, (g, e) in enumerate(zip(flat(got), flat(expected), strict=True)):
        assert (g.dtype, g.shape) == (e.dtype, e.shape)
        assert_close(g.detach().double(), e.detach().double(), RELATIVE.get(e.dtype, 0), k)


def test_the_list_is_whole():
    """With and without biases, batch_first, both directions, projections; each with states and without."""
    assert set(INFO) == set(OURS)
    flags = ("bias", "batch_first", "bidirectional", "proj_size")
    made = [(tuple(bool(m.kwargs[flag]) for flag in flags), len(a)) for m, a in entries("nn.LSTM")]
    assert len(set(made)) == len(made) == 2**5
    assert len(entries("nn.LSTMCell")) == 2
    assert len(CASES) == 3 * 2**5 + 2


@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
@every_entry
def test_outputs_and_gradients(name, k, layout, dtype):
    for training in (True, False):
        theirs, mine, arguments = case(name, k, layout, dtype, training)
        agree(mine(*arguments), theirs(*arguments))
        agree(gradients(mine, arguments), gradients(theirs, arguments))
        check_engine(mine)


@every_entry
def test_gradients_are_those_of_finite_differences(name, k, layout):
    _, mine, arguments = case(name, k, layout, torch.float64)

    def run(*tensors):
        x, *hx = tensors
        packed = arguments[0]._replace(data=x) if layout == "packed" else x
        return tuple(flat(mine(packed, *([tuple(hx)] if hx else []))))

    assert torch.autograd.gradcheck(run, flat(arguments))


@every_entry
def test_copies_and_files(name, k, layout):
    _, mine, arguments = case(name, k, layout)
    expected = flat(mine(*arguments))
    file = io.BytesIO()
    torch.save(mine, file)
    file.seek(0)
    for other in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine)), torch.load(file, weights_only=False)):
        assert type(other) is type(mine)
        for got, right in zip(flat(other(*arguments)), expected, strict=True):
            assert torch.equal(got, right)


@every_entry
def test_changes_of_dtype(name, k, layout):
    """There and back; where the native engine has no such dtype, with the bits of torch's own."""
    theirs, mine, arguments = case(name, k, layout)
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float32):
        to = [t.detach().to(dtype) for t in flat(arguments)]
        given = [
            arguments[0]._replace(data=to[0]) if layout == "packed" else to[0],
            *([tuple(to[1:])] if to[1:] else []),
        ]
        got, expected = (flat(module.to(dtype)(*given)) for module in (mine, theirs))
        agree(got, expected)
        check_engine(mine, "native" if dtype in RELATIVE else "framework")


@pytest.mark.parametrize("name", OURS)
def test_errors_are_torchs(name):
    """Those of constructors, and of calls: the kind and the words that PyTorch lists."""
    info = INFO[name]
    listed = info.module_error_inputs_func(info, device="cpu", dtype=torch.float32, requires_grad=False, training=False)
    for entry in listed:
        made, called = entry.module_error_input.constructor_input, entry.module_error_input.forward_input
        if entry.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(entry.error_type, match=entry.error_regex):
                OURS[name](*made.args, **made.kwargs)
        else:
            module = OURS[name](*made.args, **made.kwargs)
            with pytest.raises(entry.error_type, match=entry.error_regex):
                module(*called.args, **called.kwargs)
    assert len(listed) == {"nn.LSTM": 14, "nn.LSTMCell": 4}[name]
