"""`LSTMWeights.from_tf1` beside TensorFlow 1's cell: its equations as its source has them, and the op that is left."""

import re

import numpy as np
import pytest
import tensorflow as tf

from compare import assert_close
from glasscell import LSTMCell, LSTMWeights

SHAPES = [(1, 1, 1), (2, 3, 2), (5, 4, 7), (3, 1, 33)]  # B, I, H
FLOAT32 = 4e-6


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def tf1_cell(x, c, h, kernel, bias, forget_bias):
    """One step as `rnn_cell_impl.py` of TensorFlow 1 computes it: one product, split into i, j, f, o; state (c, h)."""
    i, j, f, o = np.split(np.concatenate([x, h], 1) @ kernel + bias, 4, axis=1)
    new_c = c * sigmoid(f + forget_bias) + sigmoid(i) * np.tanh(j)
    return np.tanh(new_c) * sigmoid(o), new_c


def drawn(B, I, H, dtype):
    rng = np.random.default_rng(B + 10 * I + 100 * H)
    shapes = {"x": (B, I), "c": (B, H), "h": (B, H), "kernel": (I + H, 4 * H), "bias": (4 * H,)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def stepped(weights, x, c, h):
    cell = LSTMCell(len(weights.recurrent_kernel), dtype=x.dtype)
    cell.set_weights(weights)
    return cell(x, (h, c))[1]


@pytest.mark.parametrize("forget_bias", [1.0, 0, -0.5, np.float32(2)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_is_that_of_tensorflow_1(shape, forget_bias):
    a = drawn(*shape, np.float64)
    weights = LSTMWeights.from_tf1(a["kernel"], a["bias"], forget_bias)
    h, c = tf1_cell(**a, forget_bias=forget_bias)
    assert_close(stepped(weights, a["x"], a["c"], a["h"]), (h, c), 1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_is_that_of_the_op_that_tensorflow_kept(shape):
    """`LSTMBlockCell`, the compiled form of the same cell."""
    a = drawn(*shape, np.float32)
    none = np.zeros(shape[2], np.float32)
    theirs = tf.raw_ops.LSTMBlockCell(
        x=a["x"], cs_prev=a["c"], h_prev=a["h"], w=a["kernel"], b=a["bias"], wci=none, wcf=none, wco=none,
        forget_bias=1, cell_clip=-1, use_peephole=False,
    )  # fmt: skip
    ours = stepped(LSTMWeights.from_tf1(a["kernel"], a["bias"]), a["x"], a["c"], a["h"])
    assert_close(ours, (theirs.h.numpy(), theirs.cs.numpy()), FLOAT32)
    assert "[i, f, ci, o] = xh * w + b" in tf.raw_ops.LSTMBlockCell.__doc__  # which docs/cell.md says is not the order


def test_variables_by_their_names_in_a_checkpoint():
    a = drawn(2, 3, 2, np.float32)
    expected = LSTMWeights.from_tf1(a["kernel"], a["bias"], 0.5)
    for scope in ("", "rnn/lstm_cell/", "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/"):
        for end in ("", ":0"):
            named = {f"{scope}{name}{end}": a[name] for name in ("bias", "kernel")}
            for ours, theirs in zip(LSTMWeights.from_tf1(named, forget_bias=0.5), expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_the_given_arrays_stay_as_they_were():
    a = drawn(2, 3, 2, np.float32)
    weights = LSTMWeights.from_tf1(a["kernel"], a["bias"])
    for array in weights:
        array[:] = 7
    fresh = drawn(2, 3, 2, np.float32)
    assert all((a[name] == fresh[name]).all() for name in a)


KERNEL, BIAS = np.ones((5, 8)), np.ones(8)
TWO_CELLS = {"a/kernel": KERNEL, "a/bias": BIAS, "b/kernel": KERNEL}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((KERNEL,), TypeError, "bias: expected an array of shape (4H,), got None"),
        ((None, BIAS), TypeError, "kernel: expected an array of shape (I + H, 4H), got None"),
        ((KERNEL[:2], BIAS), ValueError, "kernel: expected shape (I + H, 4H) with I and H from 1, got (2, 8)"),
        ((KERNEL[:, :7], BIAS), ValueError, "kernel: expected shape (I + H, 4H) with I and H from 1, got (5, 7)"),
        ((KERNEL[0], BIAS), ValueError, "kernel: expected shape (I + H, 4H) with I and H from 1, got (8,)"),
        ((KERNEL.astype(int), BIAS), TypeError, "kernel: expected a float dtype, got int64"),
        ((KERNEL, BIAS[:7]), ValueError, "bias: expected shape (4H,) = (8,), got (7,)"),
        ((KERNEL, BIAS.astype("f4")), TypeError, "bias: expected dtype float64, got float32"),
        ((KERNEL, BIAS, None), ValueError, "forget_bias: expected a finite number, got None"),
        ((KERNEL, BIAS, np.nan), ValueError, "forget_bias: expected a finite number, got nan"),
        ((KERNEL, BIAS, True), ValueError, "forget_bias: expected a finite number, got True"),
        ((KERNEL, BIAS, "1"), ValueError, "forget_bias: expected a finite number, got '1'"),
        (({"kernel": KERNEL, "bias": BIAS}, BIAS), TypeError, "bias: expected None beside a mapping"),
        (({"a/kernel": KERNEL},), ValueError, "bias: expected the kernel and the bias of one cell, got nothing of"),
        ((TWO_CELLS,), ValueError, "b/kernel: expected the kernel and the bias of one cell, got a/kernel, a/bias, b/"),
        (({"a/bias/Adam": BIAS},), ValueError, "a/bias/Adam: expected the kernel and the bias of one cell"),
    ],
)
def test_what_does_not_fit_is_named(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        LSTMWeights.from_tf1(*arguments)


@pytest.mark.parametrize(
    ("name", "kind"), [(f"w_{gate}_diag", "peephole") for gate in "fio"] + [("projection/kernel", "projection")]
)
def test_peepholes_and_projections_are_refused(name, kind):
    named = {"rnn/lstm_cell/kernel": KERNEL, "rnn/lstm_cell/bias": BIAS, f"rnn/lstm_cell/{name}": np.ones(2)}
    with pytest.raises(ValueError, match=f"rnn/lstm_cell/{name}: expected the kernel .* got a {kind}"):
        LSTMWeights.from_tf1(named)
