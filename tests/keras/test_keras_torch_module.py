"""Our Keras layers as PyTorch modules, beside Keras's own: derivatives, writes into outputs, dtypes, missing numbers.

Runs where PyTorch is Keras's backend: tests/keras/test_keras_backends.py runs this file there.
"""

import keras
import pytest
from beside import BACKEND, LIBRARIES

import glasscell.keras as ours
from compare import assert_close

if BACKEND != "torch":
    pytest.skip("PyTorch's modules", allow_module_level=True)

import torch
from torch import func
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad, functional

# PyTorch loads its own forward mode by what it warns of.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.*deprecated:DeprecationWarning")

KINDS = {
    "LSTM": lambda lib, o: lib.LSTM(4, return_sequences=True, return_state=True, **o),
    "last output": lambda lib, o: lib.LSTM(4, return_state=True, **o),
    "backwards": lambda lib, o: lib.LSTM(4, return_sequences=True, return_state=True, go_backwards=True, **o),
    "dropout": lambda lib, o: lib.LSTM(4, return_state=True, dropout=0.3, recurrent_dropout=0.3, seed=1, **o),
    "RNN": lambda lib, o: lib.RNN(lib.LSTMCell(4, **o), return_state=True, **o),
    "stack": lambda lib, o: lib.RNN([lib.LSTMCell(4, **o), lib.LSTMCell(3, **o)], return_sequences=True, **o),
    "Bidirectional": lambda lib, o: lib.Bidirectional(lib.LSTM(4, return_sequences=True, return_state=True, **o), **o),
    "both": lambda lib, o: lib.Bidirectional(lib.LSTM(4, return_sequences=True, **o), merge_mode=None, **o),
}

torch.manual_seed(0)
X, V = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
MASK = torch.tensor([[True, True, False, True, True], [False, True, True, True, False]])


def flat(outputs):
    return keras.tree.flatten(outputs)


def layers(kind, **options):
    """Keras's and ours, with the same weights and seeds."""
    found = []
    for library in LIBRARIES:
        keras.utils.set_random_seed(1)
        found.append(KINDS[kind](library, options))
        found[-1].build((2, 5, 3))
    return found


def parameters(layer):
    return [v.value for v in layer.trainable_variables]


def loss(outputs):
    return sum((k + 1) * t.float().square().sum() for k, t in enumerate(flat(outputs)))


def compare(got, expected, relative=1e-5):
    assert len(got) == len(expected) > 0
    for k, (g, e) in enumerate(zip(got, expected, strict=True)):
        assert (g is None) == (e is None), k
        if e is not None:
            assert g.dtype == e.dtype
            assert_close(g.detach().double(), e.detach().double(), relative, k)


def gradients(layer, call):
    x = X.clone().requires_grad_()
    outputs = layer(x, **call)
    return flat(outputs) + list(torch.autograd.grad(loss(outputs), [x, *parameters(layer)]))


def second(layer, call):
    x = X.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(layer(x, **call)), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), [x, *parameters(layer)], allow_unused=True)


def batched(layer, call):
    x = X.clone().requires_grad_()
    y = flat(layer(x, **call))[0]
    seeds = torch.stack([y.detach(), 1 - y.detach()])
    wanted = [x, *parameters(layer)]
    together = torch.autograd.grad(y, wanted, seeds, is_grads_batched=True, retain_graph=True, allow_unused=True)
    wanted = [w for w, g in zip(wanted, together, strict=True) if g is not None]
    mapped = func.vmap(lambda v: torch.autograd.grad(y, wanted, v, retain_graph=True))(seeds)
    return *together, *mapped, functional.jacobian(lambda x: flat(layer(x, **call))[0], X, vectorize=True)


def forward_mode(layer, call):
    """Tangents of the input, of the weights and of the state; with and without gradients."""
    found = []
    for gradients in (True, False):
        with forward_ad.dual_level(), torch.set_grad_enabled(gradients):
            dual = [forward_ad.make_dual(w.detach(), w.cos()) for w in parameters(layer)]
            for outputs in (
                layer(forward_ad.make_dual(X, V), **call),
                layer.stateless_call(dual, layer.non_trainable_variables, X, **call)[0],
                layer(X, initial_state=states(layer, lambda s: forward_ad.make_dual(s, s.cos())), **call),
            ):
                found += [forward_ad.unpack_dual(t).tangent.detach() for t in flat(outputs)]
    return found


def states(layer, make):
    if isinstance(layer, keras.layers.Bidirectional):
        return [make(torch.full((2, 4), 0.5)) for _ in range(4)]
    return keras.tree.map_structure(lambda s: make(s + 0.5), layer.get_initial_state(2))


