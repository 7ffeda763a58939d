"""Arrays of every kind at every door of NumPy: read as what they are, or refused in one sentence; never half read."""

import jax.numpy as jnp
import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf
import torch

from compare import assert_same_results
from drawn import LAYOUTS, draw, layer
from fresh import run_python
from glasscell import LSTMCell, Stream
from glasscell._cells.layouts import LSTMWeights

B, T, I, H = 2, 3, 4, 5
MASK = np.array([[True, False, True], [True, True, False]])
WEIGHTS = [draw(I, 4 * H), draw(H, 4 * H), draw(4 * H)]
GOOD = {
    "x": draw(B, T, I), "initial_state.h": draw(B, H), "initial_state.c": draw(B, H, seed=1), "mask": MASK,
    "lengths": np.array([3, 2]), "reset": ~MASK, "dropout_mask": draw(4, B, I), "recurrent_dropout_mask": draw(B, H),
}  # fmt: skip


def call(method, given):
    arguments = {name: value for name, value in given.items() if "." not in name}
    arguments["initial_state"] = (given["initial_state.h"], given["initial_state.c"])
    result = getattr(layer(return_state=True), method)(**arguments)
    return (result[0], result[1](draw(B, T, H))) if method == "vjp" else result


def through(method):
    """For each argument of a call, what takes the argument, and a good one."""
    return {f"{method} {n}": (n, lambda v, n=n: call(method, {**GOOD, n: v}), good) for n, good in GOOD.items()}


def pull(name, value):
    given = {"dy": draw(B, T, H), "dstate.h": draw(B, H), "dstate.c": draw(B, H), name: value}
    return layer().vjp(GOOD["x"])[1](given["dy"], (given["dstate.h"], given["dstate.c"])).x


def weights(k):
    def set_one(value):
        cell = LSTMCell(H)
        cell.set_weights([value if n == k else w for n, w in enumerate(WEIGHTS)])
        return cell.get_weights()[k]

    return set_one


def stream_state(value):
    stream = Stream(layer(), B)
    stream.state = (value, draw(B, H))
    return stream.state.h


def layer_state(value):
    rnn = layer()
    rnn.state = (value, draw(B, H))
    return rnn.state.h


def reset(value):
    stream = Stream(layer(), B)
    stream.push(GOOD["x"])
    stream.reset(value)
    return stream.state.h


def from_torch(name, value):
    given = {"weight_ih": draw(4 * H, I), "weight_hh": draw(4 * H, H), "bias_ih": draw(4 * H), "bias_hh": draw(4 * H)}
    return LSTMWeights.from_torch(**{**given, name: value}).bias


