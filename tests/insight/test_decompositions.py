"""The sums of `glasscell.insight` over random calls: their parts add up to the trace, to rounding, and none is lost."""

import keras
import numpy as np
import pytest
import torch

import glasscell as gc
import glasscell.keras
import glasscell.torch
from cases import make_case
from drawn import draw
from glasscell.insight import gate_terms, memory_sources, output_sources

SEEDS = range(60)  # two in three of other activations


def drawn_trace(seed, dtype):
    case = make_case(seed, largest=(4, 14, 6, 9))
    return case.layer("auto", dtype).trace(**case.arguments(dtype))


def points(trace, seed):
    """Some rows and steps of a trace: of each row the last step and one more."""
    B, T, _ = trace.h.shape
    more = np.random.default_rng(seed).integers(T, size=B)
    return [(row, int(time)) for row in range(B) for time in {T - 1, more[row]}]


def assert_sums(total, expected, terms, roundings):
    """Within a rounding of each term, carried by as many operations as there were: `roundings` of them."""
    bound = roundings * np.finfo(expected.dtype).eps * (np.abs(terms).sum(0) + np.abs(expected))
    assert (np.abs(total - expected) <= bound).all(), np.abs(total - expected).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_cell_state_is_the_sum_of_what_was_written(dtype):
    for seed in SEEDS:
        trace = drawn_trace(seed, dtype)
        for row, time in points(trace, seed):
            left, written = found = memory_sources(trace, row, time)
            assert written.shape == (time + 1, trace.c.shape[2])
            assert_sums(found.total(), trace.c[row, time], [left, *written], 4 * (time + 2))
            assert_parts_end(trace, row, time, left, written)
            np.testing.assert_array_equal(memory_sources(trace, row, time, [0]).steps[:, 0], written[:, 0])


