"""Every public entry of `glasscell.torch`, called with the plausible wrong thing: one sentence of a fixed form."""

import copy
import doctest
import inspect
import re
import warnings

import keras
import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

import glasscell
import glasscell.torch
from glasscell.torch import LSTM, LSTMCell, accelerate, restore
from glasscell.torch import _accelerate as accelerating
from glasscell.torch import _lstm as modules

B, T, I, H = 2, 5, 3, 4
X, STATE, FLAGS = torch.zeros(T, B, I), torch.zeros(1, B, H), torch.ones(T, B, dtype=torch.bool)
PACKED = pack_sequence([X[:, 0]])
with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # PyTorch's, that nested tensors are a prototype
    NESTED = [torch.nested.nested_tensor([X[0], X[1]], layout=layout) for layout in (torch.strided, torch.jagged)]

# What the constructor is called with: the argument that is wrong, then all.
MADE = {
    "a negative size": ("input_size", (-5, 3), {}),
    "no units": ("hidden_size", (5, 0), {}),
    "a bool for units": ("hidden_size", (5, True), {}),
    "a float": ("input_size", (5.0, 3), {}),
    "a string": ("input_size", ("5", 3), {}),
    "NumPy's integer": ("input_size", (np.int64(5), 3), {}),
    "a tensor": ("input_size", (X, 3), {}),
    "bias in the place of layers": ("num_layers", (5, 3, True), {}),
    "no layers": ("num_layers", (5, 3), {"num_layers": 0}),
    "half a layer": ("num_layers", (5, 3), {"num_layers": 1.5}),
    "layers in words": ("num_layers", (5, 3), {"num_layers": "2"}),
    "layers of None": ("num_layers", (5, 3), {"num_layers": None}),
    "a projection as wide": ("proj_size", (5, 3), {"proj_size": 3}),
    "a negative projection": ("proj_size", (5, 3), {"proj_size": -1}),
    "a broken projection": ("proj_size", (5, 3), {"proj_size": 1.5}),
    "dropout above one": ("dropout", (5, 3), {"dropout": 1.5}),
    "negative dropout": ("dropout", (5, 3), {"dropout": -0.1}),
    "dropout in words": ("dropout", (5, 3), {"dropout": "0.1"}),
    "dropout of None": ("dropout", (5, 3), {"dropout": None}),
    "recurrent dropout of one": ("recurrent_dropout", (5, 3), {"recurrent_dropout": 1}),
    "recurrent dropout in words": ("recurrent_dropout", (5, 3), {"recurrent_dropout": "0.1"}),
    "recurrent dropout of None": ("recurrent_dropout", (5, 3), {"recurrent_dropout": None}),
    "an unknown activation": ("activation", (5, 3), {"activation": "tanhh"}),
    "a function": ("activation", (5, 3), {"activation": torch.tanh}),
    "a module": ("recurrent_activation", (5, 3), {"recurrent_activation": torch.nn.Sigmoid()}),
    "a class of modules": ("recurrent_activation", (5, 3), {"recurrent_activation": torch.nn.Sigmoid}),
    "an unknown engine": ("engine", (5, 3), {"engine": "fast"}),
    "engines": ("engine", (5, 3), {"engine": ["native"]}),
    "bias in words": ("bias", (5, 3), {"bias": "no"}),
    "batch_first in words": ("batch_first", (5, 3), {"batch_first": "False"}),
    "directions in words": ("bidirectional", (5, 3), {"bidirectional": "False"}),
    "two directions": ("bidirectional", (5, 3), {"bidirectional": 2}),
    "a dtype in words": ("dtype", (5, 3), {"dtype": "float32"}),
    "NumPy's dtype": ("dtype", (5, 3), {"dtype": np.float32}),
    "integers for weights": ("dtype", (5, 3), {"dtype": torch.int64}),
}
# What `forward` and `trace` are called with.
CALLED = {
    "NumPy": ("input", (X.numpy(),), {}),
    "a list": ("input", (X.tolist(),), {}),
    "None": ("input", (None,), {}),
    "a string": ("input", ("x",), {}),
    "what an LSTM gives": ("input", ((X, (STATE, STATE)),), {}),
    "sparse": ("input", (X.to_sparse(),), {}),
    "nested": ("input", (NESTED[0],), {}),
    "ragged": ("input", (NESTED[1],), {}),
    "other features": ("input", (X[..., 1:],), {}),
    "one axis": ("input", (X[0, 0],), {}),
    "no steps": ("input", (X[:0],), {}),
    "one tensor of states": ("hx", (X, STATE), {}),
    "both states without a tuple": ("hx", (X, STATE, STATE), {}),
    "None for c": ("hx", (X, (STATE, None)), {}),
    "None for both": ("hx", (X, (None, None)), {}),
    "a dict of states": ("hx", (X, {"h": STATE, "c": STATE}), {}),
    "NumPy states": ("hx", (X, (STATE.numpy(), STATE.numpy())), {}),
    "states without layers": ("hx", (X, (STATE[0], STATE[0])), {}),
    "states in float64": ("hx", (X, (STATE, STATE.double())), {}),
    "integer states": ("hx", (X, (STATE.long(), STATE)), {}),
    "too long": ("lengths", (X,), {"lengths": [6, 2]}),
    "negative lengths": ("lengths", (X,), {"lengths": torch.tensor([-1, 2])}),
    "lengths for others": ("lengths", (X,), {"lengths": np.array([5, 2, 2], np.int32)}),
    "lengths in bfloat16": ("lengths", (X,), {"lengths": torch.tensor([5, 2]).bfloat16()}),
    "lengths on meta": ("lengths", (X,), {"lengths": torch.tensor([5, 2], device="meta")}),
    "a number for lengths": ("lengths", (X,), {"lengths": 5}),
    "a mask of floats": ("mask", (X,), {"mask": FLAGS.float()}),
    "a mask of batch first": ("mask", (X,), {"mask": FLAGS.t()}),
    "a NumPy mask": ("mask", (X,), {"mask": FLAGS.numpy()}),
    "resets in a list": ("reset", (X,), {"reset": FLAGS.tolist()}),
    "integer resets": ("reset", (X,), {"reset": FLAGS.long()}),
    "lengths of what is packed": ("lengths", (PACKED,), {"lengths": [5]}),
    "packed features": ("input", (PACKED._replace(data=PACKED.data[:, 1:]),), {}),
}
NO_MODULES = {
    "Keras's layer": keras.layers.LSTM(3),
    "NumPy's layer": glasscell.LSTM(3),
    "a class": torch.nn.LSTM,
    "our class": LSTM,
    "a path": "model.pt",
    "None": None,
    "a list": [torch.nn.LSTM(3, 4)],
    "a state": torch.nn.LSTM(3, 4).state_dict(),
    "a tensor": X,
    "an optimizer": torch.optim.SGD([X], 0.1),
}
# What Python says by itself, which names the entry and the argument.
PYTHONS = {
    "no sizes": (lambda: LSTM(), "'input_size' and 'hidden_size'"),
    "no units": (lambda: LSTM(5), "'hidden_size'"),
    "a misspelt option": (lambda: LSTM(5, 3, batchfirst=True), "'batchfirst'"),
    "Keras's units": (lambda: LSTM(5, units=3), "'units'"),
    "an option by its place": (lambda: LSTM(5, 3, 1, True, True, 0.0, False, 0, None, None, 0.1), "12 were given"),
    "no input": (lambda: LSTM(I, H)(), "'input'"),
    "no input of a trace": (lambda: LSTM(I, H).trace(), "'input'"),
    "the class called": (lambda: LSTM(X), "'hidden_size'"),
    "a trace of the class": (lambda: LSTM.trace(X), "'input'"),
    "Keras's states": (lambda: LSTM(I, H)(X, initial_state=(STATE, STATE)), "'initial_state'"),
    "Keras's training": (lambda: LSTM(I, H)(X, training=True), "'training'"),
    "no module": (lambda: accelerate(), "'module'"),
    "no module to restore": (lambda: restore(), "'module'"),
    "no sizes of a cell": (lambda: LSTMCell(), "'input_size' and 'hidden_size'"),
}
INSIDE = r"has no attribute|not supported between|\.py|\b_\w+|object cannot be|overload|<class|Internal|\.src\."