DOORS = {
    **through("__call__"), **through("vjp"), **through("trace"),
    **{f"pullback {n}": (n, lambda v, n=n: pull(n, v), good) for n, good in
       {"dy": draw(B, T, H), "dstate.h": draw(B, H), "dstate.c": draw(B, H)}.items()},
    "cell x": ("x", lambda v: layer().cell(v), draw(B, I)),
    "cell state": ("state.c", lambda v: layer().cell(draw(B, I), (draw(B, H), v)), draw(B, H)),
    "cell gates": ("x", lambda v: layer().cell.gates(v), draw(B, I)),
    **{f"set_weights {name}": (name, weights(k), WEIGHTS[k]) for k, name in
       enumerate(("kernel", "recurrent_kernel", "bias"))},
    **{name: (name, lambda v, name=name: from_torch(name, v), draw(*shape)) for name, shape in
       {"weight_ih": (4 * H, I), "weight_hh": (4 * H, H), "bias_ih": (4 * H,), "bias_hh": (4 * H,)}.items()},
    "step": ("x", lambda v: Stream(layer(), B).step(v), draw(B, I)),
    "step of one": ("x", lambda v: Stream(layer()).step(v), draw(I)),
    "push": ("x", lambda v: Stream(layer(), B).push(v), draw(B, T, I)),
    "push to one": ("x", lambda v: Stream(layer()).push(v), draw(T, I)),
    "state of a stream": ("state.h", stream_state, draw(B, H)),
    "state of a layer": ("state.h", layer_state, draw(B, H)),
    "rows": ("rows", reset, np.array([1])),
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
def test_masked_arrays_are_refused(door):
    """With a masked element or none, alone or in a list: what is masked would be read as a number."""
    name, take, good = DOORS[door]
    masked = np.ma.masked_array(good, np.arange(good.size).reshape(good.shape) == 0)
    for value in (masked, np.ma.masked_array(good), list(masked), (next(iter(masked)), *good[1:])):
        with pytest.raises(TypeError, match=rf"^{name}: expected a plain array, got a masked one, whose mask would be"):
            take(value)
    take(good)


KINDS = {**LAYOUTS, "jax": jnp.asarray, "tensorflow": tf.constant, "keras": keras.ops.convert_to_tensor}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("door", DOORS)
def test_the_numbers_count(door, kind):
    """Numbers count, not where they stand, nor in whose array."""
    _, take, good = DOORS[door]
    assert_same_results(take(KINDS[kind](good)), take(good))


@pytest.mark.parametrize("door", DOORS)
def test_what_is_something_else_is_refused(door):
    """The error starts with the argument, or with one that it has to fit."""
    name, take, good = DOORS[door]
    fields = np.zeros(good.shape, [("a", np.float32)])
    odd = [good.astype(object), fields, np.array(1.5), np.array("text"), "text", b"1234", {}, object()]
    odd.append(torch.zeros(good.shape, dtype=torch.bfloat16))
    if not name.startswith(("weight_", "bias_")):  # `from_torch` takes parameters; elsewhere a gradient would be lost
        odd.append(torch.zeros(good.shape, requires_grad=True))
    if good.dtype == np.float32:
        odd += [good.astype(">f4"), good.astype(int), good.astype(np.float16), good.astype(complex), good.tolist(),
                jnp.asarray(good, jnp.bfloat16), [[1.0], [1.0, 2.0]]]  # fmt: skip
    optional = door == "rows" or name in ("mask", "lengths", "reset", "dropout_mask", "recurrent_dropout_mask", "dy")
    if door not in ("step of one", "push to one", "rows"):
        odd.append(good[None])
    if not optional:
        odd.append(None)
    for value in odd:
        with pytest.raises((ValueError, TypeError), match=r"^\w+(\.[hc])?(, \w+)?: (expected|NumPy cannot|lengths)"):
            take(value)


def test_pandas():
    """Frames and series by their numbers; those with gaps are refused."""
    frame, lengths = pandas.DataFrame(draw(B, I), index=[9, 3]), pandas.Series([3, 2], index=[1, 0])
    rnn = layer(return_state=True)
    assert_same_results(rnn.cell(frame), rnn.cell(frame.to_numpy()))
    assert_same_results(rnn(GOOD["x"], lengths=lengths), rnn(GOOD["x"], lengths=[3, 2]))
    assert_same_results(Stream(rnn, B).step(frame), Stream(rnn, B).step(frame.to_numpy()))
    for gaps in (pandas.Series([3, None], dtype="Int64"), pandas.Series([3, None])):
        with pytest.raises(TypeError, match=r"^lengths: expected integers, got (object|float64)$"):
            rnn(GOOD["x"], lengths=gaps)
    with pytest.raises(TypeError, match=r"^mask: expected bool, got object"):
        rnn(GOOD["x"], mask=pandas.DataFrame(MASK).astype("boolean").mask(MASK))


def test_matrices():
    """`np.matrix` has two axes whatever is done to it, and its own `*`."""
    rnn, row = layer(), draw(1, I)
    with pytest.warns(PendingDeprecationWarning):
        x, one, kernel = np.matrix(draw(B, I)), np.matrix(row), np.matrix(WEIGHTS[0])
    assert_same_results(rnn.cell(x), rnn.cell(draw(B, I)))
    assert_same_results(Stream(rnn).step(one), Stream(rnn).step(row))
    assert_same_results(Stream(rnn).push(one), Stream(rnn).push(row))
    assert type(Stream(rnn).push(one)) is type(rnn.cell(x)[0]) is np.ndarray
    cell = LSTMCell(H)
    cell.set_weights([kernel, *WEIGHTS[1:]])
    assert type(cell.weights.kernel) is np.ndarray


def test_without_numpy_ma_nothing_is_imported():
    script = (
        "import sys, numpy as np; from glasscell import LSTM, Stream; rnn = LSTM(2).build(3, seed=0);"
        "rnn(np.ones((1, 2, 3), 'f')); Stream(rnn).step(np.ones(3, 'f')); print('numpy.ma' in sys.modules)"
    )
    assert run_python("-c", script).stdout == "False\n"
