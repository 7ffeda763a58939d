"""What PyTorch's automatic differentiation may ask of `glasscell.torch.LSTM`, beside what `torch.nn.LSTM` answers."""

import contextlib
import copy

import pytest
import torch
from torch import func
from torch.autograd import forward_ad, functional
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from compare import assert_same_bits
from glasscell._cells.activations import BUILT_IN
from glasscell.torch import LSTM
from torch_pairs import agree, flat, twins

# PyTorch loads its own forward mode by what it warns of.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.*deprecated:DeprecationWarning")

SHAPES = [{}, {"num_layers": 2, "bidirectional": True}, {"num_layers": 2, "batch_first": True, "bias": False}]
EXACT = 1e-11  # of the scale: roundings of float64, grown over steps and derivatives
SINGLE = 1e-4  # of the scale: those of float32, in derivatives of derivatives


def modules(dtype=torch.float64, **options):
    """torch's in float64 and ours in `dtype`, with the same parameters, and an input for each."""
    torch.manual_seed(1)
    theirs, mine = twins(3, 4, **options, dtype=torch.float64)
    mine.to(dtype)
    x = torch.randn(2, 2, 3, dtype=torch.float64)
    return theirs, mine, x, x.to(dtype)


def loss(outputs):
    y, h, c = flat(outputs)
    return y.square().sum() + (h * c).sum() + c.sum()


def second(module, x):
    """A gradient penalty: the gradient of a gradient's size, by x and all parameters."""
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(module(x)), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), [x, *module.parameters()], allow_unused=True)


def third(module, x):
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(module(x)), x, create_graph=True)
    (again,) = torch.autograd.grad(first.square().sum(), x, create_graph=True)
    return torch.autograd.grad(again.square().sum(), [x, *module.parameters()], allow_unused=True)


def batched(module, x):
    """A batch of cotangents, and what is made of it differentiated once more."""
    x = x.clone().requires_grad_()
    y, sources = module(x)[0], [x, *module.parameters()]
    seeds = torch.stack([y.detach(), 1 - y.detach(), y.detach() ** 2])
    found = torch.autograd.grad(y, sources, seeds, is_grads_batched=True, create_graph=True)
    return found, torch.autograd.grad(sum(g.square().sum() for g in found), sources)


def vmapped_backward(module, x):
    x = x.clone().requires_grad_()
    y = module(x)[0]
    return func.vmap(lambda v: torch.autograd.grad(y, [x, *module.parameters()], v, retain_graph=True))(
        torch.stack([y.detach(), 1 - y.detach()])
    )


def forward_mode(module, x):
    """Tangents of the input, of one state, of one weight; with and without gradients, frozen."""
    shape = (module.num_layers * (1 + module.bidirectional), x.shape[0 if module.batch_first else 1], 4)
    states, found = tuple(x.new_full(shape, s) for s in (0.5, -0.5)), []

    def dual(t):
        return forward_ad.make_dual(t, torch.cos(t))

    for frozen, gradients in ((False, True), (False, False), (True, True)):
        module.requires_grad_(not frozen)
        with forward_ad.dual_level(), torch.set_grad_enabled(gradients):
            weights = {n: dual(w.detach()) if "hh" in n else w for n, w in module.named_parameters()}
            for outputs in (
                module(dual(x)),
                module(x, (dual(states[0]), states[1])),
                module(x, (states[0], dual(states[1]))),
                func.functional_call(module, weights, (x,)),
            ):
                found.append([forward_ad.unpack_dual(t).tangent.detach() for t in flat(outputs)])
                assert getattr(module, "engine_used", "framework") == "framework"
    module.requires_grad_(True)
    return found


def forward_over_reverse(module, x):
    x = x.clone().requires_grad_()
    y = module(x)[0]
    with forward_ad.dual_level():
        (g,) = torch.autograd.grad(y, x, forward_ad.make_dual(y.detach(), torch.ones_like(y)))
        return [t.detach() for t in forward_ad.unpack_dual(g)]


def of_parameters(module, x):
    parameters = dict(module.named_parameters())
    return func.grad(lambda p: loss(func.functional_call(module, p, (x,))))(parameters)