def check(call, argument, advice=False):
    """The sentence begins with the argument, says what was expected and what came, and is one of a decent length."""
    with pytest.raises((TypeError, ValueError)) as refusal:
        call()
    text = str(refusal.value)
    assert re.match(rf"(\w+, )*{argument}(, \w+)*[ :]", text), text
    assert re.search(r"\b(expected|should|must|has to)\b.*\bgot\b.*\S", text), text
    assert len(text) < 320, text  # the list of all activations takes 270
    assert "\n" not in text, text
    assert not re.search(INSIDE, text), text
    assert not advice or "; " in text, text


@pytest.mark.parametrize("what", MADE)
def test_of_the_constructor(what):
    argument, given, options = MADE[what]
    check(lambda: LSTM(*given, **options), argument)


@pytest.mark.parametrize("method", ["forward", "trace"])
@pytest.mark.parametrize("what", CALLED)
def test_of_a_call(what, method):
    argument, given, options = CALLED[what]
    lstm = LSTM(I, H)
    check(lambda: (lstm if method == "forward" else lstm.trace)(*given, **options), argument)
    assert lstm.engine_used is None


@pytest.mark.parametrize("entry", [accelerate, restore])
@pytest.mark.parametrize("what", NO_MODULES)
def test_of_what_is_no_module(what, entry):
    check(lambda: entry(NO_MODULES[what]), "module", advice=True)


