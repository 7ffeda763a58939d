"""What other people's code does to a `torch.nn.LSTM`, done to ours: values and gradients beside torch's afterwards."""

import copy
import pickle

import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence, unpack_sequence
from torch.optim.swa_utils import AveragedModel

from fresh import run_python
from glasscell.torch import LSTM, accelerate, restore
from torch_pairs import agree, flat, saved, twins

OPTIONS = {"num_layers": 2, "bidirectional": True}


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def initialise(module):
    for name, parameter in module.named_parameters():
        if "weight_hh" in name:
            torch.nn.init.orthogonal_(parameter)
        elif "bias" in name:
            torch.nn.init.zeros_(parameter)
            parameter.data[4:8].fill_(1.0)  # the forget gate


def applied(module):
    torch.nn.Sequential(module).apply(lambda part: initialise(part) if part is module else None)


def by_all_weights(module):
    for layer in module.all_weights:
        for weight in layer:
            torch.nn.init.uniform_(weight, -0.2, 0.2)


def all_by_hand(module):
    module._flat_weights = [draw(*w.shape).mul_(0.3) for w in module._flat_weights]


def assigned(module):
    module.load_state_dict({k: draw(*v.shape).mul_(0.3) for k, v in module.state_dict().items()}, assign=True)


def old(module):
    """As PyTorch before 1.8 pickled it, and before its names of weights were strings."""
    state = module.__getstate__()
    del state["proj_size"]
    state["_all_weights"] = [[getattr(module, name) for name in names] for names in state["_all_weights"]]
    again = type(module).__new__(type(module))
    again.__setstate__(state)
    return again


def hooked(module):
    module.register_forward_pre_hook(lambda m, args: (2 * args[0], *args[1:]))
    module.register_forward_hook(lambda m, args, result: (3 * result[0], result[1]))
    module.weight_ih_l0.register_hook(lambda g: 2 * g)


def tied(module):
    module.weight_hh_l0_reverse = module.weight_hh_l0
    module.weight_ih_l0_reverse = module.weight_ih_l0


def swapped(module):
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        return module.double().float()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def emptied(module):
    module.to("meta").to_empty(device="cpu")
    torch.manual_seed(4)
    module.reset_parameters()


def skipped(module):
    made = type(module)(3, 4, **OPTIONS, device="meta", dtype=torch.float64).to_empty(device="cpu")
    made.load_state_dict(module.state_dict())
    return made


def called_in_float64(module):
    """And in float32 again afterwards, which is what it holds."""
    weights = {name: p.detach().double() for name, p in module.named_parameters()}
    torch.func.functional_call(module, weights, (draw(5, 2, 3).double(),))
    if isinstance(module, LSTM):
        assert module.engine_used == "native"


def doubling(kind):
    """A subclass of somebody's."""

    class Doubled(kind):
        def forward(self, x, *args, **kwargs):
            y, state = super().forward(2 * x, *args, **kwargs)
            return 3 * y, state

    return Doubled


def subclassed(module):
    made = doubling(type(module))(3, 4, **OPTIONS)
    made.load_state_dict(module.state_dict())
    return made


CHANGES = {
    "initialised": initialise,
    "initialised by all_weights": by_all_weights,
    "initialised by apply": applied,
    "data set": lambda m: setattr(m.weight_ih_l0, "data", draw(16, 3)),
    "data filled": lambda m: m.weight_hh_l0.data.copy_(draw(16, 4)),
    "a parameter set": lambda m: setattr(m, "weight_hh_l1_reverse", torch.nn.Parameter(draw(16, 4))),
    "a flat weight by hand": lambda m: m._flat_weights.__setitem__(1, draw(16, 4)),
    "flat weights by hand": all_by_hand,
    "loaded by assignment": assigned,
    "flattened": lambda m: m.flatten_parameters(),
    "copied": copy.deepcopy,
    "copied thinly": copy.copy,
    "pickled": lambda m: pickle.loads(pickle.dumps(m)),
    "saved": saved,
    "pickled long ago": old,
    "in shared memory": lambda m: m.share_memory(),
    "in float64": lambda m: m.double(),
    "there and back": lambda m: m.half().float(),
    "swapped": swapped,
    "emptied": emptied,
    "made without values": skipped,
    "hooked": hooked,
    "tied": tied,
    "frozen in part": lambda m: m.weight_hh_l0.requires_grad_(False),
    "averaged": lambda m: AveragedModel(m).module,
    "from a vector": lambda m: vector_to_parameters(parameters_to_vector(m.parameters()).detach() / 2, m.parameters()),
    "called with other weights": called_in_float64,
    "batch first": lambda m: setattr(m, "batch_first", True),
    "subclassed": subclassed,
    "accelerated and restored": lambda m: accelerate(restore(m)) if isinstance(m, LSTM) else m,
}