SITUATIONS = {
    "second": second,
    "third": third,
    "batched": batched,
    "vmapped backward": vmapped_backward,
    "forward mode": forward_mode,
    "forward over reverse": forward_over_reverse,
    "grad": lambda m, x: func.grad(lambda x: loss(m(x)))(x),
    "of parameters": of_parameters,
    "jvp": lambda m, x: func.jvp(lambda x: m(x)[0], (x,), (x.cos(),)),
    "vjp": lambda m, x: func.vjp(lambda x: m(x)[1], x)[1](m(x)[1]),
    "vjp of a gradient, outside": lambda m, x: func.vjp(func.grad(lambda x: loss(m(x))), x)[1](x),
    "jvp of a vjp": lambda m, x: func.jvp(
        lambda v: func.vjp(lambda x: m(x)[0], x)[1](v)[0], (m(x)[0].detach(),), (m(x)[0].detach().cos(),)
    ),
    "jacrev": lambda m, x: func.jacrev(lambda x: m(x)[0])(x),
    "jacfwd": lambda m, x: func.jacfwd(lambda x: m(x)[0])(x),
    "hessian": lambda m, x: func.hessian(lambda x: loss(m(x)))(x),
    "reverse over reverse": lambda m, x: func.jacrev(func.jacrev(lambda x: loss(m(x))))(x),
    "reverse over forward": lambda m, x: func.jacrev(func.jacfwd(lambda x: loss(m(x))))(x),
    "functional.jacobian": lambda m, x: functional.jacobian(lambda x: m(x)[0], x),
    "functional.jacobian, vectorized": lambda m, x: functional.jacobian(lambda x: m(x)[0], x, vectorize=True),
    "functional.hessian, vectorized": lambda m, x: functional.hessian(lambda x: loss(m(x)), x, vectorize=True),
    "functional.jvp": lambda m, x: functional.jvp(lambda x: m(x)[0], x, x),
    "functional.hvp": lambda m, x: functional.hvp(lambda x: loss(m(x)), x, x),
    "functional.vhp": lambda m, x: functional.vhp(lambda x: loss(m(x)), x, x),
}
FORWARD_MODE = ("forward mode", "jvp", "jvp of a vjp", "jacfwd", "hessian", "reverse over forward")


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("options", SHAPES)
@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, EXACT), (torch.float32, SINGLE)])
def test_derivatives_are_torchs(situation, options, dtype, relative):
    """In float32 too, where torch's own has no forward mode and no second derivatives."""
    theirs, mine, x, x_mine = modules(dtype, **options)
    agree(SITUATIONS[situation](mine, x_mine), SITUATIONS[situation](theirs, x), relative)
    assert mine.engine_used == ("framework" if situation in FORWARD_MODE else "native")


@pytest.mark.parametrize("options", SHAPES)
def test_vmap_is_the_loop(options):
    """torch's own has no vmap; each element has the bits that it has alone."""
    _, mine, _, x = modules(torch.float32, **options)
    many, mask = torch.stack([x, 2 * x, x * x]), torch.rand(3, *x.shape[:2]) < 0.7
    gradient = func.grad(lambda x, m: loss(mine(x, mask=m)))
    mine.requires_grad_(False)
    for got, alone in (
        (func.vmap(lambda x: mine(x)[0].detach())(many), [mine(e)[0].detach() for e in many]),
        (func.vmap(gradient)(many, mask), [gradient(e, m) for e, m in zip(many, mask, strict=True)]),
    ):
        assert_same_bits(got, torch.stack(alone))
    assert mine.engine_used == "native"
    mine.requires_grad_(True)
    parameters = dict(mine.named_parameters())
    of_weights = func.grad(lambda p, x: loss(func.functional_call(mine, p, (x,))))
    got = func.vmap(of_weights, (None, 0))(parameters, many)
    for name in parameters:
        assert_same_bits(got[name].detach(), torch.stack([of_weights(parameters, e)[name] for e in many]).detach())
    hessian = func.hessian(lambda x: loss(mine(x)))
    agree(func.vmap(hessian)(many), torch.stack([hessian(e) for e in many]), SINGLE)


