"""The reference engine: every gradient against central differences, everything against a plain loop in PyTorch."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.random import default_rng

from cases import GRADIENTS, NAMES, make_case, run
from compare import assert_close
from glasscell._cells.layouts import LSTMWeights
from glasscell._ops import reference
from glasscell._ops.call import Call

B, T, I, H = 2, 3, 2, 3

# Each option of a call, alone and together; drawn once, so that a failure repeats.
OPTIONS = {
    "plain": {},
    "initial_state": {"initial_state": tuple(default_rng(1).standard_normal((2, B, H)))},
    "mask": {"mask": np.array([[True, False, True], [False, True, False]])},
    "lengths": {"lengths": np.array([2, 0])},
    "reset": {"reset": np.array([[False, True, False], [True, False, True]])},
    "reset at a skipped step": {
        "initial_state": tuple(default_rng(2).standard_normal((2, B, H))),
        "mask": np.array([[False, True, True], [True, False, True]]),
        "reset": np.array([[True, False, False], [False, True, False]]),
    },
    "dropout": {
        "dropout_mask": default_rng(3).uniform(0, 2, (B, I)),
        "recurrent_dropout_mask": default_rng(4).uniform(0, 2, (B, H)),
    },
    "dropout of each gate": {
        "initial_state": tuple(default_rng(5).standard_normal((2, B, H))),
        "dropout_mask": default_rng(6).uniform(0, 2, (4, B, I)),
        "recurrent_dropout_mask": default_rng(7).uniform(0, 2, (4, B, H)),
    },
}
OPTIONS["all"] = {
    **OPTIONS["reset at a skipped step"],
    **OPTIONS["dropout of each gate"],
    "lengths": np.array([3, 2]),
}


def check_against_central_differences(case):
    """Every gradient, element by element.

    The loss is the sum of all outputs times random numbers. A central difference at step 1e-5 is right to 1e-10
    times the third derivative and to 1e-16 / 1e-5 times the loss, both of the order of 1 to 10 here: 1e-8 is ample.
    """
    results = run(case, "reference")
    leaves = {
        "x": case.x.astype(np.float64),
        "kernel": case.weights.kernel.astype(np.float64),
        "recurrent_kernel": case.weights.recurrent_kernel.astype(np.float64),
        "bias": None if case.weights.bias is None else case.weights.bias.astype(np.float64),
    }
    leaves["h0"], leaves["c0"] = (v.copy() for v in case.options["initial_state"] or np.zeros((2, B, H)))
    dh, dc = case.dstate

    def loss():
        options = {**case.options, "initial_state": (leaves["h0"], leaves["c0"])}
        weights = LSTMWeights(leaves["kernel"], leaves["recurrent_kernel"], leaves["bias"])
        moved = dataclasses.replace(case, x=leaves["x"], weights=weights, options=options)
        output, h, c = moved.layer("reference", np.float64)(**moved.arguments(np.float64))
        return (output * case.dy).sum() + (h * dh).sum() + (c * dc).sum()

    for name, leaf in leaves.items():
        if leaf is None:
            assert "d_bias" not in results
            continue
        expected = np.empty_like(leaf)
        for index in np.ndindex(leaf.shape):
            value, sides = leaf[index], []
            for sign in (1, -1):
                leaf[index] = value + sign * 1e-5
                sides.append(loss())
            leaf[index] = value
            expected[index] = (sides[0] - sides[1]) / 2e-5
        np.testing.assert_allclose(results["d_" + name], expected, rtol=1e-8, atol=1e-8, err_msg=name)


def small_case(options, sequences=True, backwards=False, silent=False, a="tanh", s="sigmoid", bias=True):
    rng = default_rng(0)
    kernel, recurrent_kernel, b = (0.5 * rng.standard_normal(shape) for shape in ((I, 4 * H), (H, 4 * H), 4 * H))
    if "exponential" in (a, s):  # e to the e to the e ... would explode within three steps
        kernel, recurrent_kernel, b = kernel / 5, recurrent_kernel / 5, b - 1
    weights = LSTMWeights(kernel, recurrent_kernel, b if bias else None)
    names = ("initial_state", "mask", "lengths", "reset", "dropout_mask", "recurrent_dropout_mask")
    return dataclasses.replace(
        make_case(0),
        activation=a,
        recurrent_activation=s,
        flags={"return_sequences": sequences, "go_backwards": backwards, "zero_output_for_mask": silent},
        weights=weights,
        x=rng.standard_normal((B, T, I)),
        options={name: options.get(name) for name in names},
        dy=rng.standard_normal((B, T, H) if sequences else (B, H)),
        dstate=tuple(rng.standard_normal((2, B, H))),
    )


@pytest.mark.parametrize("name", OPTIONS)
def test_gradients_of_each_option(name):
    check_against_central_differences(small_case(OPTIONS[name]))


@pytest.mark.parametrize("flags", [(0, 0, 0), (0, 1, 1), (1, 1, 0), (1, 0, 1)])
def test_gradients_of_each_flag(flags):
    """return_sequences, go_backwards, zero_output_for_mask."""
    check_against_central_differences(small_case(OPTIONS["all"], *flags))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_each_activation(name):
    """The kinks are further than the difference's step from every number that occurs here: a fixed draw."""
    check_against_central_differences(small_case({}, a=name))
    check_against_central_differences(small_case({}, s=name))


