"""How long units remember, of cells whose gates are known; and the shares of saturated gates."""

import numpy as np
import pytest

import glasscell as gc
from drawn import draw
from glasscell.insight import half_life, saturation

MASK = np.array([[True, False, True, True], [False, True, False, True]])


def with_gates(i, f, o, **arguments):
    """An LSTM whose gates are these numbers at every step, one for each unit; None stands for 1/2 everywhere."""
    f = np.asarray(f, np.float64)
    gates = [np.full_like(f, 0.5) if gate is None else np.asarray(gate, np.float64) for gate in (i, f, None, o)]
    with np.errstate(divide="ignore"):
        bias = np.concatenate([np.log(gate / (1 - gate)) for gate in gates])
    lstm, H = gc.LSTM(f.size, **arguments), f.size
    lstm.cell.set_weights([np.zeros((3, 4 * H)), np.zeros((H, 4 * H)), np.clip(bias, -99, 99)])
    return lstm


@pytest.mark.parametrize("options", [{}, {"mask": MASK}])
def test_half_lives_of_known_forget_gates(options):
    lives = np.array([0.5, 1, 7, 1000])
    trace = with_gates(None, 0.5 ** (1 / lives), None).trace(draw(2, 4, 3, dtype=np.float64), **options)
    np.testing.assert_allclose(half_life(trace), lives)
    np.testing.assert_allclose(half_life(trace, rows=1, times=slice(1, 4), units=[3, 0]), lives[[3, 0]])
    ends = with_gates(None, [1, 0], None).trace(draw(2, 4, 3, dtype=np.float64))
    assert half_life(ends)[0] == np.inf
    assert half_life(ends)[1] < 0.01
    assert half_life(with_gates(None, [0, 1], None, recurrent_activation="hard_sigmoid").trace(
        draw(2, 4, 3, dtype=np.float64))).tolist() == [0, np.inf]  # fmt: skip


def test_gates_that_change_have_the_half_life_of_their_product():
    trace = gc.LSTM(5).build(3, 0).trace(draw(1, 9, 3), mask=np.arange(9)[None] % 3 > 0)
    left = trace.f[0][trace.mask[0]].prod(0)
    np.testing.assert_allclose(0.5 ** (trace.mask.sum() / half_life(trace)), left, rtol=1e-5)


def test_saturation_of_known_gates():
    trace = with_gates([0.05, 0.5, 0.95], [0.95, 0.05, 0.5], [0.5, 0.5, 0.05]).trace(draw(2, 4, 3, dtype=np.float64))
    for found in (saturation(trace), saturation(trace, rows=[0])):
        assert found.open.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
        assert found.closed.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        assert found.never_writes.tolist() == [True, False, False]
        assert found.never_forgets.tolist() == [True, False, False]
        assert found.never_shows.tolist() == [False, False, True]
    assert saturation(trace, open=0.96, closed=0.04).open.sum() == 0
    shares = saturation(gc.LSTM(5, recurrent_activation="hard_sigmoid").build(3, 0).trace(9 * draw(2, 4, 3)))
    assert 0 < shares.open.mean() < 1


def test_of_no_steps_nothing_is_known():
    trace = gc.LSTM(2).build(3, 0).trace(draw(1, 4, 3), lengths=[0])
    found = saturation(trace)
    assert np.isnan(half_life(trace)).all()
    assert np.isnan(found.open).all()
    assert not (found.never_writes | found.never_forgets | found.never_shows).any()


def test_gates_of_another_range_are_refused():
    x = draw(1, 4, 3)
    with pytest.raises(ValueError, match=r"^trace: expected gates of a sigmoid, .* recurrent_activation 'tanh'$"):
        half_life(gc.LSTM(2, recurrent_activation="tanh").build(3, 0).trace(x))
    for function in (half_life, saturation):
        with pytest.raises(ValueError, match="expected gates of a sigmoid, from 0, closed, to 1, open, got 2"):
            function(gc.LSTM(2, recurrent_activation=lambda z: 0 * z + 2).build(3, 0).trace(x))
    mine = gc.LSTM(2, recurrent_activation=lambda z: 0 * z + 0.5).build(3, 0).trace(x)
    np.testing.assert_allclose(half_life(mine), 1)
