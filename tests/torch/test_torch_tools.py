"""PyTorch's tools on a model with `glasscell.torch.LSTM` in it: each does what it does to torch's, or says why not."""

import copy
import io

import pytest
import torch
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
from torch.nn.utils.parametrize import is_parametrized, register_parametrization, remove_parametrizations

from glasscell.torch import LSTM, LSTMCell, accelerate, restore
from torch_pairs import agree, agree_in_bits, flat, twins

# PyTorch says of TorchScript and of its quantization that they are to go.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(torch.jit|ao.quantization).* (is|are) deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),  # torch's own LSTM compares shapes
]


class Model(torch.nn.Module):
    """An LSTM between other layers, called with states and without."""

    def __init__(self, lstm):
        super().__init__()
        self.first, self.lstm, self.last = torch.nn.Linear(3, 3), lstm, torch.nn.Linear(4, 2)

    def forward(self, x, h, c):
        y, (h, c) = self.lstm(self.first(x), (h, c))
        y2, _ = self.lstm(x)
        return self.last(y) + self.last(y2), h, c


def models(**options):
    """torch's, and ours with the same parameters; and what both are called with."""
    torch.manual_seed(0)
    theirs = Model(torch.nn.LSTM(3, 4, batch_first=True, **options))
    return theirs, accelerate(copy.deepcopy(theirs)), (torch.randn(2, 5, 3), *torch.randn(2, 1, 2, 4))


def test_fx_has_one_node_for_the_lstm_and_what_it_traced_runs_natively():
    theirs, mine, given = models()
    graph = torch.fx.symbolic_trace(mine)
    nodes = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert nodes == [node.target for node in torch.fx.symbolic_trace(theirs).graph.nodes if node.op == "call_module"]
    graph.lstm.engine = "native"
    agree(graph(*given), theirs(*given))
    assert graph.lstm.engine_used == "native"