def test_the_native_engine_refuses_forward_mode():
    _, mine, _, x = modules()
    mine.engine = "native"
    with pytest.raises(ValueError, match="engine: 'native' cannot serve: derivatives are taken in forward mode"):
        func.jvp(lambda x: mine(x)[0], (x,), (x,))
    func.grad(lambda x: loss(mine(x)))(x)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("role", ["activation", "recurrent_activation"])
def test_what_torch_has_not_is_differentiated_likewise(name, role):
    """Every activation, recurrent dropout, lengths and resets: forward mode is the native gradient, transposed; and
    second derivatives are those of differences, or of the first in forward mode."""
    torch.manual_seed(2)
    mine = LSTM(3, 4, num_layers=2, recurrent_dropout=0.4, dtype=torch.float64, **{role: name})
    with torch.no_grad():  # small, or some activations overflow over time
        for parameter in mine.parameters():
            parameter.mul_(0.3)
    x, reset = torch.randn(4, 3, 3, dtype=torch.float64), torch.rand(4, 3) < 0.3
    x[1:, 2] = torch.nan  # where nothing may look
    lengths = torch.tensor([4, 3, 1])

    def run(x):
        torch.manual_seed(3)
        return mine(x, lengths=lengths, reset=reset)[0]

    weights = torch.randn(4, 3, 4, dtype=torch.float64)
    got = func.jacfwd(run, randomness="same")(x.nan_to_num(0.3))
    assert mine.engine_used == "framework"
    expected = functional.jacobian(run, x.nan_to_num(0.3))
    assert mine.engine_used == "native"
    agree(got, expected, EXACT)
    agree(func.jvp(run, (x,), (torch.ones_like(x),)), func.jvp(run, (x.nan_to_num(0),), (torch.ones_like(x),)), EXACT)

    def first(x):
        return func.grad(lambda x: (run(x) * weights).sum())(x)

    agree(func.jacrev(first)(x.nan_to_num(0.3)), func.jacfwd(first, randomness="same")(x.nan_to_num(0.3)), EXACT)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_framework_finds_the_derivatives_of_activations(name):
    """At zero and at the kinks too, where raw gates often stand."""
    activation = BUILT_IN[name]
    x = torch.tensor(
        [-40, -3.5, -3, -1, -0.5, -0.0, 0, 0.5, 1, 2, 3, 3.5, 6, 40], dtype=torch.float64, requires_grad=True
    )
    expected = activation.derivative(x, torch)
    (got,) = torch.autograd.grad(activation.function(x, torch).sum(), x)
    agree(got, expected, EXACT)
    if name in (
        "tanh",
        "sigmoid",
        "softplus",
        "silu",
        "gelu",
        "exponential",
        "mish",
        "log_sigmoid",
        "tanh_shrink",
    ):  # smooth ones
        theirs = getattr(torch, {"exponential": "exp"}.get(name, name), None)
        theirs = theirs or getattr(torch.nn.functional, name.replace("_", ""))
        x = torch.tensor([-2, -0.0, 0, 1], dtype=torch.float64)
        for function in (lambda x: activation.function(x, torch), lambda x: activation.derivative(x, torch)):
            order = 1 if function(x).allclose(theirs(x)) else 2
            derivatives = [theirs]
            for _ in range(order + 1):
                derivatives.append(lambda x, f=derivatives[-1]: func.grad(lambda x: f(x).sum())(x))
            slope = func.grad(lambda x, f=function: func.grad(lambda x: f(x).sum())(x).sum())(x)
            agree(slope, derivatives[order + 1](x), 1e-9)


def packed(module, **options):
    """The module on packed sequences of unequal lengths, as a function of the padded input."""

    def run(x, *rest):
        y, state = module(pack_padded_sequence(x, [2, 1], enforce_sorted=False, **options), *rest)
        return y.data, state

    return run


@pytest.mark.filterwarnings("ignore:There is a performance drop.*_pack_padded_sequence_backward:UserWarning")
@pytest.mark.parametrize("situation", ["second", "batched", "vmapped backward", "functional.jacobian, vectorized"])
@pytest.mark.parametrize("options", SHAPES[:2])
def test_packed_sequences_too(situation, options):
    theirs, mine, x, _ = modules(**options)
    runs = [packed(module) for module in (mine, theirs)]
    for run, module in zip(runs, (mine, theirs), strict=True):
        run.parameters = module.parameters
    agree(*(SITUATIONS[situation](run, x) for run in runs), EXACT)


