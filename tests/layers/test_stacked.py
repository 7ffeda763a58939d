"""`StackedRNNCells` and `Bidirectional` on NumPy: as Keras's with the same weights, in values, states and gradients."""

import contextlib
import copy
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch

import glasscell as gc
from compare import assert_close, assert_same_bits, assert_same_results

B, T, I, UNITS = 3, 6, 4, (5, 3)
# Against Keras in float32: 8 epsilons of the array's scale, and twice that through two layers and their gradients.
FLOAT32 = 2e-6
MASK = np.array([[1, 0, 1, 1, 0, 1], [0, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]], bool)


def draw(*shape, seed=0, scale=0.5):
    return (scale * np.random.default_rng([seed, *shape]).standard_normal(shape)).astype(np.float32)


def stack(**flags):
    """A stack in Keras and ours, with the same weights, and an initial state."""
    theirs = keras.layers.RNN(keras.layers.StackedRNNCells([keras.layers.LSTMCell(u) for u in UNITS]), **flags)
    theirs.build((B, T, I))
    mine = gc.RNN(gc.StackedRNNCells([gc.LSTMCell(u) for u in UNITS]), **flags)
    return share(theirs, mine), mine, [(draw(B, u), draw(B, u, seed=1)) for u in UNITS]


def both(layer=None, **flags):
    """A Bidirectional in Keras and ours, with the same weights, and an initial state."""
    merge = {name: flags.pop(name) for name in ("merge_mode",) if name in flags}
    theirs = keras.layers.Bidirectional(keras.layers.LSTM(5, **flags), **merge)
    theirs.build((B, T, I))
    mine = gc.Bidirectional(gc.LSTM(5, **flags), **merge)
    return share(theirs, mine), mine, [draw(B, 5, seed=k) for k in range(4)]


def share(theirs, mine):
    weights = [draw(*w.shape, seed=k) for k, w in enumerate(theirs.get_weights())]
    theirs.set_weights(weights)
    mine.set_weights(weights)
    for one, other in zip(mine.get_weights(), weights, strict=True):
        assert_same_bits(one, other)
    return theirs


def flat(output):
    if isinstance(output, (list, tuple)):
        return [array for part in output for array in flat(part)]
    return [np.asarray(output)]


def gradients(theirs, x, state, mask):
    """Keras's, of the sum of squares of all outputs: of x, each weight and each state."""

    def loss(x, weights, state):
        result, _ = theirs.stateless_call(weights, theirs.non_trainable_variables, x, initial_state=state, mask=mask)
        return sum(jnp.sum(array**2) for array in jax.tree.leaves(result))

    weights = [jnp.asarray(v.value) for v in theirs.trainable_variables]
    state = jax.tree.map(jnp.asarray, [list(s) if isinstance(s, tuple) else s for s in state])
    return jax.grad(loss, (0, 1, 2))(jnp.asarray(x), weights, state)


FLAGS = ("return_sequences", "go_backwards", "zero_output_for_mask")


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize(
    ("make", "chosen"),
    [(make, chosen) for make in (stack, both) for chosen in itertools.product([False, True], repeat=3)
     if make is stack or not chosen[1]],
)  # fmt: skip
def test_values_states_and_gradients_as_keras(make, chosen, mask, engine_name):
    flags = dict(zip(FLAGS, chosen, strict=True))
    if make is both:
        del flags["go_backwards"]  # a Bidirectional takes a layer that goes forwards
    theirs, mine, state = make(return_state=True, **flags)
    for layer in [mine] if make is stack else [mine.forward_layer, mine.backward_layer]:
        layer.engine = engine_name
    x = draw(B, T, I)
    expected = theirs(x, initial_state=[list(s) if make is stack else s for s in state], mask=mask)
    results = flat(mine(x, state, mask=mask))
    for value, wanted in zip(results, flat(expected), strict=True):
        assert_close(value, wanted, FLOAT32)
    assert mine.engine_used == engine_name
    y, pullback = mine.vjp(x, state, mask=mask)
    assert_same_bits(y, results[0])
    dstate = [2 * s for s in results[1:]]
    found = pullback(2 * y, [tuple(dstate[k : k + 2]) for k in (0, 2)] if make is stack else dstate)
    dx, d_weights, d_states = gradients(theirs, x, state, mask)
    parts = found if make is stack else found[1:]
    mine_weights = [g for part in parts for g in (part.kernel, part.recurrent_kernel, part.bias)]
    names = [(v.path, g) for v, g in zip(theirs.trainable_variables, d_weights, strict=True)]
    for value, (path, wanted) in zip([found[0].x if make is stack else found.x, *mine_weights], [("x", dx), *names],
                                     strict=True):  # fmt: skip
        assert_close(value, wanted, 4 * FLOAT32, path)
    for value, wanted in zip([s for part in parts for s in (part.h0, part.c0)], flat(d_states), strict=True):
        assert_close(value, wanted, 4 * FLOAT32)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("mode", ["sum", "mul", "ave", "concat", None])