def test_gradients_without_bias():
    check_against_central_differences(small_case(OPTIONS["all"], bias=False))


TORCH = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "linear": lambda x: x,
    "relu": F.relu,
    "hard_sigmoid": lambda x: torch.clamp(x / 6 + 0.5, 0, 1),  # F.hardsigmoid's gradient has float32's 1/6
    "leaky_relu": lambda x: torch.where(x < 0, 0.2 * x, x),  # 1 at zero, as in Keras; PyTorch's own says 0.2
    "elu": F.elu,
    "selu": F.selu,
    "exponential": torch.exp,
    "softplus": lambda x: F.softplus(x, threshold=50),
    "softsign": F.softsign,
    "silu": F.silu,
    "gelu": F.gelu,
}


def run_torch(case):
    """The same case, written out row by row and step by step, differentiated by PyTorch."""
    B, T, _ = case.x.shape
    H = case.weights.recurrent_kernel.shape[0]
    options, a, s = case.options, TORCH[case.activation], TORCH[case.recurrent_activation]

    def leaf(value):
        return torch.tensor(np.asarray(value, np.float64), requires_grad=True)

    x, W, R = leaf(case.x), leaf(case.weights.kernel), leaf(case.weights.recurrent_kernel)
    b = leaf(np.zeros(4 * H) if case.weights.bias is None else case.weights.bias)
    h0, c0 = (leaf(v) for v in options["initial_state"] or np.zeros((2, B, H)))

    def factors(name, width, row):
        value = options[name]
        value = np.ones((4, B, width)) if value is None else np.broadcast_to(value, (4, B, width))
        return torch.tensor(value[:, row].astype(np.float64))

    outputs, hs, cs = [], [], []
    for row in range(B):
        h, c, row_outputs = h0[row], c0[row], []
        fx, fh = factors("dropout_mask", x.shape[2], row), factors("recurrent_dropout_mask", H, row)
        for t in reversed(range(T)) if case.flags["go_backwards"] else range(T):
            within = options["lengths"] is None or t < options["lengths"][row]
            if within and options["reset"] is not None and options["reset"][row, t]:
                h, c = torch.zeros_like(h), torch.zeros_like(c)
            kept = within and (options["mask"] is None or options["mask"][row, t])
            if kept:
                z = [
                    (x[row, t] * fx[k]) @ W[:, k * H : (k + 1) * H] + (h * fh[k]) @ R[:, k * H : (k + 1) * H]
                    + b[k * H : (k + 1) * H]
                    for k in range(4)
                ]  # fmt: skip
                c = s(z[1]) * c + s(z[0]) * a(z[2])
                h = s(z[3]) * a(c)
            silent = not kept and case.flags["zero_output_for_mask"]
            row_outputs.append(torch.zeros_like(h) if silent else h)
        outputs.append(torch.stack(row_outputs) if case.flags["return_sequences"] else row_outputs[-1])
        hs.append(h)
        cs.append(c)
    output, h, c = torch.stack(outputs), torch.stack(hs), torch.stack(cs)
    dh, dc = case.dstate or np.zeros((2, B, H))
    loss = (output * torch.tensor(case.dy)).sum() + (h * torch.tensor(dh)).sum() + (c * torch.tensor(dc)).sum()
    results = {"output": output, "h": h, "c": c}
    if loss.requires_grad:
        loss.backward()
    for name, value in zip(GRADIENTS, (x, W, R, b, h0, c0), strict=True):
        results["d_" + name] = torch.zeros_like(value) if value.grad is None else value.grad
    if case.weights.bias is None:
        del results["d_bias"]
    return {name: value.detach().numpy() for name, value in results.items()}


@pytest.mark.parametrize("chunk", range(6))
def test_against_a_plain_loop_in_torch(chunk):
    """Both sum a few dozen products in another order; errors grow along the loop: 1e-12 is 5000 float64 epsilons."""
    for seed in range(30 * chunk, 30 * chunk + 30):
        case = make_case(seed, largest=(4, 6, 6, 6))
        expected, results = run_torch(case), run(case, "reference")
        assert expected.keys() == {name for name in results if not name.startswith("trace.")}
        for name, value in expected.items():
            assert_close(results[name], value, 1e-12, f"{name} of {case}")


def test_dtype_is_kept():
    for dtype in (np.float16, np.float32, np.float64, np.longdouble):
        case = make_case(3, largest=(4, 6, 6, 6))
        assert {value.dtype for value in run(case, "reference", dtype).values()} == {np.dtype(dtype)}


def test_no_steps(rng):
    """An empty sequence leaves the state as it was, and its gradient is handed through."""
    case = small_case(OPTIONS["initial_state"])
    options, x = case.layer("reference", np.float64).cell.options(), rng.standard_normal((B, 0, I))
    result = reference.run(Call.checked(case.weights, options, x, case.options["initial_state"]), "tape")
    np.testing.assert_array_equal(result.final, case.options["initial_state"])
    assert result.h.shape == (B, 0, H)
    gradients = result.pullback(None, *case.dstate)
    np.testing.assert_array_equal((gradients.h0, gradients.c0), case.dstate)
    assert not gradients.kernel.any()
