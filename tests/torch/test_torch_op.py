"""The operators of `glasscell.torch`: what compilers, transforms and autograd make of them."""

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from compare import assert_close, assert_same_bits
from glasscell._cells.activations import BUILT_IN
from glasscell._ops import torch as op
from glasscell._ops.call import step_flags_of
from glasscell._ops.operands import outputs_of
from torch_pairs import agree, agree_in_bits, normal, pair


def test_compiles_without_a_break():
    theirs, mine, x, _ = pair(11, num_layers=2, dtype=torch.float32)

    def loss(x, module):
        y, (h, c) = module(x)
        return (y * y).sum() + h.sum() + c.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    agree(*(torch.autograd.grad(run(x, m), list(m.parameters())) for run, m in ((compiled, mine), (loss, theirs))))


@pytest.mark.filterwarnings("ignore:.torch.jit.*deprecated:DeprecationWarning")  # PyTorch's own, of its forward mode
def test_derivatives_of_what_is_compiled_are_torchs():
    """Transforms of functions and forward mode; a second derivative of compiled code PyTorch refuses by itself."""
    theirs, mine, x, _ = pair(11, num_layers=1, bidirectional=False, batch_first=False, dtype=torch.float64)
    mine.engine, x = "auto", x[:2]
    run, dual = torch.compile(mine, backend="aot_eager"), torch.autograd.forward_ad

    def loss(x, module):
        return module(x)[0].square().sum()

    gradient, expected = torch.func.grad(loss), torch.func.grad(loss)(x, theirs)
    assert_close(torch.compile(gradient, backend="aot_eager")(x, mine).detach(), expected.detach(), 1e-11)
    run(x)
    assert mine.engine_used == "native"
    found = []
    for module in (run, theirs):
        with dual.dual_level(), torch.no_grad():
            found.append(dual.unpack_dual(module(dual.make_dual(x, x.cos()))[0]).tangent)
    assert_close(*found, 1e-11)
    assert mine.engine_used == "framework"
    x = x.detach().requires_grad_()
    # PyTorch says so in one place or another, by whether it has given memory of the first derivative away.
    with pytest.raises(RuntimeError, match=r"does not currently support double backward|requires create_graph=False"):
        torch.autograd.grad(loss(x, run), x, create_graph=True)[0].sum().backward()
    eager = torch.compile(mine, backend="eager")
    second = [torch.autograd.functional.hvp(lambda x, m=module: loss(x, m), x, x)[1] for module in (eager, theirs)]
    assert_close(*second, 1e-11)


@pytest.mark.parametrize("what", ["lengths", "mask", "reset"])
def test_compiles_with_steps_left_out(what):
    _, mine, x, _ = pair(11, num_layers=2, bidirectional=False, batch_first=True, dtype=torch.float32)
    B, T, _ = x.shape
    given = torch.arange(B) % T + 1 if what == "lengths" else torch.rand(B, T) < 0.7
    run = torch.compile(lambda x: mine(x, **{what: given})[0], backend="aot_eager")
    with torch.no_grad():
        assert_same_bits(run(x), mine(x, **{what: given})[0])


@pytest.mark.parametrize("tape", [False, True])
def test_operators_are_what_they_say(tape):
    """Their schemas, shapes and strides, and for the first its gradient: both directions, silu's raw gates, resets.

    No step is skipped: there the tape holds whatever was in the memory, and nothing reads it.
    """
    rng = np.random.default_rng(0)
    B, T, I, H, absent = 3, 5, 4, 6, torch.empty(0)
    shapes = [(4 * H, I), (4 * H, H), (4 * H,), (B, H), (B, H), (4, B, H)]
    own = []
    for mask in (absent, None):
        W, R, b, h0, c0, drawn = (normal(rng, shape, torch.float32).requires_grad_(tape) for shape in shapes)
        own += [W, R, b, h0, c0, absent, drawn.detach() if mask is None else mask]
    silu = list(BUILT_IN).index("silu")
    x, codes = normal(rng, (B, T, I), torch.float32), [0, 1, 0, 1, silu, 1, 1, 1]
    steps = torch.from_numpy(step_flags_of(B, T, reset=rng.random((B, T)) < 0.3))
    torch.library.opcheck(op.forward, (x, steps, own, codes, True, tape))
    if tape:
        own = [t.detach() for t in own]
        kept = op.forward(x, steps, own, codes, True, True)
        cotangents = [normal(rng, t.shape, torch.float32) for d in outputs_of(kept) for t in d]
        cotangents[1] = absent
        for dx in (True, False):
            torch.library.opcheck(op.backward, (x, steps, own, codes, kept, cotangents, dx))


@pytest.mark.parametrize("steps", [False, True])
def test_modes_below_autograd_see_the_operators(steps):
    """What `make_fx` records it computes anew for other numbers, forward and backward."""
    _, mine, x, _ = pair(11, num_layers=2, bidirectional=True, batch_first=True, dtype=torch.float32)
    mask = torch.arange(x.shape[1]) < torch.arange(len(x))[:, None] + 1

    def run(x, mask):
        x = x.detach().requires_grad_()
        y, (h, c) = mine(x, mask=mask if steps else None)
        return [y, h, c, *torch.autograd.grad(y.square().sum() + c.sum(), [x, *mine.parameters()])]

    graph, other = make_fx(run)(x, mask), 2 * x + 1
    assert "torch.ops.glasscell.forward" in graph.code
    assert "torch.ops.glasscell.backward" in graph.code
    agree_in_bits(graph(other, ~mask), run(other, ~mask))
