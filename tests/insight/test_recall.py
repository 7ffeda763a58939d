"""A task whose answer is known: name the symbol after a marker, many steps later. The functions point at its step."""

import numpy as np
import pytest

import glasscell as gc
from glasscell.insight import gate_terms, gradient_flow, half_life, memory_sources, output_sources, saturation

SYMBOLS, T, BACK = 4, 100, 60
MARKER = T - 1 - BACK  # the step of the marker; the symbol to recall comes with the next one
STORED, TOLD = MARKER + 1, SYMBOLS  # TOLD: the unit that tells of a marker one step later
FEATURES = [*"abcd", "marker"]


def cell():
    """Four units of storage, whose input gates the marker's unit opens for one step, and that unit itself."""
    H, I = SYMBOLS + 1, SYMBOLS + 1
    kernel, recurrent_kernel, bias = np.zeros((I, 4, H)), np.zeros((H, 4, H)), np.zeros((4, H))
    i, f, g, o = range(4)
    bias[o] = 10
    bias[i, :SYMBOLS], recurrent_kernel[TOLD, i, :SYMBOLS] = -10, 16
    bias[f, :SYMBOLS] = 10
    kernel[range(SYMBOLS), g, range(SYMBOLS)] = 3
    bias[i, TOLD], bias[f, TOLD], kernel[SYMBOLS, g, TOLD] = 10, -10, 5
    rnn = gc.LSTM(H)
    rnn.cell.set_weights([a.reshape(*a.shape[:-2], 4 * H).astype("float32") for a in (kernel, recurrent_kernel, bias)])
    return rnn


@pytest.fixture(scope="module")
def run():
    rng = np.random.default_rng(0)
    symbols = rng.integers(SYMBOLS, size=(SYMBOLS, T))
    symbols[:, STORED] = range(SYMBOLS)  # row n is asked for symbol n
    x = np.eye(SYMBOLS + 1, dtype="float32")[symbols]
    x[:, MARKER, SYMBOLS] = 1
    rnn = cell()
    kernel = np.vstack([np.eye(SYMBOLS), np.zeros((1, SYMBOLS))])
    return rnn, x, rnn.trace(x).with_names(features=FEATURES, steps=list(range(T))), kernel


def test_the_cell_recalls(run):
    rnn, x, _, kernel = run
    np.testing.assert_array_equal((rnn(x) @ kernel).argmax(1), range(SYMBOLS))


def test_the_memory_and_the_answer_come_from_the_step_after_the_marker(run):
    _, _, trace, kernel = run
    for symbol in range(SYMBOLS):
        written = memory_sources(trace, symbol, T - 1, symbol).steps[:, 0]
        assert written.argmax() == STORED
        assert written[STORED] > 100 * np.abs(np.delete(written, STORED)).sum()
        logits = output_sources(trace, symbol, T - 1, kernel=kernel)
        assert np.unravel_index(np.abs(logits.steps).argmax(), logits.steps.shape) == (STORED, symbol)


def test_the_gate_was_opened_by_the_marker(run):
    _, _, trace, _ = run
    (terms,) = gate_terms(trace, 1, STORED, 1, gate="i").largest(2)
    assert [name for name, _ in terms] == [f"h[{TOLD}]", "bias"]
    ((what, _),) = gate_terms(trace, 1, STORED, 1, gate="g").largest(1)[0]
    assert what == "x[b]"
    assert gate_terms(trace, 0, MARKER, TOLD, gate="g").largest(1)[0][0][0] == "x[marker]"


def test_storage_keeps_and_the_markers_unit_forgets(run):
    _, _, trace, _ = run
    life, found = half_life(trace), saturation(trace)
    assert (life[:SYMBOLS] > BACK).all()
    assert life[TOLD] < 1
    np.testing.assert_array_equal(found.never_forgets, [True] * SYMBOLS + [False])
    assert not found.never_writes.any()
    assert saturation(trace, times=slice(0, MARKER)).never_writes.tolist() == [True] * SYMBOLS + [False]
    np.testing.assert_allclose(found.closed[0, :SYMBOLS], 1 - 1 / T)


def test_the_gradient_reaches_back_to_the_step_after_the_marker(run):
    """Along the carousel, and no further than where the memory was made."""
    rnn, x, _, _ = run
    dy = np.zeros((SYMBOLS, SYMBOLS + 1))
    dy[1, 1] = 1
    flow = gradient_flow(rnn, x, dy)
    np.testing.assert_allclose(flow.c[1, STORED:, 1], flow.c[1, -1, 1] * flow.carousel[1, STORED:, 1], rtol=1e-3)
    assert flow.c[1, STORED, 1] > 0.9 * flow.c[1, -1, 1]
    assert np.abs(flow.h[1, :, TOLD]).argmax() == MARKER  # what the marker said opened the gate
