"""What `glasscell.torch.LSTM` says to wrong arguments, beside torch's: the kind of its error, in one sentence."""

import inspect

import keras
import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from compare import assert_same_bits
from glasscell.torch import LSTM
from torch_pairs import agree, flat, twins

B, T, I, H = 2, 5, 3, 4


def inputs():
    torch.manual_seed(0)
    x, h = torch.randn(T, B, I), torch.randn(1, B, H)
    return x, h, pack_padded_sequence(x, torch.tensor([3, T]), enforce_sorted=False)


TORCHS = RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError
WRONG = {
    "no steps": (lambda x, h, p: (x[:0],), r"input: expected at least one step, got T = 0 in shape \(0, 2, 3\)"),
    "no steps, unbatched": (lambda x, h, p: (x[:0, 0],), "input: expected at least one step"),
    "no steps, no rows": (lambda x, h, p: (x[:0, :0],), "input: expected at least one step"),
    "no packed steps": (
        lambda x, h, p: (PackedSequence(x[0, :0], torch.zeros(0, dtype=torch.int64)),),
        "input: expected at least one step",
    ),
    "features": (lambda x, h, p: (x[..., 1:],), r"input: expected shape \(T, B, 3\) or \(T, 3\), got \(5, 2, 2\)"),
    "one axis": (lambda x, h, p: (x[0, 0],), "input: expected shape"),
    "four axes": (lambda x, h, p: (x[None],), "input: expected shape"),
    "packed features": (
        lambda x, h, p: (p._replace(data=p.data[:, 1:]),),
        r"input: expected packed data of shape \(8, 3\), got \(8, 2\)",
    ),
    "packed rows": (
        lambda x, h, p: (p._replace(data=p.data[1:]),),
        r"input: expected packed data of shape \(8, 3\), got \(7, 3\)",
    ),
    "NumPy": (lambda x, h, p: (x.numpy(),), "input: expected a torch.Tensor or a PackedSequence, got numpy.ndarray; "),
    "list": (lambda x, h, p: (x.tolist(),), "input: expected a torch.Tensor or a PackedSequence, got list; "),
    "None": (lambda x, h, p: (None,), "input: expected a torch.Tensor or a PackedSequence, got NoneType; "),
    "one state": (lambda x, h, p: (x, (h,)), r"hx: expected a pair of tensors \(h, c\), .* got 1 in a tuple"),
    "three states": (lambda x, h, p: (x, [h, h, h]), r"hx: expected a pair of tensors \(h, c\), .* got 3 in a list"),
    "a tensor for states": (lambda x, h, p: (x, h), "hx: expected a pair .* got torch.Tensor"),
    "stacked states": (lambda x, h, p: (x, torch.stack([h, h])), "hx: expected a pair .* got torch.Tensor"),
    "states by name": (lambda x, h, p: (x, {"h": h, "c": h}), "hx: expected a pair .* got dict"),
    "no cell state": (lambda x, h, p: (x, (h, None)), "hx: expected a pair .* got NoneType for c; "),
    "NumPy states": (lambda x, h, p: (x, (h.numpy(), h.numpy())), "hx: .* got numpy.ndarray for h; torch.as_tensor"),
    "states of no batch": (lambda x, h, p: (x, (h[0], h[0])), r"hx: expected h of shape \(1, 2, 4\) .* got \(2, 4\) "),
    "states of a batch": (lambda x, h, p: (x[:, 0], (h, h)), r"hx: expected h of shape \(1, 4\) .* got \(1, 2, 4\) "),
    "rows of h": (lambda x, h, p: (x, (h[:, :1], h)), r"hx: expected h of shape \(1, 2, 4\) .* got \(1, 1, 4\) "),
    "rows of c": (lambda x, h, p: (x, (h, h[:, :1])), r"hx: expected c of shape \(1, 2, 4\) .* got \(1, 1, 4\) "),
    "packed rows of h": (lambda x, h, p: (p, (h[:, :1], h[:, :1])), "hx: expected h of shape"),
    "dtype of h": (
        lambda x, h, p: (x, (h.double(), h)),
        "hx: expected h of .* torch.float32 on cpu, got .* torch.float64",
    ),
    "device of c": (lambda x, h, p: (x, (h, h.to("meta"))), "hx: expected c of .* on cpu, got .* on meta"),
    "dtype of the input": (lambda x, h, p: (x.double(),), "RNN input dtype .* does not match weight dtype"),
    "integers": (lambda x, h, p: (x.long(),), "RNN input dtype .* does not match weight dtype"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments_are_named_by_an_error_of_torchs_kind(what):
    given, message = WRONG[what]
    theirs, mine = twins(I, H)
    with pytest.raises(TORCHS) as expected:
        theirs(*given(*inputs()))
    with pytest.raises((ValueError, TypeError), match=message) as got:
        mine(*given(*inputs()))
    assert "\n" not in str(got.value)
    if expected.type in TORCHS[:2]:  # the others are slips of its Python
        assert isinstance(got.value, expected.type)
    if not message.startswith("RNN"):
        with pytest.raises((ValueError, TypeError)) as traced:
            mine.trace(*given(*inputs()))
        packed = isinstance(given(*inputs())[0], PackedSequence)
        assert str(traced.value) == str(got.value) or (packed and "got a PackedSequence" in str(traced.value))


def test_what_torch_takes_is_taken():
    """States in a list, beside padded and packed input; states that are views; no rows at all."""
    theirs, mine = twins(I, H)
    x, h, packed = inputs()
    wide = torch.randn(1, 2 * B, 2 * H)
    for given in (
        (x, [h, 2 * h]),
        (packed, [h, 2 * h]),
        (x[:, 0], [h[:, 0], h[:, 1]]),
        (x, (wide[:, ::2, ::2], wide[:, 1::2, 1::2])),
        (x, (h[:, :1].expand(1, B, H), h)),
        (x[:, :0],),
        (x[:, :0], (h[:, :0], h[:, :0])),
    ):
        got, expected = flat(mine(*given)), flat(theirs(*given))
        assert mine.engine_used == "native"
        assert [t.shape for t in got] == [t.shape for t in expected]
        agree(got, expected)


@pytest.mark.parametrize(
    "lengths", [[3, 5], (3, 5), np.array([3, 5]), np.array([3, 5], np.int32), torch.tensor([3, 5])]
)
def test_lengths_may_be_any_integers(lengths):
    mine, (x, _, _) = LSTM(I, H), inputs()
    assert torch.equal(mine(x, lengths=lengths)[0], mine(x, lengths=torch.tensor([3, 5], dtype=torch.uint8))[0])


FLAGS = torch.ones(T, B, dtype=torch.bool)


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        ({"lengths": "35"}, r"lengths: expected \(B,\) integers, got str"),
        ({"lengths": [[3], [5, 1]]}, r"lengths: expected \(B,\) integers, got list"),
        ({"lengths": [3, None]}, r"lengths: expected \(B,\) integers, got list"),
        ({"lengths": {3, 5}}, r"lengths: expected \(B,\) integers, got set"),
        ({"lengths": [3.0, 5.0]}, "lengths: expected integers, got float32"),
        ({"lengths": torch.tensor([3.0, 5.0], requires_grad=True)}, "lengths: expected integers, got float32"),
        ({"lengths": [True, False]}, "lengths: expected integers, got bool"),
        ({"lengths": 3}, r"lengths: expected shape \(B,\) = \(2,\), got \(\)"),
        ({"lengths": [-1, 2]}, r"lengths: expected 0..T = 0..5, got -1..2"),
        ({"lengths": [6, 6]}, r"lengths: expected 0..T = 0..5, got 6..6"),
        ({"lengths": torch.ones(3)}, r"lengths: expected shape \(B,\) = \(2,\), got \(3,\)"),
        *(
            ({name: value}, rf"{name}: expected a bool tensor of shape \(5, 2\) on cpu, got {got}")
            for name in ("mask", "reset")
            for value, got in (
                (FLAGS.numpy(), "numpy.ndarray"),
                (FLAGS.tolist(), "list"),
                (True, "bool"),
                (FLAGS.long(), r"\(5, 2\) torch.int64 on cpu"),
                (FLAGS.float(), r"\(5, 2\) torch.float32 on cpu"),
                (FLAGS.t(), r"\(2, 5\) torch.bool on cpu"),
                (FLAGS[..., None], r"\(5, 2, 1\) torch.bool on cpu"),
                (FLAGS.to("meta"), r"\(5, 2\) torch.bool on meta"),
            )
        ),
    ],
)
def test_lengths_masks_and_resets_of_wrong_kinds(extras, message):
    mine, (x, _, _) = LSTM(I, H), inputs()
    for run in (mine, mine.trace):
        with pytest.raises((ValueError, TypeError), match=message):
            run(x, **extras)