def assert_parts_end(trace, row, time, left, written):
    """Nothing from before a reset, and nothing of a skipped step."""
    if trace.mask is not None:
        assert not written[~trace.mask[row, : time + 1]].any()
    if trace.reset is not None and trace.reset[row, : time + 1].any():
        assert not left.any()
        assert not written[: np.flatnonzero(trace.reset[row, : time + 1])[-1]].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_output_and_the_logits_are_sums_over_the_past(dtype):
    for seed in SEEDS:
        trace = drawn_trace(seed, dtype)
        kernel, bias = draw(trace.h.shape[2], 3, dtype=np.float64), draw(3, dtype=np.float64)
        for row, time in points(trace, seed):
            if not np.isfinite(trace.h[row, time]).all():
                continue  # an exponential of an exponential
            found = output_sources(trace, row, time)
            left, written = memory_sources(trace, row, time)
            slope = np.abs(trace.activation.derivative(trace.c[row, time].astype(np.float64), np))
            opened = max(1, np.abs(np.nan_to_num(trace.o[row])).max())
            through = opened * slope * (np.abs(left) + np.abs(written).sum(0))  # the rounding of c_t, through a(.)
            terms = [found.initial, *found.steps, found.constant, through]
            assert_sums(found.total(), trace.h[row, time], terms, 8 * (time + 2))
            logits = output_sources(trace, row, time, kernel=kernel, bias=bias)
            np.testing.assert_allclose(logits.total(), found.total() @ kernel + bias, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(logits.steps, found.steps @ kernel, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_raw_gate_is_the_sum_of_its_terms(dtype):
    for seed in SEEDS:
        trace = drawn_trace(seed, dtype)
        for row, time in points(trace, seed):
            if trace.mask is not None and not trace.mask[row, time]:
                continue
            for gate in "ifgo":
                found = gate_terms(trace, row, time, gate=gate)
                terms = [*found.inputs, *found.recurrent, found.bias]
                assert_sums(found.total(), getattr(trace, f"z{gate}")[row, time], terms, len(terms) + 4)
                one = gate_terms(trace, row, time, -1, gate=gate)
                np.testing.assert_array_equal(one.recurrent[:, 0], found.recurrent[:, -1])
                ((largest, value),) = one.largest(1)[0]
                assert abs(value) == max(abs(terms[k][-1]) for k in range(len(terms)))
                assert largest in one.names


def test_nan_before_a_reset_or_in_a_skipped_step_says_nothing():
    x, reset, mask = draw(1, 6, 2), np.zeros((1, 6), bool), np.ones((1, 6), bool)
    x[0, [1, 4]], reset[0, 2], mask[0, 4] = np.nan, True, False
    trace = gc.LSTM(3).build(2, 0).trace(x, mask=mask, reset=reset)
    left, written = memory_sources(trace, 0, 5)
    assert not left.any()
    assert not written[[0, 1, 4]].any()
    np.testing.assert_allclose(written.sum(0), trace.c[0, 5], rtol=1e-5)
    np.testing.assert_allclose(output_sources(trace, 0, 4).total(), trace.h[0, 4], rtol=1e-5)


def keras_traces():
    x, mask = draw(2, 6, 3), np.array([[1, 1, 1, 1, 0, 1], [0, 1, 1, 1, 1, 0]], bool)
    layer = glasscell.keras.LSTM(4, go_backwards=True)
    layer.build(x.shape)
    yield layer.trace(x, mask=mask)
    both = keras.layers.Bidirectional(glasscell.keras.RNN([glasscell.keras.LSTMCell(4), glasscell.keras.LSTMCell(5)]))
    both.build(x.shape)
    yield from glasscell.keras.trace(both, x, mask=mask).named().values()


def torch_traces():
    lstm, x = glasscell.torch.LSTM(3, 4, num_layers=2, bidirectional=True), torch.randn(6, 2, 3)
    hx = torch.randn(4, 2, 4), torch.randn(4, 2, 4)
    yield from lstm.trace(x, hx, lengths=torch.tensor([6, 3]))
    yield from glasscell.torch.LSTM(1, 1).trace(x[:, :, :1], reset=torch.rand(6, 2) < 0.3)


@pytest.mark.parametrize("traces", [keras_traces, torch_traces])
def test_traces_of_keras_and_pytorch_tell_the_same(traces):
    for trace in traces():
        for row in range(2):
            time = int(np.flatnonzero(np.isfinite(trace.f[row, :, 0]))[-1])
            np.testing.assert_allclose(memory_sources(trace, row, time).total(), trace.c[row, time], atol=1e-6)
            np.testing.assert_allclose(output_sources(trace, row, -1).total(), trace.h[row, -1], atol=1e-6)
            for gate in "ifgo":
                expected = getattr(trace, f"z{gate}")[row, time]
                np.testing.assert_allclose(gate_terms(trace, row, time, gate=gate).total(), expected, atol=1e-6)


def test_a_trace_stays_that_of_its_call():
    """Whatever is written into what the call was given, and into PyTorch's parameters."""
    lstm, x, hx = glasscell.torch.LSTM(1, 3, batch_first=True), torch.randn(2, 5, 1), torch.randn(2, 1, 2, 3)
    (trace,) = lstm.trace(x, tuple(hx))
    numpys, given = gc.LSTM(3).build(2, 0), {"x": draw(2, 5, 2), "initial_state": (draw(2, 3), draw(2, 3))}
    masks = {"dropout_mask": draw(2, 2), "recurrent_dropout_mask": draw(4, 2, 3)}
    own = numpys.trace(**given, **masks)
    assert own.kernel is numpys.weights.kernel  # read-only, and kept without a copy
    with torch.no_grad():
        for tensor in (*lstm.parameters(), x, hx):
            tensor.fill_(9)
    for array in (given["x"], *given["initial_state"], *masks.values()):
        array[...] = 9
    for one in (trace, own):
        np.testing.assert_allclose(memory_sources(one, 1, 4).total(), one.c[1, 4], atol=1e-6)
        np.testing.assert_allclose(gate_terms(one, 1, 0, gate="o").total(), one.zo[1, 0], atol=1e-6)
        assert not any(getattr(one, name).flags.writeable for name in ("x", "h0", "c0", "kernel", "bias"))
