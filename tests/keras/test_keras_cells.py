"""Cells and layers that begin with a state of their own, cells with other equations, and masks at odd places.

On the backend of this process; tests/keras/test_keras_backends.py runs this file on the others.
"""

import types
from itertools import product

import numpy as np
import pytest
from beside import BACKEND, double, draw, ones
from keras import ops
from test_keras_between import CALLS, MASK, B, H, bidirectional, check, forward_of

WRAPPED = [pytest.param(wrap, id=wrap) for wrap in ("alone", "Bidirectional", "stacked cells")]


def keras_can(unroll, go_backwards):
    """Whether Keras itself runs such a layer with a mask."""
    return not (BACKEND == "torch" and unroll and go_backwards)


def wrapped(library, wrap, first, last, **options):
    """Makes a layer over cells of these classes: over both, or over the last alone."""
    if wrap == "stacked cells":
        return library.RNN([first(H), last(H + 1)], **options)
    layer = library.RNN(last(H), **options)
    return bidirectional(library, layer) if wrap == "Bidirectional" else layer


@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_a_cells_own_initial_state_is_not_zero(wrap, unroll, return_sequences):
    """Its cells begin with ones."""
    backwards, alone = keras_can(unroll, go_backwards=True), wrap != "Bidirectional"
    if not alone and not backwards:
        pytest.skip("Keras itself cannot")
    for go_backwards, zeroed in product([False] + [True] * (alone and backwards), [False] + [True] * alone):
        options = {"return_sequences": return_sequences, "unroll": unroll, "return_state": True}
        options |= {"go_backwards": go_backwards, "zero_output_for_mask": zeroed}

        def make(library, options=options):
            cell = type("Begins", (library.LSTMCell,), ones(library.LSTMCell))
            return wrapped(library, wrap, cell, cell, **options)

        check(make, {"mask": MASK}, {})


def test_an_initial_state_set_on_the_cell_or_the_layer_counts():
    for where in (lambda layer: layer.cell, lambda layer: layer):

        def make(library):
            return library.LSTM(H, return_sequences=True)

        def after(layer, where=where):
            part = where(layer)
            part.get_initial_state = lambda batch_size=None: [ops.ones((batch_size, H)), ops.ones((batch_size, H))]

        check(make, {"mask": MASK}, after=after)


@pytest.mark.parametrize("go_backwards", [False, True])
def test_zero_output_for_mask_unrolled(go_backwards):
    """Keras ignores it there on JAX."""
    if not keras_can(True, go_backwards):
        pytest.skip("Keras itself cannot")
    options = {"unroll": True, "zero_output_for_mask": True, "return_sequences": True, "go_backwards": go_backwards}
    state = [draw(B, H), draw(B, H, seed=1)]
    check(lambda library: library.LSTM(H, **options), {"mask": MASK}, {"mask": MASK, "initial_state": state})


@pytest.mark.parametrize("unroll", [False, True])
def test_later_cells_of_a_backward_stack_see_the_mask_the_other_way_round(unroll):
    if not keras_can(unroll, go_backwards=True):
        pytest.skip("Keras itself cannot")
    options = {"return_sequences": True, "go_backwards": True, "unroll": unroll}
    expected, layer = check(
        lambda library: library.RNN([library.LSTMCell(n) for n in (H, H + 1, 2)], **options), {"mask": MASK}
    )
    assert layer.engine_used == ("framework" if unroll else "native")
    assert np.abs(expected[0][0]).max() > 1e-3


@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("where", ["subclass", "object"])
def test_a_cell_with_other_equations_runs_in_the_framework(wrap, where):
    def make(library):
        last = type("Other", (library.LSTMCell,), double(library.LSTMCell)) if where == "subclass" else library.LSTMCell
        return wrapped(library, wrap, library.LSTMCell, last)

    def after(layer):
        cell = forward_of(layer).cell
        cell = cell.cells[1] if wrap == "stacked cells" else cell
        if where == "object":
            cell.call = types.MethodType(double(type(cell))["call"], cell)

    _, layer = check(make, *CALLS, after=after)
    assert forward_of(layer).engine_used == "framework"
    assert where == "object" or layer.engine_used == "framework"
