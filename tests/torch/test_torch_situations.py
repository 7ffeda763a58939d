"""Situations that people put a PyTorch LSTM into, drawn at random: ours does what `torch.nn.LSTM` does there.

A situation is what was done to the module, what it is given and what is done with its results, each drawn by itself.
Where torch raises, ours raises an error of that class.
"""

import copy
import functools
import os

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import glasscell.torch as ours
from compare import error, scale
from torch_pairs import flat, normal, saved

# Of the scale, between torch's results and ours: the roundings of both, grown over layers, steps and derivatives.
SITUATIONS = int(os.environ.get("SITUATIONS", "100"))  # `.ci/run` takes more
RELATIVE = {torch.float32: 2e-5, torch.float64: 1e-11}


def on_data(change, x):
    """`change` of a tensor, or of the data of a packed sequence."""
    return x._replace(data=change(x.data)) if isinstance(x, PackedSequence) else change(x)


# What was done to the module: each takes it and gives the one to call.


def after(change):
    def run(module):
        change(module)
        return module

    return run


def subclassed(module):
    class Halved(type(module)):
        def forward(self, input, hx=None):
            y, state = super().forward(on_data(lambda t: t * 0.5, input), hx)
            return on_data(lambda t: t + 1, y), state

    module.__class__ = Halved


def gradient_hooked(module):
    for parameter in module.parameters():
        parameter.register_hook(lambda gradient: gradient * 3)


def old_weight_normed(module):
    with pytest.warns(FutureWarning, match="weight_norm"):
        torch.nn.utils.weight_norm(module, "weight_ih_l0")


DONE = [
    ("plain", lambda m: m),
    ("plain", lambda m: m),
    ("subclassed", after(subclassed)),
    ("input hooked", after(lambda m: m.register_forward_pre_hook(lambda _, g: (on_data(torch.sin, g[0]), *g[1:])))),
    ("output hooked", after(lambda m: m.register_forward_hook(lambda _, __, r: (on_data(torch.cos, r[0]), r[1])))),
    ("gradient hooked", after(gradient_hooked)),
    ("weight normed", lambda m: parametrizations.weight_norm(m, "weight_hh_l0")),
    ("old weight normed", after(old_weight_normed)),
    ("deep copied", copy.deepcopy),
    ("saved and loaded", saved),
    ("frozen", lambda m: m.requires_grad_(False)),
    ("partly frozen", after(lambda m: m.weight_hh_l0.requires_grad_(False))),
    ("shared", after(lambda m: setattr(m, "weight_hh_l0", torch.nn.Parameter(m.weight_hh_l0.detach() * 0.5)))),
    ("data assigned", after(lambda m: setattr(m.weight_ih_l0, "data", m.weight_ih_l0.data.flip(0)))),
]


# What is done with it: each takes module, input and initial state, and gives a list of tensors.


def sources(module, x, hx):
    return [t for t in [*flat((x, hx or ())), *module.parameters()] if t.requires_grad]


def loss(outputs):
    rng = np.random.default_rng(0)
    return sum((o * normal(rng, o.shape, o.dtype)).sum() for o in outputs)


def gradients(module, x, hx, outputs, **options):
    return list(torch.autograd.grad(loss(outputs), sources(module, x, hx), allow_unused=True, **options))


def infer(module, x, hx):
    with torch.no_grad():
        return flat(module(x, hx))


def infer_for_good(module, x, hx):
    with torch.inference_mode():
        return [t.clone() for t in flat(module(x, hx))]


def train(module, x, hx):
    outputs = flat(module(x, hx))
    return outputs + gradients(module, x, hx, outputs)


def changed(how):
    """Train with the results changed in place by `how` before the loss."""

    def run(module, x, hx):
        y, h, c = flat(module(x, hx))
        outputs = [t for t in how(y, h, c) if t.requires_grad]
        return outputs + gradients(module, x, hx, outputs)

    run.__name__ = how.__name__
    return run


def detach_state(y, h, c):
    h.detach_(), c.detach_()
    return y * 1, h + 0 * y.sum(), c + 0 * y.sum()


def clear_state(y, h, c):
    h[:, 0] = 0
    c[:, 0] *= 2
    return y, h, c


def change_output(y, h, c):
    y += 1
    y.relu_()
    return y, h, c


def zero_output(y, h, c):
    y[..., 0] = 0
    return y.sum(0), h, c


def truncate(module, x, hx):
    losses = []
    for _ in range(2):
        y, h, c = flat(module(x, hx))
        losses += gradients(module, x, None, [y, h, c])
        hx = h.detach_(), c.detach_()
    return losses


def differentiate_twice(module, x, hx):
    outputs = flat(module(x, hx))
    return gradients(module, x, hx, outputs, retain_graph=True) + gradients(module, x, hx, outputs)


def penalise(module, x, hx):
    first = gradients(module, x, hx, flat(module(x, hx)), create_graph=True)
    total = sum((g * g).sum() for g in first if g is not None)
    return [*first, *torch.autograd.grad(total, sources(module, x, hx), allow_unused=True)]


def batch_gradients(module, x, hx):
    y = flat(module(x, hx))[0]
    cotangents = normal(np.random.default_rng(1), (3, *y.shape), y.dtype)
    return list(torch.autograd.grad(y, sources(module, x, hx), cotangents, is_grads_batched=True, allow_unused=True))


def push_forward(module, x, hx):
    with torch.autograd.forward_ad.dual_level():
        tangent = on_data(lambda t: torch.autograd.forward_ad.make_dual(t, torch.cos(t)), x)
        return [torch.autograd.forward_ad.unpack_dual(t).tangent for t in flat(module(tangent, hx))]