def test_a_trace_says_what_it_cannot_open():
    x, h, _ = inputs()
    with pytest.raises(ValueError, match="trace: needs the native engine, which cannot serve: proj_size is 2"):
        LSTM(I, H, proj_size=2).trace(x)
    with pytest.raises(ValueError, match=r"trace: needs .*: the dtypes are torch.bfloat16"):
        LSTM(I, H, dtype=torch.bfloat16).trace(x.bfloat16())
    with pytest.raises(ValueError, match=r"trace: needs .*: the dtypes are torch.float32 and torch.float64"):
        LSTM(I, H).trace(x.double())
    with pytest.raises(ValueError, match=r"trace: needs .*: the tensors are on meta"):
        LSTM(I, H, device="meta").trace(x.to("meta"))
    lstm = LSTM(I, H, engine="framework")
    (expected,) = lstm.trace(x, [h, h])
    with torch.autocast("cpu", torch.bfloat16):
        (got,) = lstm.trace(x, [h, h])
    assert_same_bits(got.h, expected.h)


def test_the_signature_is_that_of_torchs_base_and_more():
    """`torch.nn.LSTM` itself shows `*args, **kwargs`; its base has the arguments, in this order."""
    base = inspect.signature(torch.nn.RNNBase.__init__).parameters
    mine = inspect.signature(LSTM.__init__).parameters
    names = [name for name in base if name != "mode"]
    assert list(mine)[: len(names)] == names
    assert all(mine[name].default == base[name].default for name in names)
    assert {p.kind for name, p in mine.items() if name not in names} == {inspect.Parameter.KEYWORD_ONLY}
    with pytest.raises(TypeError, match="missing 2 required positional arguments: 'input_size' and 'hidden_size'"):
        LSTM()