def test_merge_modes_as_keras(mode, sequences):
    theirs, mine, _ = both(merge_mode=mode, return_sequences=sequences)
    x = draw(B, T, I)
    for value, wanted in zip(flat(mine(x, mask=MASK)), flat(theirs(x, mask=MASK)), strict=True):
        assert_close(value, wanted, FLOAT32)
    y, pullback = mine.vjp(x)
    found = pullback(tuple(2 * part for part in y) if mode is None else 2 * y)
    dx, d_weights, _ = gradients(theirs, x, [np.zeros((B, 5), np.float32)] * 4, None)
    assert_close(found.x, dx, 4 * FLOAT32)
    assert_close(found.backward.kernel, d_weights[3], 4 * FLOAT32)


def test_a_stack_is_its_cells_one_after_another():
    """In steps, over time, traced and differentiated with checkpoints: the same bits."""
    _, mine, state = stack(return_sequences=True, return_state=True)
    x, cells = draw(B, T, I), mine.cell.cells
    y, *final = mine(x, state, mask=MASK, reset=MASK[::-1])
    below, *first = gc.RNN(cells[0], return_sequences=True, return_state=True)(x, state[0], MASK, reset=MASK[::-1])
    above, *last = gc.RNN(cells[1], return_sequences=True, return_state=True)(below, state[1], MASK, reset=MASK[::-1])
    for one, other in zip(flat([y, final]), flat([above, first, last]), strict=True):
        assert_same_bits(one, other)
    traces = mine.trace(x, state, mask=MASK, reset=MASK[::-1])
    assert_same_bits(traces[0].h, below)
    assert_same_bits(traces[1].h, y)
    h, states = x[:, 0], None
    for t in range(T):
        h, states = mine.cell(x[:, t], states)
    assert_same_bits(h, mine(x)[0][:, -1])
    assert_same_bits(states[1].c, mine(x)[2].c)
    pulls = [mine.vjp(x, state, recompute=less)[1](y) for less in (False, True)]
    for one, other in zip(*pulls, strict=True):
        assert_same_bits(one.kernel, other.kernel)


@pytest.mark.parametrize("rows", [1, B])
def test_a_stack_streamed(engine_name, rows):
    """In steps, chunks and both, set to a state, reset, copied and pickled: the bits of one call."""
    _, layer, state = stack(return_sequences=True, return_state=True)
    layer.engine = engine_name
    x, state = draw(rows, T, I), [tuple(s[:rows] for s in one) for one in state]
    y, *final = layer(x, state)
    stream = gc.Stream(layer, rows)
    assert stream.engine_used == engine_name
    stream.state = state
    steps = [stream.step(x[:, 0]).copy(), stream.step(x[:, 1]).copy()]
    others = stream.copy(), copy.deepcopy(stream), pickle.loads(pickle.dumps(stream))
    for one in (*others, stream):
        assert_same_bits(np.stack([*steps, one.step(x[:, 2])], 1), y[:, :3])
        assert_same_bits(one.push(x[:, 3:]), y[:, 3:])
        assert_same_results(one.state, final)
    stream.reset([0])
    assert not any(s[0].any() for one in stream.state for s in one)
    assert_same_results(others[0].state, final)
    stream.state = None
    assert_same_bits(stream.push(x), layer(x)[0])
    if rows == 1:
        stream.reset()
        assert_same_bits(stream.step(x[0, 0]), layer(x)[0][0, 0])
    before = stream.state
    for wrong in (draw(rows, I + 1), draw(rows, I).astype(float), None):
        with pytest.raises((TypeError, ValueError), match=r"^x: expected"):
            stream.step(wrong)
    assert_same_results(stream.state, before)


def test_two_threads_never_mix_in_a_stack():
    """A step through all cells is refused, or whole: after n of them the state is that of n steps."""
    layer = gc.RNN(gc.StackedRNNCells([gc.LSTMCell(300), gc.LSTMCell(300)]), return_state=True).build(I, 0)
    stream, x = gc.Stream(layer), draw(1, I)

    def work(_):
        done = 0
        for _ in range(100):
            with contextlib.suppress(RuntimeError):
                stream.step(x)
                done += 1
        return done

    with ThreadPoolExecutor(3) as pool:
        done = sum(pool.map(work, range(3)))
    assert_same_results(stream.state, layer(np.repeat(x[:, None], done, 1))[1:])


def test_traces_of_both_directions():
    _, mine, _ = both(return_sequences=True)
    x = draw(B, T, I)
    forward, backward = mine.trace(x)
    assert_same_bits(np.concatenate([forward.h, backward.h[:, ::-1]], -1), mine(x))


def test_stateful_as_keras():
    theirs, mine, _ = both(return_sequences=True, stateful=True)
    x = draw(B, T, I)
    for _ in range(2):
        assert_close(mine(x), theirs(x), FLOAT32)
    mine.reset_state()
    theirs.reset_state()
    assert_close(mine(x), theirs(x), FLOAT32)


