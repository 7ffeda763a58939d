"""What is lost against `torch.nn.LSTM`: the table of docs/torch.md, a check for each row by its first cell."""

import copy
import io
import re
from pathlib import Path

import pytest
import torch
from test_torch_tools import Doubled, Model, models
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads

from glasscell.torch import LSTM, accelerate, restore
from torch_pairs import agree, agree_in_bits, flat

PAGE = (Path(__file__).parents[2] / "docs" / "torch.md").read_text(encoding="utf-8")
ROWS = [row.split(" | ")[0] for row in re.findall(r"^\| (.*) \|$", PAGE, re.M)[1:]]
CHECKS = {}


def row(first_cell):
    """Makes a function the check of the row that begins with this cell."""

    def register(check):
        assert first_cell not in CHECKS
        CHECKS[first_cell] = check
        return check

    return register


@row("`isinstance(m, torch.nn.LSTM)`")
def by_class():
    mine = models()[1]
    assert not isinstance(mine.lstm, torch.nn.LSTM)
    assert [m.mode for m in mine.modules() if isinstance(m, torch.nn.RNNBase)] == ["LSTM"]
    with pytest.raises(torch._dynamo.exc.Unsupported, match="LSTM"):
        torch.compile(torch.nn.LSTM(3, 4), fullgraph=True, backend="eager")(torch.randn(2, 3))


@row("`torch.jit.script`")
def script():
    theirs, mine, given = models()
    lstm = mine.lstm
    with pytest.raises(RuntimeError, match=r"torch.jit.script .* glasscell.torch.restore\(module\)"):
        torch.jit.script(mine)
    assert mine.lstm is lstm
    assert type(lstm) is LSTM
    agree(torch.jit.trace(mine, given)(*given), theirs(*given))
    agree(torch.jit.script(restore(mine))(*given), theirs(*given))


@row("`torch.fx.symbolic_trace`")
def symbolic_trace():
    mine, given = models()[1:]
    assert "self.lstm(" in torch.fx.symbolic_trace(mine).code
    mine.lstm.register_forward_pre_hook(lambda module, args: (2 * args[0], *args[1:]))
    for module in (mine, Model(Doubled(3, 4)), LSTM(3, 4)):
        with pytest.raises(torch.fx.proxy.TraceError, match=r"torch.fx cannot .* glasscell.torch.restore\(module\)"):
            torch.fx.symbolic_trace(module)
    graph = make_fx(lambda *given: mine(*given))(*given)
    others = [2 * t for t in given]
    agree_in_bits(graph(*others), mine(*others))


@row("`torch.ao.quantization`")
def quantization():
    theirs, mine, given = models()
    quantized = torch.ao.quantization.quantize_dynamic(theirs)
    for inplace in (False, True):
        with pytest.warns(UserWarning, match=r"torch.ao.quantization leaves .* in float; glasscell.torch.restore"):
            ours = torch.ao.quantization.quantize_dynamic(copy.deepcopy(mine), inplace=inplace)
        assert type(ours.lstm) is LSTM
        assert type(ours.last) is type(quantized.last)
        assert not hasattr(ours.lstm, "qconfig")
    again = torch.ao.quantization.quantize_dynamic(restore(mine))
    assert type(again.lstm) is type(quantized.lstm)
    agree_in_bits(again(*given), quantized(*given))


@row("`torch.jit.trace`, `torch.export`, ONNX")
def exports():
    """ONNX's older exporter too, which gives every argument by its place, to an LSTM by itself."""
    x, lstm = torch.randn(5, 1, 3), LSTM(3, 4)
    for code in (torch.jit.trace(lstm, x).code, torch.export.export(lstm, (x,)).graph_module.code):
        assert "glasscell" not in code
        assert "lstm" in code
    file = io.BytesIO()
    torch.onnx.export(lstm, (x,), file, dynamo=False)
    assert b"LSTM" in file.getvalue()
    assert b"glasscell::" not in file.getvalue()
    lstm(x)
    assert lstm.engine_used == "native"


@row("half precision, autocast, other devices, `proj_size`")
def torchs_own():
    x, lstm = torch.randn(5, 2, 3), LSTM(3, 4)
    lengths = {"lengths": [5, 3]}
    low = copy.deepcopy(lstm).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        lstm(x)
        with pytest.raises(ValueError, match="cannot serve: autocast is on"):
            lstm(x, **lengths)
    low(x.bfloat16())
    projected = LSTM(3, 4, proj_size=2)
    projected(x)
    assert {m.engine_used for m in (lstm, low, projected)} == {"framework"}
    for module, given in ((low, x.bfloat16()), (projected, x)):
        for call in (lambda m=module, x=given: m(x, **lengths), lambda m=module, x=given: m.trace(x)):
            with pytest.raises(ValueError, match=r"cannot serve: (the dtypes are|proj_size is)"):
                call()
    low.float()(x.bfloat16().float())
    assert low.engine_used == "native"