def test_of_both_directions_and_of_the_class():
    check(lambda: LSTM(I, H, bidirectional=True)(X, reset=FLAGS), "reset", advice=True)
    for given in (X, torch.nn.LSTM(I, H)):
        check(lambda given=given: LSTM.forward(given, X), "forward", advice=True)
        check(lambda given=given: LSTM.trace(given, X), "trace", advice=True)


@pytest.mark.parametrize("entry", PYTHONS)
def test_of_python_itself(entry):
    call, names = PYTHONS[entry]
    with pytest.raises(TypeError, match=names) as refusal:
        call()
    text = str(refusal.value)
    assert re.match(r"(LSTM(Cell)?\.)?\w+\(\) (missing|got an unexpected|takes)", text), text


@pytest.mark.parametrize(
    ("name", "value", "argument"),
    [
        ("engine", "fast", "engine"),
        ("recurrent_dropout", 2, "recurrent_dropout"),
        ("recurrent_dropout", "0.1", "recurrent_dropout"),
        ("activation", torch.relu, "activation"),
        ("activation", "tanhh", "activation"),
        ("num_layers", 2, "num_layers"),
        ("bidirectional", True, "bidirectional"),
        ("bias", False, "bias"),
        ("input_size", 7, "input"),
    ],
)
def test_of_attributes_set_later(name, value, argument):
    """When they are set, or in the next call."""
    lstm = LSTM(I, H)

    def call():
        setattr(lstm, name, value)
        lstm(X)

    check(call, argument)


class Own(torch.nn.LSTM):
    """A subclass of somebody's."""


def test_accelerate_says_what_keeps_it_from_running_natively():
    """Each LSTM that runs torch's own as it stands, with what to do; and what it advises makes it run natively."""
    for change, advice in ((torch.nn.Module.bfloat16, r"\.float\(\)"), (torch.nn.Module.half, r"\.float\(\)")):
        model = torch.nn.ModuleDict({"a": torch.nn.LSTM(I, H), "b": torch.nn.LSTM(I, H)})
        change(model["a"])
        with pytest.warns(UserWarning, match=f"^accelerate: made .* torch's own will run: 'a' .*{advice}[^']*$"):
            accelerate(model)
        assert [type(m) for m in model.values()] == [LSTM, LSTM]
        model.float()["a"](X)
        assert model["a"].engine_used == "native"
    mixed = torch.nn.LSTM(I, H)
    mixed.bias_ih_l0 = torch.nn.Parameter(mixed.bias_ih_l0.detach().to("meta"))
    with pytest.warns(UserWarning, match="the tensors are on cpu and meta"):
        accelerate(mixed)
    for plain in (torch.nn.LSTM(I, H, device="meta"), torch.nn.LSTM(I, H).double(), torch.nn.LSTM(I, H)):
        plain.register_forward_hook(lambda *_: None)
        assert type(accelerate(plain)) is LSTM  # without a word, for these run natively


@pytest.mark.parametrize("fullgraph", [False, True])
def test_a_fall_back_of_what_is_compiled_is_logged_once(fullgraph, caplog):
    lstm, x = LSTM(I, H).bfloat16(), X.bfloat16()
    run = torch.compile(lstm, backend="eager", fullgraph=fullgraph)
    with caplog.at_level("INFO", "glasscell"):
        for _ in range(3):
            run(x)
    (record,) = (record for record in caplog.records if record.name == "glasscell")
    assert record.message.startswith("LSTM runs in torch's own: the dtypes are torch.bfloat16")
    assert lstm.engine_used == "framework"


def test_what_an_editor_shows():
    """Every argument by name, and its meaning in the docstring, whose examples run."""
    for entry in (LSTM, LSTM.forward, LSTM.trace, accelerate, restore):
        parameters = inspect.signature(entry).parameters
        assert not {p.kind for p in parameters.values()} & {
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        }
        words = inspect.getdoc(entry) + (inspect.getdoc(LSTM.forward) if entry is LSTM.trace else "")
        for name in parameters:
            assert name == "self" or re.search(rf"\b{name}\b[^\n]*:", words), f"{entry.__qualname__}: {name}"
        assert "Raises:" in words
        assert "Returns:" in words or entry is LSTM
    names = list(inspect.signature(LSTM).parameters)
    assert names[:3] == ["input_size", "hidden_size", "num_layers"]
    assert list(inspect.signature(LSTMCell).parameters)[:2] == names[:2]
    for module in (modules, accelerating):
        results = doctest.testmod(module, globs={**vars(module), **vars(glasscell.torch)})
        assert results.attempted >= 3
        assert not results.failed


def test_refusals_leave_the_module_as_it_was():
    lstm = LSTM(I, H)
    before = copy.deepcopy(lstm.state_dict())
    for argument, given, options in CALLED.values():
        with pytest.raises((TypeError, ValueError), match=argument):
            lstm.trace(*given, **options)
    assert lstm.training
    assert all(torch.equal(value, before[name]) for name, value in lstm.state_dict().items())