def test_a_fall_back_is_logged_once(caplog):
    lstm, x = LSTM(3, 4).half(), torch.zeros(2, 1, 3, dtype=torch.half)
    with caplog.at_level("INFO", "glasscell"):
        lstm(x)
        lstm(x)
    (record,) = (record for record in caplog.records if record.name == "glasscell")
    assert record.message.startswith("LSTM runs in torch's own: the dtypes are torch.float16")
    assert lstm.engine_used == "framework"


def sigmoid(x):
    return torch.sigmoid(x) * 2


@pytest.mark.parametrize("argument", ["activation", "recurrent_activation"])
def test_activations_are_names(argument):
    """A function is refused, whatever its name: one of that name could be another, as torch's leaky_relu is."""
    names = ("softmax", "log_softmax", "sparsemax", "glu", "threshold")
    for given, error, message in (
        *((name, ValueError, f"{name} .*") for name in names),
        ("relu_", ValueError, r"expected one of tanh, .*, hard_swish; got 'relu_'"),
        *(
            (
                function,
                TypeError,
                f"expected the name of one of Keras's activations, or None; got the callable '{name}'",
            )
            for function, name in (
                (torch.nn.functional.leaky_relu, "leaky_relu"),
                (sigmoid, "sigmoid"),
                (torch.nn.GELU(approximate="tanh"), "GELU"),
            )
        ),
    ):
        with pytest.raises(error, match=f"^{argument}: {message}$"):
            LSTM(I, H, **{argument: given})
        module = LSTM(I, H)
        with pytest.raises(error, match=f"^{argument}: {message}$"):
            setattr(module, argument, given)
        agree(module(inputs()[0]), torch.nn.LSTM.forward(module, inputs()[0]))
    for given, name in ((None, "linear"), ("swish", "silu"), (keras.activations.mish, "mish")):
        assert getattr(LSTM(I, H, **{argument: given}), argument) == name