def test_fx_keeps_lengths():
    class Lengths(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = LSTM(3, 4, batch_first=True)

        def forward(self, x, lengths):
            return self.lstm(x, lengths=lengths)[0]

    model, x = Lengths(), torch.randn(2, 5, 3)
    lengths = torch.tensor([2, 4])
    agree_in_bits(torch.fx.symbolic_trace(model)(x, lengths), model(x, lengths))


class Doubled(LSTM):
    """A subclass of somebody's, which runs ours."""

    def forward(self, x, hx=None):
        return super().forward(2 * x, hx)


@pytest.mark.filterwarnings("ignore:The tensor attributes self.lstm._flat_weights:UserWarning")  # as of torch's own
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects:UserWarning")  # `engine_used`
def test_what_is_traced_or_exported_runs_without_us():
    theirs, mine, given = models()
    traced = torch.jit.trace(mine, given)
    agree(traced(*given), theirs(*given))
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    agree(torch.jit.load(file)(*given), theirs(*given))
    for strict in (False, True):
        exported = torch.export.export(mine.eval(), given, strict=strict)
        assert "glasscell" not in exported.graph_module.code
        agree(exported.module()(*given), theirs(*given))
    assert all(type(value) in (torch.Tensor, torch.nn.Parameter) for value in mine.lstm._flat_weights)
    agree(mine(*given), theirs(*given))
    assert mine.lstm.engine_used == "native"


def test_accelerate_names_what_it_cannot_reach():
    theirs, _, given = models()
    for module, names in (
        (torch.jit.script(theirs), "''.*; 'lstm'"),
        (torch.jit.trace(theirs, given), "''.*; 'lstm'"),
        (torch.nn.Sequential(torch.jit.script(theirs)), "'0.lstm'"),
        (torch.jit.freeze(torch.jit.script(theirs.eval())), "''"),
    ):
        with pytest.warns(UserWarning, match=f"^accelerate: left as torch's own: {names} .it is TorchScript"):
            accelerate(module)


def test_the_cell_is_torchs_to_every_tool():
    assert LSTMCell is torch.nn.LSTMCell


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_gradients_of_each_sample_run_torchs_own(packed, frozen):
    """In float64: oneDNN's float32 pass has none."""
    theirs, mine, (x, _, _) = models()
    results = []
    for lstm in (theirs.lstm.double(), mine.lstm.double()):
        lstm.weight_hh_l0.requires_grad_(not frozen)
        given = x.double()
        if packed:
            given = torch.nn.utils.rnn.pack_padded_sequence(given, torch.tensor([5, 3]), batch_first=True)
        y, h, _ = flat(call_for_per_sample_grads(lstm, batch_size=2)(given))
        (y.square().sum() + h.sum()).backward()
        results.append([p.grad_sample for p in lstm.parameters() if p.requires_grad])
    assert mine.lstm.engine_used == "framework"
    assert all(len(g) == 2 for g in results[1])
    agree(*reversed(results))
    mine.lstm(x.double())
    assert mine.lstm.engine_used == "native"


class Scaled(torch.nn.Module):
    """A parametrization that counts, for each evaluation is seen in what it gives."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, w):
        self.count += 1
        return w * (1 + 0.1 * self.count)


NORMS = {
    "weight norm": lambda m: parametrizations.weight_norm(m, "weight_hh_l0"),
    "spectral norm": lambda m: parametrizations.spectral_norm(m, "weight_ih_l0_reverse"),
    "orthogonal": lambda m: parametrizations.orthogonal(m, "weight_hh_l0_reverse"),
    "several": lambda m: [parametrizations.spectral_norm(m, name) for name, _ in list(m.named_parameters())[:2]],
    "counted": lambda m: register_parametrization(m, "weight_ih_l0", Scaled()),
    "a bias": lambda m: register_parametrization(m, "bias_hh_l0", Scaled()),
    "old weight norm": lambda m: weight_norm(m, "weight_hh_l0"),
    "old spectral norm": lambda m: spectral_norm(m, "weight_ih_l0_reverse"),
    "pruned": lambda m: prune.l1_unstructured(m, "weight_hh_l0", 0.5),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("made", ["ours", "accelerated"])
def test_weights_made_of_others(norm, made):
    """Trained beside torch's: weights, buffers (a spectral norm goes on with each evaluation), and back again."""
    torch.manual_seed(0)
    theirs, mine = twins(3, 4, kinds=(torch.nn.LSTM, LSTM if made == "ours" else torch.nn.LSTM), bidirectional=True)
    for module in (theirs, mine):
        torch.manual_seed(1)
        NORMS[norm](module)
    twin = copy.deepcopy(mine) if is_parametrized(mine) else None  # PyTorch copies no others
    kind = type(twin)
    if made == "accelerated":
        accelerate(mine)
    assert isinstance(mine, LSTM)
    assert type(twin) is kind
    x = torch.randn(5, 2, 3)
    optimizers = [torch.optim.SGD(module.parameters(), 0.1) for module in (theirs, mine)]
    for _ in range(5):
        results = []
        for module, optimizer in zip((theirs, mine), optimizers, strict=True):
            optimizer.zero_grad()
            y, (h, c) = module(x)
            (y.square().sum() + h.sum() + c.sum()).backward()
            optimizer.step()
            results.append([y, h, c, *(p.grad for p in module.parameters())])
        agree(results[1], results[0])
        assert mine.engine_used == "native"
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():  # torch's own, and no weight evaluated once more
        mine(x), theirs(x)
    assert mine.engine_used == "framework"
    assert list(mine.state_dict()) == list(theirs.state_dict())
    agree(mine.state_dict(), theirs.state_dict())
    counts = [[m.count for m in module.modules() if isinstance(m, Scaled)] for module in (mine, theirs)]
    assert counts[0] == counts[1]
    restore(mine)
    assert isinstance(mine, torch.nn.LSTM)
    assert type(twin) is kind
    agree(mine(x)[1], theirs(x)[1])
    if is_parametrized(mine):
        for name in list(mine.parametrizations):
            remove_parametrizations(mine, name)
        assert type(mine) is torch.nn.LSTM
        assert type(accelerate(mine)) is LSTM


def test_restore_lists_the_subclasses_that_it_leaves():
    model = torch.nn.Sequential(Doubled(3, 4), LSTM(4, 2))
    with pytest.warns(UserWarning, match="^restore: left as glasscell's: '0' .Doubled is a subclass"):
        restore(model)
    assert [type(m) for m in model] == [Doubled, torch.nn.LSTM]
