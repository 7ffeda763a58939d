"""Cells and layers that begin with a state of their own, cells with other equations, and masks at odd places.

On the backend of this process; tests/keras/test_keras_backends.py runs this file on the others.
"""

import types

import numpy as np
import pytest
from beside import BACKEND, draw
from keras import ops
from test_keras_between import CALLS, MASK, B, H, bidirectional, check, forward_of

WRAPPED = [pytest.param(wrap, id=wrap) for wrap in ("alone", "Bidirectional", "stacked cells")]


def keras_can(unroll, go_backwards):
    """Whether Keras itself runs such a layer with a mask."""
    return not (BACKEND == "torch" and unroll and go_backwards)


def ones(self, batch_size=None):
    return [ops.ones((batch_size, self.units)) * 0.6, ops.ones((batch_size, self.units))]


def of_a_cells_own(library, wrap, **options):
    """A layer whose cells begin with ones."""
    cell = type("Begins", (library.LSTMCell,), {"get_initial_state": ones})
    if wrap == "stacked cells":
        return library.RNN([cell(H), cell(H + 1)], **options)
    layer = library.RNN(cell(H), **options)
    return bidirectional(library, layer) if wrap == "Bidirectional" else layer


@pytest.mark.parametrize("wrap", WRAPPED)
@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_a_cells_own_initial_state_is_not_zero(wrap, unroll, return_sequences):
    if wrap == "Bidirectional" and not keras_can(unroll, go_backwards=True):
        pytest.skip("Keras itself cannot")
    backwards = [False] if wrap == "Bidirectional" or not keras_can(unroll, go_backwards=True) else [False, True]
    zeroed = [False] if wrap == "Bidirectional" else [False, True]
    for go_backwards in backwards:
        for zero in zeroed:

            def make(library, go_backwards=go_backwards, zero=zero):
                options = {"zero_output_for_mask": True} if zero else {}
                options |= {"go_backwards": True} if go_backwards else {}
                return of_a_cells_own(
                    library, wrap, return_sequences=return_sequences, unroll=unroll, return_state=True, **options
                )

            check(make, {"mask": MASK}, {})


def test_an_initial_state_set_on_the_cell_or_the_layer_counts():
    for where in (lambda layer: layer.cell, lambda layer: layer):

        def make(library):
            return library.LSTM(H, return_sequences=True)

        def after(layer, where=where):
            part = where(layer)
            part.get_initial_state = lambda batch_size=None: [ops.ones((batch_size, H)), ops.ones((batch_size, H))]

        check(make, {"mask": MASK}, after=after)


def test_zero_output_for_mask_unrolled():
    """Keras ignores it there on JAX."""
    for go_backwards in (False, True) if keras_can(True, go_backwards=True) else (False,):
        check(
            lambda library, back=go_backwards: library.LSTM(
                H, unroll=True, zero_output_for_mask=True, return_sequences=True, go_backwards=back
            ),
            {"mask": MASK},
            {"mask": MASK, "initial_state": [draw(B, H), draw(B, H, seed=1)]},
        )


def test_later_cells_of_a_backward_stack_see_the_mask_the_other_way_round():
    for unroll in (False, True) if keras_can(True, go_backwards=True) else (False,):
        expected, layer = check(
            lambda library, unroll=unroll: library.RNN(
                [library.LSTMCell(H), library.LSTMCell(H + 1), library.LSTMCell(2)],
                return_sequences=True,
                go_backwards=True,
                unroll=unroll,
            ),
            {"mask": MASK},
        )
        assert layer.engine_used == ("framework" if unroll else "native")
        assert np.abs(expected[0][0]).max() > 1e-3


def twice(self, inputs, states, training=False):
    """Puts out twice the h of the cell: other equations."""
    base = next(kind for kind in type(self).__mro__ if kind.__name__ == "LSTMCell")
    h, states = base.call(self, inputs, states, training=training)
    return h * 2, states


@pytest.mark.parametrize("wrap", WRAPPED)
def test_a_cell_with_other_equations_runs_in_the_framework(wrap):
    def make(library):
        cell = type("Other", (library.LSTMCell,), {"call": twice})
        if wrap == "stacked cells":
            return library.RNN([library.LSTMCell(H), cell(H)])
        layer = library.RNN(cell(H))
        return bidirectional(library, layer) if wrap == "Bidirectional" else layer

    _, layer = check(make, *CALLS)
    assert layer.engine_used == "framework"


@pytest.mark.parametrize("wrap", WRAPPED)
def test_a_method_set_on_a_cell_acts(wrap):
    def make(library):
        if wrap == "stacked cells":
            return library.RNN([library.LSTMCell(H), library.LSTMCell(H)])
        layer = library.LSTM(H)
        return bidirectional(library, layer) if wrap == "Bidirectional" else layer

    def after(layer):
        cell = forward_of(layer).cell
        cell = cell.cells[1] if wrap == "stacked cells" else cell
        cell.call = types.MethodType(twice, cell)

    _, layer = check(make, after=after)
    assert forward_of(layer).engine_used == "framework"