def step(module, x, run=None):
    """One step of training: the output and all gradients."""
    x = x.clone().requires_grad_()
    outputs = (module if run is None else run)(x)
    loss(outputs).backward()
    found = [x.grad, *(p.grad for p in module.parameters())]
    module.zero_grad()
    return [outputs[0].detach(), *found]


def dropping(module):
    module.dropout = 0.5
    torch.manual_seed(0)
    return module


def inside(context, situation=step):
    def run(module, x):
        with context():
            return situation(module, x)

    return run


def with_saved(pack):
    return lambda: torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t)


def with_the_default(kind, value, before):
    @contextlib.contextmanager
    def context():
        getattr(torch, f"set_default_{kind}")(value)
        try:
            yield
        finally:
            getattr(torch, f"set_default_{kind}")(before)

    return context


def a_state_of_inference(module, x):
    with torch.inference_mode():
        _, state = module(x)
    return step(module, x, lambda x: module(x, tuple(s.clone() for s in state)))


def only_the_state(module, x):
    module.requires_grad_(False)
    h, c = (x.new_full((module.num_layers * (1 + module.bidirectional), 2, 4), 0.1) for _ in "hc")
    return torch.autograd.grad(loss(module(x, (h.requires_grad_(), c))), h)


def kept_graph(module, x):
    x = x.clone().requires_grad_()
    value = loss(module(x))
    value.backward(retain_graph=True)
    value.backward()
    return [x.grad, *(p.grad for p in module.parameters())]


def unaligned(module, x):
    raw = torch.frombuffer(bytearray(1 + x.nbytes), dtype=torch.uint8)
    raw[1:] = x.flatten().view(torch.uint8)
    moved = torch.frombuffer(raw.numpy(), dtype=x.dtype, offset=1).view(x.shape)
    assert moved.data_ptr() % x.itemsize
    return step(module, moved)


def _data(outputs):
    return outputs[0].data, outputs[1]


class Subclass(torch.Tensor):
    """A subclass of somebody's."""


SURROUNDINGS = {
    "checkpoint": lambda m, x: step(m, x, lambda x: checkpoint(m, x, use_reentrant=False)),
    "reentrant checkpoint": lambda m, x: step(m, x, lambda x: checkpoint(m, x, use_reentrant=True)),
    "checkpoint, dropout": lambda m, x: step(dropping(m), x, lambda x: checkpoint(m, x, use_reentrant=False)),
    "reentrant checkpoint, dropout": lambda m, x: step(dropping(m), x, lambda x: checkpoint(m, x, use_reentrant=True)),
    "hooks on saved tensors": inside(with_saved(torch.clone)),
    "second derivatives under hooks": inside(with_saved(torch.clone), second),
    "saved on the CPU": inside(torch.autograd.graph.save_on_cpu, second),
    "default dtype": inside(with_the_default("dtype", torch.float64, torch.float32)),
    "default device": inside(with_the_default("device", "meta", None)),
    "default device, packed": inside(
        with_the_default("device", "meta", None),
        lambda m, x: step(
            m, x, lambda x: _data(m(PackedSequence(x.flatten(0, 1)[:3], torch.tensor([2, 1], device="cpu"))))
        ),
    ),
    "a state of inference": a_state_of_inference,
    "only the state": only_the_state,
    "kept graph": kept_graph,
    "a copy of the module": lambda m, x: [*step(m, x), *step(copy.deepcopy(m), x)],
    "expanded": lambda m, x: step(m, x[:, :1].expand(2, 2, 3)),
    "not contiguous": lambda m, x: step(m, x.flip(2).transpose(0, 1)),
    "a negative view": lambda m, x: step(m, torch.complex(x, x).conj().imag),
    "unaligned": unaligned,
    "subclass": lambda m, x: [t.as_subclass(torch.Tensor) for t in second(m, x.as_subclass(Subclass)) if t is not None],
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
@pytest.mark.parametrize("options", SHAPES[:2])
def test_surroundings_change_nothing(surroundings, options):
    theirs, mine, x, _ = modules(**options)
    agree(*(SURROUNDINGS[surroundings](m, x) for m in (mine, theirs)), EXACT)
    assert mine.engine_used == "native"