@row("gradients per sample of `torch.nn.utils`")
def per_sample():
    """In float64: oneDNN's float32 pass has none."""
    lstm, x = LSTM(3, 4, batch_first=True).double(), torch.randn(2, 5, 3).double()
    call_for_per_sample_grads(lstm, batch_size=2)(x)[0].square().sum().backward()
    assert lstm.engine_used == "framework"
    weights = {name: p.detach() for name, p in lstm.named_parameters()}

    def loss(weights, x):
        return torch.func.functional_call(lstm, weights, (x[None],))[0].square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x)
    assert lstm.engine_used == "native"
    agree(found, [p.grad_sample for p in lstm.parameters()])


@row("`torch.func.functionalize`")
def functionalize():
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)
    with pytest.raises(RuntimeError, match="Functionalize rule"):
        torch.func.functionalize(lambda x: lstm(x)[0])(x)
    lstm.engine = "framework"
    agree(torch.func.functionalize(lambda x: lstm(x)[0])(x), lstm(x)[0])


@row("second derivatives of compiled code")
def second_derivatives():
    lstm, x = LSTM(3, 4).double(), torch.randn(2, 1, 3).double().requires_grad_()

    def second(run):
        (first,) = torch.autograd.grad(run(x)[0].square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)

    with pytest.raises(RuntimeError, match=r"does not currently support double backward|requires create_graph=False"):
        second(torch.compile(lstm, backend="aot_eager"))
    agree(second(torch.compile(lstm, backend="eager")), second(lstm))


@row("`torch.profiler`")
def profiler():
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)

    def events(module, grad):
        with torch.set_grad_enabled(grad), torch.profiler.profile() as profile:
            module(x)
        return {event.key for event in profile.key_averages()}

    assert "_ForwardAtHand" in events(lstm, True)
    assert not {name for name in events(lstm, False) if "lstm" in name or "orward" in name}
    assert "aten::lstm" in events(restore(lstm), False)


@row("`torch.save(module)`")
def save():
    for what, needed in ((LSTM(3, 4), True), (LSTM(3, 4).state_dict(), False)):
        file = io.BytesIO()
        torch.save(what, file)
        assert (b"glasscell" in file.getvalue()) == needed


@row("`resize_` of an output or a final state, and a longer `out=` into it")
def resize():
    lstm, x = LSTM(3, 4, batch_first=True), torch.randn(2, 5, 3)
    for enlarge in (lambda y: y.resize_(3, 5, 4), lambda y: torch.cat([torch.ones(3, 5, 4)], out=y)):
        with torch.no_grad():
            y, h, c = flat(lstm(x))
        for result in (y, h, c):
            with pytest.raises(RuntimeError, match="not resizable"):
                enlarge(result)
        for result in (y.clone(), h.clone(), lstm(x)[0].detach()):
            assert result.resize_(999).shape == (999,)


@row("`trace` of a wrapper")
def wrapper():
    wrapped, x = torch.nn.DataParallel(LSTM(3, 4)), torch.randn(5, 2, 3)
    assert not hasattr(wrapped, "trace")
    assert not hasattr(torch.nn.parallel.DistributedDataParallel, "trace")
    assert wrapped.module.trace(x)[0].f.shape == (2, 5, 4)


@row("`trace` under a transform or a mode")
def under_a_transform():
    lstm, x = LSTM(3, 4), torch.randn(5, 2, 3)

    def traced(x):
        return lstm.trace(x)[0]

    for call in (lambda: torch.func.vmap(traced)(x[None]), lambda: make_fx(traced)(x)):
        with pytest.raises(ValueError, match=r"^trace: .* outside of it"):
            call()


def test_each_row_has_a_check_and_each_check_a_row():
    assert sorted(ROWS) == sorted(CHECKS)
    assert 10 < len(ROWS) < 16


# PyTorch says of TorchScript, of its quantization and of ONNX's older exporter that they are to go.
@pytest.mark.filterwarnings("ignore:.*(torch.jit|ao.quantization).* (is|are) deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The tensor attributes self._flat_weights:UserWarning")  # as of torch's own
@pytest.mark.filterwarnings("ignore:Exporting a model to ONNX with a batch_size other than 1:UserWarning")
@pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # torch's own LSTM compares shapes
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@pytest.mark.parametrize("first_cell", ROWS)
def test_what_the_page_says(first_cell):
    CHECKS[first_cell]()


def test_what_the_page_says_works():
    """Beside torch's: checkpointing of both kinds, and the operator in what `make_fx` records."""
    theirs, mine, (x, _, _) = models()
    for reentrant in (False, True):
        found = []
        for lstm in (theirs.lstm, mine.lstm):
            given = x.clone().requires_grad_()
            torch.utils.checkpoint.checkpoint(lstm, given, use_reentrant=reentrant)[0].square().sum().backward()
            found.append([given.grad, *(p.grad for p in lstm.parameters())])
            lstm.zero_grad()
        agree(*reversed(found))
    assert mine.lstm.engine_used == "native"
    assert type(accelerate(torch.nn.DataParallel(theirs.lstm)).module) is LSTM