def of_functions(layer, call):
    def run(x):
        return loss(layer(x, **call))

    many = torch.stack([X, V])
    return [
        *func.jvp(lambda x: tuple(flat(layer(x, **call))), (X,), (V,))[1],
        func.grad(run)(X),
        func.vmap(func.grad(run))(many),
        func.vmap(lambda x: flat(layer(x, **call))[0])(many),
        func.hessian(run)(X),
    ]


# Keras writes the state of its generator, which neither transforms nor fakes take.
REFUSED = [("transforms", "dropout"), ("fakes", "dropout")]
DERIVATIVES = {
    "gradients": (gradients, "native"),
    "second": (second, "native"),
    "batched": (batched, "native"),
    "forward mode": (forward_mode, "framework"),
    "transforms": (of_functions, "framework"),
}


@pytest.mark.parametrize(("what", "kind"), [(w, k) for w in DERIVATIVES for k in KINDS if (w, k) not in REFUSED])
@pytest.mark.parametrize("masked", [False, True])
def test_derivatives_are_kerass(what, kind, masked):
    situation, engine = DERIVATIVES[what]
    call = ({"mask": MASK} if masked else {}) | ({"training": True} if kind == "dropout" else {})
    theirs, mine = layers(kind)
    compare(situation(mine, call), situation(theirs, call))
    assert mine.engine_used == engine


def test_the_native_engine_refuses_forward_mode():
    layer = ours.LSTM(4, engine="native")
    layer(X)
    with pytest.raises(ValueError, match="engine: 'native' cannot serve this layer: derivatives are taken in forward"):
        func.jvp(layer, (X,), (V,))


WRITES = {"= 0": lambda t: t[0].zero_(), "+= 1": lambda t: t.add_(1), "relu": lambda t: t.relu_()}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("kind", KINDS)
def test_writes_into_each_output(write, kind):
    """What else changes with it, and the gradients after it, are Keras's too."""
    for which in range(len(flat(layers(kind)[1](X)))):
        for call in ({}, {"mask": MASK}):
            for trained in (True, False):
                found = []
                for layer in layers(kind):
                    x = X.clone().requires_grad_(trained)
                    with torch.set_grad_enabled(trained):
                        outputs = flat(layer(x, **call))
                        try:
                            WRITES[write](outputs[which])
                            found.append([t.detach() for t in outputs])
                            if trained:
                                found[-1] += torch.autograd.grad(loss(outputs), [x, *parameters(layer)])
                        except RuntimeError as error:
                            found.append(error)
                if not isinstance(found[0], RuntimeError):  # Keras refuses to write into the states of a stack
                    assert not isinstance(found[1], RuntimeError), (which, call, found[1])
                    compare(found[1], found[0])
                else:
                    assert (kind, trained) == ("stack", True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_dtypes_changed_by_torch(kind, dtype):
    """The numbers are those of Keras's own loop, bit for bit."""
    for call in ({}, {"mask": MASK}):
        for x in (X, X.to(dtype)):
            found = []
            for layer in layers(kind):
                outputs = layer.to(dtype)(x, **call)
                found.append([*flat(outputs), *torch.autograd.grad(loss(outputs), parameters(layer))])
            compare(found[1], found[0], 0)
            assert layer.engine_used == "framework"
    layer = ours.LSTM(4, engine="native")
    layer(X)
    with pytest.raises(ValueError, match="the weights are float64, where the dtype policy says float32"):
        layer.double()(X)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_is_kerass(kind):
    theirs, mine = layers(kind)
    with torch.autocast("cpu", torch.bfloat16):
        compare(flat(mine(X)), flat(theirs(X)), 0)
    assert mine.engine_used == "framework"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if ("fakes", kind) not in REFUSED])
@pytest.mark.parametrize("masked", [False, True])
def test_shapes_without_numbers_are_kerass(kind, masked):
    found = []
    for layer in layers(kind):
        with keras.device("meta"):
            call = {"mask": MASK.to("meta")} if masked else {}
            of_meta = flat(layer(torch.empty(2, 5, 3, device="meta"), **call))
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            call = {"mask": mode.from_tensor(MASK)} if masked else {}
            of_fakes = flat(layer(mode.from_tensor(X), **call))
        garbage = flat(layer.to("meta")(torch.empty(2, 5, 3, device="meta")))  # Keras's, on the CPU
        found.append([(tuple(t.shape), t.dtype, t.device, type(t)) for t in (*of_meta, *of_fakes, *garbage)])
    assert found[1] == found[0]
    assert layer.engine_used == "native"