def results(module, x):
    """Outputs, states, and the gradients of all parameters and the input."""
    x = x.to(module.weight_ih_l0.dtype).requires_grad_()
    y, h, c = outputs = flat(module(x))
    loss = y.square().sum() + h.sum() + c.square().sum()
    wanted = [p for p in module.parameters() if p.requires_grad]
    return [*outputs, *torch.autograd.grad(loss, [x, *wanted], allow_unused=True)]


@pytest.mark.filterwarnings("ignore:Redundant gradient:UserWarning")
@pytest.mark.parametrize("change", CHANGES)
def test_changed_like_torchs(change):
    found = []
    torch.manual_seed(0)
    theirs, mine = twins(3, 4, **OPTIONS)
    before = results(mine, draw(5, 2, 3))
    modules = []
    for module in (theirs, mine):
        module(draw(5, 2, 3))
        torch.manual_seed(2)
        changed = CHANGES[change](module)
        modules.append(changed if isinstance(changed, torch.nn.Module) else module)
        found.append(results(modules[-1], draw(5, 2, 3)))
    assert isinstance(modules[1], LSTM)
    assert modules[1].engine_used == "native"
    assert [name for name, _ in modules[1].named_parameters()] == [name for name, _ in modules[0].named_parameters()]
    assert list(modules[1].state_dict()) == list(modules[0].state_dict())
    assert repr(modules[1]) == repr(modules[0])
    agree(found[1], found[0])
    same = {"flattened", "copied", "copied thinly", "pickled", "saved", "pickled long ago", "in shared memory"}
    if change in {"initialised", "data set", "a flat weight by hand", "flat weights by hand", "batch first", "hooked"}:
        assert not torch.equal(found[1][0], before[0])  # the change was one
    elif change in same:
        assert torch.equal(found[1][0], before[0])


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@pytest.mark.filterwarnings("ignore:dropout option adds dropout after all but last:UserWarning")
def test_projections_run_torchs_own():
    """Every option, padded, packed and unbatched; checkpoints; and what torch's LSTM has not is refused."""
    for k in range(16):
        torch.manual_seed(k)
        options = {
            "num_layers": 1 + k % 2,
            "bidirectional": k % 4 > 1,
            "bias": k % 3 > 0,
            "batch_first": k % 8 > 3,
            "proj_size": 1 + k % 3,
            "dropout": 0.3 * (k % 2),
        }
        theirs, mine = twins(3, 5, **options)
        mine = (copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)))[k // 8](mine)
        mine.flatten_parameters()
        assert repr(mine) == repr(theirs)
        for x in (draw(4, 2, 3), draw(4, 3), pack_sequence([draw(4, 3), draw(2, 3)])):
            found = []
            for module in (mine, theirs):
                torch.manual_seed(1)
                outputs = flat(module(x))
                loss = sum(t.sum() for t in outputs)
                found.append([*outputs, *torch.autograd.grad(loss, list(module.parameters()))])
            assert mine.engine_used == "framework"
            for got, expected in zip(*found, strict=True):
                assert torch.equal(got, expected)
    x, refused = draw(4, 2, 3), r"beyond torch\.nn\.LSTM needs .* cannot serve: proj_size is 2, and the cell"
    lengths, flags = torch.tensor([4, 2]), torch.ones(4, 2, dtype=torch.bool)
    for extras in ({"lengths": lengths}, {"mask": flags}, {"reset": flags}):
        with pytest.raises(ValueError, match=refused):
            LSTM(3, 5, proj_size=2)(x, **extras)
    for options in ({"recurrent_dropout": 0.1}, {"activation": "relu"}, {"recurrent_activation": "hard_sigmoid"}):
        with pytest.raises(ValueError, match=refused):
            LSTM(3, 5, proj_size=2, **options)
    assert type(restore(LSTM(3, 5, proj_size=2))) is torch.nn.LSTM


def test_helpers_of_packed_sequences():
    theirs, mine = twins(3, 4, **OPTIONS)
    rows = [draw(n, 3) for n in (2, 5, 1)]
    packed = pack_sequence(rows, enforce_sorted=False)
    agree(unpack_sequence(mine(packed)[0]), unpack_sequence(theirs(packed)[0]))
    assert mine.engine_used == "native"
    padded, lengths = pad_packed_sequence(mine(packed)[0], padding_value=7.0)
    assert lengths.tolist() == [2, 5, 1]
    assert (padded[2:, 0] == 7).all()


PATCHED = """
import copy, sys
import torch
theirs = torch.nn.LSTM(3, 4, 2), torch.nn.LSTMCell(3, 4), torch.nn.LSTM(3, 4, proj_size=2)
Theirs = type(theirs[0])
import glasscell.torch as ours
for place in (torch.nn, torch.nn.modules, torch.nn.modules.rnn):
    place.LSTM, place.LSTMCell = ours.LSTM, ours.LSTMCell
x = torch.randn(5, 2, 3)
mine = torch.nn.LSTM(3, 4, 2), torch.nn.LSTMCell(3, 4), torch.nn.LSTM(3, 4, proj_size=2)
for a, b in zip(mine, theirs):
    a.load_state_dict(b.state_dict())
assert isinstance(mine[0], torch.nn.LSTM) and isinstance(mine[2], torch.nn.LSTM)
def same(a, b):
    assert all(torch.allclose(p, q, atol=1e-6) for p, q in zip(a, b))
def run(module, x):
    y, (h, c) = module(x)
    return y, h, c
same(run(mine[0], x), run(theirs[0], x))
assert mine[0].engine_used == "native"
same(run(mine[2], x), run(theirs[2], x))
same(mine[1](x[0]), theirs[1](x[0]))
with torch.autocast("cpu", torch.bfloat16):
    same(run(mine[0], x), run(theirs[0], x))
assert mine[0].engine_used == "framework"
low = copy.deepcopy(mine[0]).bfloat16()
same(run(low, x.bfloat16()), run(copy.deepcopy(theirs[0]).bfloat16(), x.bfloat16()))
mine[0].engine = "framework"
same(run(mine[0], x), run(theirs[0], x))
same([torch.jit.trace(mine[0], x)(x)[0]], [theirs[0](x)[0]])
exported = torch.export.export(mine[0], (x,)).module()
same([exported(x)[0]], [theirs[0](x)[0]])
class Library(torch.nn.LSTM):
    def forward(self, *args):
        return super().forward(*args)
library = Library(3, 4, 2)
library.load_state_dict(theirs[0].state_dict())
same(run(library, x), run(theirs[0], x))
same(run(library.bfloat16(), x.bfloat16()), run(copy.deepcopy(theirs[0]).bfloat16(), x.bfloat16()))
model = torch.nn.Sequential(copy.deepcopy(theirs[0]))
assert type(model[0]) is Theirs
ours.accelerate(model)
assert type(model[0]) is ours.LSTM
same(run(model[0], x), run(theirs[0], x))
ours.restore(model)
assert type(model[0]) is Theirs
same(run(model[0], x), run(theirs[0], x))
"""
KERAS = """
import torch, keras
import numpy as np
keras.utils.set_random_seed(0)
layers = [keras.layers.LSTM(4, return_sequences=True), keras.layers.Bidirectional(keras.layers.LSTM(3, unroll=True))]
model, x = keras.Sequential(layers), np.random.default_rng(0).standard_normal((2, 5, 3), np.float32)
before = model.predict(x, verbose=0)
import glasscell.torch, glasscell.keras
torch.nn.LSTM = torch.nn.modules.rnn.LSTM = glasscell.torch.LSTM
np.testing.assert_allclose(model.predict(x, verbose=0), before, atol=1e-6)
np.testing.assert_allclose(model.predict_on_batch(x), before, atol=1e-6)
glasscell.keras.accelerate(model)
np.testing.assert_allclose(model.predict(x, verbose=0), before, atol=1e-6)
model.compile("sgd", "mse")
model.fit(x, before, verbose=0)
"""


@pytest.mark.parametrize("script", [PATCHED, KERAS], ids=["torch", "Keras on PyTorch"])
def test_a_library_whose_lstm_is_ours(script):
    """torch.nn.LSTM = glasscell.torch.LSTM: what falls back must still find torch's."""
    done = run_python("-W", "ignore", "-c", script, KERAS_BACKEND="torch")
    assert done.returncode == 0, done.stderr[-3000:]
