"""`_ops/operands.py`, which the frameworks' operators call: the bits of the NumPy layer."""

import inspect

import numpy as np
import pytest

import glasscell as gc
from compare import assert_same_bits, assert_same_results
from glasscell import _native
from glasscell._ops import operands
from glasscell._ops.call import step_flags_of
from glasscell._ops.operands import INPUTS, RESIDUALS, WEIGHTS, Operands, flatten, inputs_of, option_codes, residuals_of


def problem(B, T, features, units, dtype="float32", seed=0):
    """Draws a layer and its `Operands` for each of `units`, the first alone forwards, and x and the mask of all."""
    rng = np.random.default_rng(seed)
    layers, own = [], []
    for k, H in enumerate(units):
        activation = "silu" if k else "tanh"  # silu keeps its raw gates
        layer = gc.LSTM(H, activation, go_backwards=bool(k), return_sequences=True, use_bias=k == 0, dtype=dtype)
        layers.append(layer.build(features, seed=k))
        states = [rng.standard_normal((B, H)).astype(dtype) for _ in "hc"]
        mask = rng.random((4, B, H)).astype(dtype) if k == 0 else None
        own.append(Operands(layer.cell.options(bool(k)), *layer.cell.weights, *states, None, mask))
    mask = rng.random((B, T)) < 0.8
    return layers, own, rng.standard_normal((B, T, features)).astype(dtype), mask


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("units", [[5], [5, 9], [64, 64], [8, 8, 8]])
@pytest.mark.parametrize(("B", "T"), [(1, 60), (3, 7), (40, 12)])
@pytest.mark.parametrize("transposed_weights", [False, True])
def test_bits_are_those_of_each_layer_alone(B, T, units, dtype, transposed_weights):
    layers, own, x, mask = problem(B, T, 6, units, dtype)
    turned = (lambda a: np.ascontiguousarray(a.T)) if transposed_weights else (lambda a: a)
    kernels = [{"kernel": turned(d.kernel), "recurrent_kernel": turned(d.recurrent_kernel)} for d in own]
    own = [d._replace(**k, transposed_weights=transposed_weights) for d, k in zip(own, kernels, strict=True)]
    tensors, codes = flatten(own, np.empty(0, dtype))
    steps = step_flags_of(B, T, mask)
    kept = operands.forward(x, steps, tensors, codes, True, True)
    assert_same_bits(operands.forward(x, steps, tensors, codes, True, False)[2], kept[2])
    dys = [np.random.default_rng(k).standard_normal((B, T, H)).astype(dtype) for k, H in enumerate(units)]
    cotangents = [a for dy in dys for a in (np.empty(0, dtype), np.empty(0, dtype), dy)]
    dx, *gradients = operands.backward(x, steps, tensors, codes, kept, cotangents)
    total = None
    for k, (layer, direction, dy) in enumerate(zip(layers, own, dys, strict=True)):
        given = {"mask": mask, "recurrent_dropout_mask": direction.recurrent_dropout_mask}
        y, pullback = layer.vjp(x, (direction.h0, direction.c0), **given)
        right = pullback(dy)
        assert_same_bits(kept[len(RESIDUALS) * k + 2], y)
        for n, name in enumerate(WEIGHTS):
            expected = np.empty(0, dtype) if getattr(right, name) is None else getattr(right, name)
            expected = turned(expected) if "kernel" in name else expected
            assert_same_bits(gradients[len(WEIGHTS) * k + n], expected)
        total = right.x if total is None else total + right.x
    assert_same_bits(dx, total)
    absent, *again = operands.backward(x, steps, tensors, codes, kept, cotangents, dx=False)
    assert absent.shape == (0,)
    assert_same_results(again, gradients)


def test_large_arrays_start_at_a_cache_line():
    _, own, x, _ = problem(16, 40, 6, [64])
    tensors, codes = flatten(own, np.empty(0, np.float32))
    for array in operands.forward(x, np.empty(0, np.uint8), tensors, codes, True, True)[2:5]:
        assert array.ctypes.data % 64 == 0
        assert array.flags.c_contiguous


def test_the_lists_have_the_names_and_the_order_of_the_native_module():
    assert tuple(inspect.signature(inputs_of).parameters) == INPUTS == Operands._fields[1 : 1 + len(INPUTS)]
    assert tuple(inspect.signature(residuals_of).parameters) == RESIDUALS
    options = gc.LSTMCell(3, "silu", "relu").options(go_backwards=True)
    codes = dict(zip(_native.OPTION_CODES, option_codes(options, transposed_weights=True), strict=True))
    names = _native.ACTIVATIONS
    positions = operands.ACTIVATION, operands.RECURRENT_ACTIVATION, operands.TRANSPOSED_WEIGHTS
    named = "activation", "recurrent_activation", "transposed_weights"
    assert [_native.OPTION_CODES[k] for k in positions] == list(named)
    assert (names[codes.pop("activation")], names[codes.pop("recurrent_activation")]) == ("silu", "relu")
    assert codes == {"go_backwards": 1, "transposed_weights": 1}
    with pytest.raises(ValueError, match=r"activation: .* 'sin'"):
        flatten([Operands(gc.LSTMCell(3, np.sin).options(), *[None] * 5)], None)
