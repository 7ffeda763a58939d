"""The reference engine: outputs, states and every gradient against a plain loop in PyTorch."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cases import GRADIENTS, make_case, run
from compare import assert_close
from glasscell._ops import reference
from glasscell._ops.call import Call


def tanh_shrink(x):
    """x - tanh(x) by the series of x cosh(x) - sinh(x) where the difference would lose its digits."""
    near = torch.where(x.abs() < 1, x, 0)
    series = sum(2 * k / math.factorial(2 * k + 1) * near ** (2 * k + 1) for k in range(1, 11))
    return torch.where(x.abs() < 1, series / torch.cosh(near), F.tanhshrink(x))


TORCH = {
    **{name: getattr(F, name) for name in ("tanh", "sigmoid", "relu", "elu", "selu", "softsign", "silu", "gelu")},
    "linear": lambda x: x,
    "exponential": torch.exp,
    "hard_sigmoid": lambda x: torch.clamp(x / 6 + 0.5, 0, 1),  # F.hardsigmoid's gradient has float32's 1/6
    "leaky_relu": lambda x: torch.where(x < 0, 0.2 * x, x),  # 1 at zero, as in Keras; PyTorch's own says 0.2
    "softplus": lambda x: F.softplus(x, threshold=50),
    "celu": F.celu,
    "relu6": F.relu6,
    "hard_silu": lambda x: x * torch.clamp(x / 6 + 0.5, 0, 1),
    "hard_tanh": F.hardtanh,
    "hard_shrink": F.hardshrink,
    "soft_shrink": F.softshrink,
    "log_sigmoid": F.logsigmoid,
    "mish": F.mish,
    "sparse_plus": lambda x: torch.where(x < 1, torch.clamp(x + 1, 0, 2) ** 2 / 4, x),
    "sparse_sigmoid": lambda x: torch.clamp(x + 1, 0, 2) / 2,
    "squareplus": lambda x: (x + torch.sqrt(x * x + 4)) / 2,
    "tanh_shrink": tanh_shrink,
}


def run_torch(case):
    """Runs a case row by row and step by step, differentiated by PyTorch."""
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


@pytest.mark.parametrize("chunk", range(9))
def test_against_a_plain_loop_in_torch(chunk):
    """Both sum a few dozen products in another order; errors grow along the loop: 1e-12 is 5000 float64 epsilons.
    Every activation is among these configurations, in either role."""
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


def test_no_steps():
    """An empty sequence leaves the state as it was, and its gradient is handed through."""
    case = make_case(0)
    (B, _, I), H = case.x.shape, len(case.weights.recurrent_kernel)
    state, dstate = np.random.default_rng(0).standard_normal((2, 2, B, H)).astype(np.float32)
    options = case.layer("reference", np.float32).cell.options()
    result = reference.run(Call.checked(case.weights, options, np.ones((B, 0, I), np.float32), tuple(state)), "tape")
    np.testing.assert_array_equal(result.final, state)
    assert result.h.shape == (B, 0, H)
    gradients = result.pullback(None, *dstate)
    np.testing.assert_array_equal((gradients.h0, gradients.c0), dstate)
    assert not gradients.kernel.any()