def checkpointed(module, x, hx):
    outputs = flat(checkpoint(module, x, hx, use_reentrant=False))
    return gradients(module, x, hx, outputs)


def offloaded(module, x, hx):
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.numpy(force=True).copy(), torch.from_numpy):
        outputs = flat(module(x, hx))
    return gradients(module, x, hx, outputs)


def called_with_others(module, x, hx):
    others = {name: p.detach().flip(0).requires_grad_() for name, p in module.named_parameters()}
    outputs = flat(torch.func.functional_call(module, others, (x, hx)))
    return list(torch.autograd.grad(loss(outputs), list(others.values()), allow_unused=True))


def weights_changed_before_the_gradient(module, x, hx):
    outputs = flat(module(x, hx))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.5)
    return gradients(module, x, hx, outputs)


def transformed(module, x, hx, transform=torch.func.grad):
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def call(parameters):
        return loss(flat(torch.func.functional_call(module, parameters, (x, hx))))

    return list(transform(call)(parameters).values())


def by_autograd(call):
    """`torch.func.grad` where torch's LSTM cannot run in it, over packed sequences."""

    def gradient(parameters):
        leaves = {name: p.requires_grad_() for name, p in parameters.items()}
        found = torch.autograd.grad(call(leaves), list(leaves.values()), allow_unused=True, materialize_grads=True)
        return dict(zip(leaves, found, strict=True))

    return gradient


USES = [
    infer, infer_for_good, train, train, *map(changed, (detach_state, clear_state, change_output, zero_output)),
    truncate, differentiate_twice, penalise, batch_gradients, push_forward, checkpointed, offloaded,
    called_with_others, weights_changed_before_the_gradient, transformed,
]  # fmt: skip


def situation(seed):
    """What to do: (make(library) -> module, x, hx, use), and words for it."""
    rng = np.random.default_rng(seed)

    def chance(share):
        return bool(rng.random() < share)

    B, T, features, H = (int(rng.integers(1, high)) for high in (6, 9, 12, 12))
    options = {
        "num_layers": int(rng.integers(1, 3)),
        "bidirectional": chance(0.4),
        "bias": chance(0.8),
        "batch_first": chance(0.5),
        "dropout": 0.3 * chance(0.3),
        "dtype": torch.float64 if chance(0.4) else torch.float32,
    }
    options["dropout"] *= options["num_layers"] > 1  # else torch warns
    (done_name, done), use = DONE[rng.integers(len(DONE))], USES[rng.integers(len(USES))]
    kind = str(rng.choice(["dense", "unbatched", "packed", "unsorted", "strided", "expanded"]))
    batched = kind != "unbatched"
    layout = [B, T] if options["batch_first"] or kind in ("packed", "unsorted") else [T, B]
    x = normal(rng, [*layout, features] if batched else [T, features], options["dtype"])
    if kind == "strided":
        x = torch.stack([x, -x], -1)[..., 0]
    if kind == "expanded":
        x = x[:1].expand(x.shape)
    x.requires_grad_(chance(0.7))
    if kind in ("packed", "unsorted"):
        lengths = torch.as_tensor(rng.integers(1, T + 1, B))
        lengths = lengths.sort(descending=True).values if kind == "packed" else lengths
        x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=kind == "packed")
    shape = options["num_layers"] * (1 + options["bidirectional"]), *([B] if batched else []), H
    hx = None
    if chance(0.5):
        hx = tuple(normal(rng, shape, options["dtype"]).requires_grad_(chance(0.5)) for _ in "hc")

    def make(library):
        torch.manual_seed(seed)
        return done(library.LSTM(features, H, **options))

    return make, x, hx, use, f"{done_name}, {kind}, {use.__name__}: {options}, hx={hx is not None}"


def outcome(make, library, x, hx, use):
    """What comes out, or the error."""
    module = make(library)
    torch.manual_seed(1)
    try:
        return use(module, x, hx)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        return error


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, of its forward mode
@pytest.mark.parametrize("seed", range(SITUATIONS))
def test_does_what_torchs_does(seed):
    make, x, hx, use, words = situation(seed)
    with torch.backends.mkldnn.flags(enabled=False, allow_tf32=None):  # which knows no forward mode
        expected = outcome(make, torch.nn, x, hx, use)
        if use is transformed and "data pointer" in str(expected):
            expected = outcome(make, torch.nn, x, hx, functools.partial(transformed, transform=by_autograd))
    got = outcome(make, ours, x, hx, use)
    if isinstance(expected, Exception):
        if "detach views" in str(expected) and not isinstance(got, Exception):
            return  # what ours returns is no view
        assert isinstance(got, type(expected)), f"{words}: torch raises {expected!r}, ours gives {got!r}"
        return
    assert not isinstance(got, Exception), f"{words}: ours raises {got!r}"
    largest = max((scale(e.detach()) for e in expected if e is not None), default=0.0)
    for k, (g, e) in enumerate(zip(got, expected, strict=True)):
        if e is None:
            assert g is None or not g.any(), f"{words}: result {k} is not None"
            continue
        assert g is not None, f"{words}: result {k} is None"
        assert (g.shape, g.dtype) == (e.shape, e.dtype), f"{words}: result {k}"
        # Where all terms of a gradient cancel, what is left are the roundings of the terms.
        worst, roundings = error(g.detach(), e.detach()).max(initial=0.0), torch.finfo(e.dtype).eps * largest
        assert worst <= RELATIVE[e.dtype] * scale(e.detach()) + roundings, f"{words}: result {k} is off by {worst:.3g}"