def test_a_stateful_stack_goes_on_where_it_stood():
    """Keras's own fails there."""
    _, mine, _ = stack(return_sequences=True, stateful=True)
    x = draw(B, T, I)
    parts = [mine(x[:, :2]), mine(x[:, 2:])]
    kept = mine.state
    mine.reset_state()
    assert_same_bits(np.concatenate(parts, 1), mine(x))
    mine.reset_state()
    mine.state = kept
    assert_same_bits(mine.state[1].c, kept[1].c)
    with pytest.raises(ValueError, match="x: expected the batch size of the stateful state, 3, got 2"):
        mine(x[:2])


@pytest.mark.parametrize("make", [stack, both])
def test_configurations_go_to_keras_and_back(make):
    theirs, mine, _ = make(return_sequences=True, zero_output_for_mask=True)
    x = draw(B, T, I)
    for config in (mine.get_config(), theirs.get_config()):
        for kind in (type(theirs), type(mine)):
            layer = kind.from_config(copy.deepcopy(config))  # Keras takes the cell out of it
            layer.build((B, T, I) if kind is type(theirs) else I)
            layer.set_weights(mine.get_weights())
            assert_close(np.asarray(layer(x, mask=MASK)), mine(x, mask=MASK), FLOAT32)


@pytest.mark.parametrize("make", [lambda: stack()[1], lambda: both()[1], lambda: gc.LSTM.from_torch(
    torch.nn.LSTM(I, 5, 2, bidirectional=True))])  # fmt: skip
def test_refused_weights_change_nothing(make):
    """Neither the last cell's, of another shape, nor those of the cells before it."""
    layer = make()
    before = layer.get_weights()
    for wrong in ([*(2 * w for w in before[:-1]), before[-1][1:]], [2 * w for w in before[:-1]], before[:-2]):
        with pytest.raises(ValueError, match=r"^(bias|weights|kernel|recurrent_kernel): expected"):
            layer.set_weights(wrong)
        assert_same_results(layer.get_weights(), before)


def test_lstm_configurations_go_to_keras_and_back():
    mine = gc.LSTM(5, "relu", dropout=0.25, return_sequences=True, go_backwards=True, seed=7, name="mine").build(I)
    theirs = keras.layers.LSTM.from_config(mine.get_config())
    theirs.build((B, T, I))
    theirs.set_weights(mine.get_weights())
    again = gc.LSTM.from_config(theirs.get_config())
    again.set_weights(theirs.get_weights())
    x = draw(B, T, I)
    assert_same_bits(again(x), mine(x))
    assert_close(mine(x), theirs(x), FLOAT32)
    assert (again.name, again.cell.dropout, again.go_backwards, again.cell.seed) == ("mine", 0.25, True, 7)


def test_builds_are_reproducible_and_different():
    for make in (
        lambda: gc.RNN(gc.StackedRNNCells([gc.LSTMCell(4), gc.LSTMCell(4)])),
        lambda: gc.Bidirectional(gc.LSTM(4)),
    ):
        one, other, third = (make().build(4, seed) for seed in (1, 1, 2))
        for a, b, c in zip(one.get_weights(), other.get_weights(), third.get_weights(), strict=True):
            assert_same_bits(a, b)
            assert a.ndim == 1 or (a != c).any()
        kernels = [w for w in one.get_weights() if w.shape == (4, 16)]
        assert (kernels[0] != kernels[2]).any()
    assert_same_bits(gc.LSTM(4, seed=3).build(4).get_weights()[0], gc.LSTM(4).build(4, seed=3).get_weights()[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gc.StackedRNNCells(gc.LSTMCell(3)), "cells: expected a list of glasscell.LSTMCell"),
        (lambda: gc.StackedRNNCells([]), "cells: expected at least one"),
        (lambda: gc.RNN(gc.LSTM(3)), "cell: expected a glasscell.LSTMCell or StackedRNNCells, got LSTM"),
        (lambda: gc.Bidirectional(gc.LSTMCell(3)), "layer: expected a glasscell.LSTM or RNN, got LSTMCell"),
        (lambda: gc.Bidirectional(gc.LSTM(3), "max"), "merge_mode: expected one of"),
        (lambda: gc.Bidirectional(gc.LSTM(3), backward_layer=gc.LSTM(3)), "backward_layer: expected go_backwards=True"),
        (lambda: gc.Stream(both()[1]), "rnn: expected a layer that goes forwards, got Bidirectional, which starts at"),
        (lambda: setattr(gc.Stream(stack()[1], B), "state", [(draw(B, 5), draw(B, 5))]), "state: expected a list of 2"),
        (
            lambda: stack()[1](draw(B, T, I), (draw(B, 5), draw(B, 5), draw(B, 5))),
            "initial_state: expected a list of 2",
        ),
        (lambda: both()[1](draw(B, T, I), [draw(B, 5)]), "initial_state: expected the forward layer's states"),
        (lambda: both()[1].set_weights([draw(4, 20)]), "weights: expected as many for each direction, got 1"),
        (lambda: gc.RNN.from_config(keras.layers.GRU(3).get_config()), "cell|units"),
        (
            lambda: gc.RNN.from_config(keras.layers.RNN(keras.layers.GRUCell(3)).get_config()),
            "cell: expected LSTMCell or StackedRNNCells, got 'GRUCell'",
        ),
    ],
)
def test_refusals(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
