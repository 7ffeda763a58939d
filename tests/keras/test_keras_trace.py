"""`layer.trace` in Keras: its h is what the layer puts out, for every kind of layer.

On one backend; test_keras_watched.py has what can differ on the others.
"""

import keras
import numpy as np
import pytest
from keras import ops

import glasscell
import glasscell.keras as ours
from glasscell.keras import trace

B, T, I, H = 3, 7, 4, 5
# A dozen float32 steps, summed in another order by XLA where it runs and rounded at other places by its tanh.
TOLERANCE = {"rtol": 0, "atol": 1e-6}


@pytest.fixture
def x(rng):
    return rng.standard_normal((B, T, I)).astype("float32")


@pytest.fixture
def mask(rng):
    kept = rng.random((B, T)) < 0.6
    kept[0], kept[1, :2] = False, False  # a row that never runs, and one that starts late
    return kept


def state(rng, units=H):
    return [rng.standard_normal((B, units)).astype("float32") for _ in "hc"]


def check_against(layer, x, **call):
    """The layer puts out the trace's h, and ends in its h and c."""
    output, *states = layer(x, **call)
    found = layer.trace(x, **call)
    traces = found if isinstance(found, list) else [found]
    np.testing.assert_allclose(traces[-1].h, output, **TOLERANCE)
    for one, (h, c) in zip(traces, states if isinstance(found, list) else [states], strict=True):
        np.testing.assert_allclose(one.h[:, -1], h, **TOLERANCE)
        np.testing.assert_allclose(one.c[:, -1], c, **TOLERANCE)
    return found


@pytest.mark.parametrize(
    ("go_backwards", "options"),
    [(False, {}), (True, {"use_bias": False, "activation": "relu", "recurrent_activation": "softsign"})],
)
def test_h_and_c_are_the_layers(x, mask, rng, go_backwards, options):
    layer = ours.LSTM(
        H, return_sequences=True, return_state=True, go_backwards=go_backwards,
        bias_initializer="normal", unit_forget_bias=False, **options,
    )  # fmt: skip
    assert check_against(layer, x).mask is None
    check_against(layer, x, initial_state=state(rng))
    found = check_against(layer, x, mask=mask, initial_state=state(rng))
    kept = mask[:, ::-1] if go_backwards else mask
    np.testing.assert_array_equal(found.mask, kept)
    for name in ("i", "f", "g", "o", "zi", "zf", "zg", "zo"):
        np.testing.assert_array_equal(np.isnan(getattr(found, name)).all(axis=2), ~kept)
        assert np.isfinite(getattr(found, name)[kept]).all()
    assert isinstance(found, glasscell.Trace)


def test_gates_are_those_of_the_equations(x, rng):
    layer = ours.LSTM(H, bias_initializer="normal", unit_forget_bias=False)
    layer.build(x.shape)
    h0, c0 = state(rng)
    found = layer.trace(x, initial_state=[h0, c0])
    kernel, recurrent_kernel, bias = layer.get_weights()
    before = np.concatenate([h0[:, None], found.h[:, :-1]], axis=1)
    z = np.split(x @ kernel + before @ recurrent_kernel + bias, 4, axis=-1)
    for raw, activated, expected in zip(["zi", "zf", "zg", "zo"], "ifgo", z, strict=True):
        np.testing.assert_allclose(getattr(found, raw), expected, rtol=0, atol=3e-6)
        activation = np.tanh(expected) if activated == "g" else 1 / (1 + np.exp(-expected))
        np.testing.assert_allclose(getattr(found, activated), activation, rtol=0, atol=2e-6)


def test_a_stateful_layer_starts_from_its_state_and_keeps_it(x, rng):
    layer = ours.LSTM(H, stateful=True, dropout=0.5, recurrent_dropout=0.5, seed=3, return_sequences=True)
    layer.build(x.shape)
    layer(x)
    before = [ops.convert_to_numpy(v).copy() for v in layer.variables]
    first, again = layer.trace(x), layer.trace(x)
    given = layer.trace(x, initial_state=state(rng))
    for variable, value in zip(layer.variables, before, strict=True):  # the state, and the seed of the dropout
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
    np.testing.assert_array_equal(first.h, again.h)
    assert np.abs(first.h - given.h).max() > 0.01
    np.testing.assert_allclose(first.h, layer(x), **TOLERANCE)
    with pytest.raises(ValueError, match=r"x: expected the batch size of the stateful layer 'lstm\w*', 3, got 2"):
        layer.trace(x[:2])


def test_a_cells_own_initial_state_counts(x):
    begins = {"get_initial_state": lambda self, batch_size=None: [ops.ones((batch_size, self.units))] * 2}
    cell = type("Ones", (ours.LSTMCell,), begins)(H)
    check_against(ours.RNN(cell, return_sequences=True, return_state=True), x)


@pytest.mark.parametrize("go_backwards", [False, True])
def test_stacked_cells_have_a_trace_each(x, mask, rng, go_backwards):
    options = {"return_sequences": True, "return_state": True, "go_backwards": go_backwards}
    layer = ours.RNN([ours.LSTMCell(H), ours.LSTMCell(2)], **options)
    call = {"mask": mask, "initial_state": [state(rng, n) for n in (H, 2)]} if go_backwards else {}
    assert isinstance(check_against(layer, x, **call), list)


def test_one_stacked_cell_is_still_a_list(x):
    stack, single = ours.RNN([ours.LSTMCell(H)]), ours.LSTM(H)
    stack.build(x.shape), single.build(x.shape)
    single.set_weights(stack.get_weights())
    (found,) = stack.trace(x)  # Keras itself cannot run such a stack on JAX
    np.testing.assert_array_equal(found.h, single.trace(x).h)


def test_bidirectional_has_a_pair(x, mask, rng):
    layer = keras.layers.Bidirectional(ours.LSTM(H, return_sequences=True), merge_mode=None)
    call = {"mask": mask, "initial_state": [*state(rng), *state(rng)]}
    there, back = layer(x, **call)
    forward, backward = trace(layer, x, **call)
    kept = mask[..., None]
    np.testing.assert_allclose(np.where(kept, forward.h, 0), there, **TOLERANCE)
    np.testing.assert_allclose(np.where(kept, backward.h[:, ::-1], 0), back, **TOLERANCE)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "float16", "bfloat16"])
def test_lower_precision_is_traced_in_float32(x, dtype):
    low, full = ours.LSTM(H, dtype=dtype, recurrent_initializer="glorot_uniform"), ours.LSTM(H)
    low.build(x.shape), full.build(x.shape)
    full.set_weights([np.asarray(w, "float32") for w in low.get_weights()])
    found = low.trace(x)
    assert {array.dtype.name for array in found.asdict().values()} == {"float32"}
    np.testing.assert_array_equal(found.h, full.trace(x).h)
    rounded = ops.cast(x, low.compute_dtype)
    np.testing.assert_array_equal(low.trace(rounded).h, full.trace(np.asarray(rounded, "float32")).h)


def test_a_callable_activation(x):
    def squared(z):
        assert ops.is_tensor(z)
        return ops.square(ops.sin(z))

    options = {"activation": squared, "recurrent_activation": keras.layers.Activation("sigmoid")}
    check_against(ours.LSTM(H, return_sequences=True, return_state=True, **options), x)


def test_tensors_lists_and_numbers_are_taken(x, mask, rng):
    layer = ours.LSTM(H)
    layer.build(x.shape)
    begin = state(rng)
    expected = layer.trace(x, begin, mask)
    tensors = [ops.convert_to_tensor(s) for s in begin]
    for got in (
        layer.trace(ops.convert_to_tensor(x), tensors, ops.convert_to_tensor(mask)),
        layer.trace(x.astype("float64"), tuple(begin), mask.astype("int32")),
        trace(layer, x.tolist(), begin, mask.tolist()),
    ):
        np.testing.assert_array_equal(got.h, expected.h)


def test_errors_name_what_is_wrong(x, mask, rng):
    layer = ours.LSTM(H, name="memory")
    with pytest.raises(ValueError, match="layer: expected a built layer, got 'memory' without weights"):
        layer.trace(x)
    layer.build(x.shape)
    for wrong in (x[0], x[:, :, :3], x[:, :, :, None]):
        with pytest.raises(ValueError, match=r"x: expected shape \(B, T, I\) = \(B, T, 4\), got \("):
            layer.trace(wrong)
    with pytest.raises(ValueError, match=r"mask: expected shape \(B, T\) = \(3, 7\), got \(2, 7\)"):
        layer.trace(x, mask=mask[:2])
    with pytest.raises(ValueError, match=r"initial_state.h: expected shape \(B, H\) = \(3, 5\), got \(3, 6\)"):
        layer.trace(x, initial_state=state(rng, 6))
    with pytest.raises(TypeError, match="layer: expected an LSTM, RNN or Bidirectional layer, got Dense"):
        trace(keras.layers.Dense(3), x)


def test_other_cells_are_named(x):
    class Peephole(ours.LSTMCell):
        def call(self, inputs, states, training=False):
            return super().call(inputs, states, training)

    for cells, name in (
        (keras.layers.GRUCell(H, name="gate"), "GRUCell 'gate'"),
        (Peephole(H, name="peep"), "Peephole 'peep'"),
        ([ours.LSTMCell(H), keras.layers.GRUCell(H, name="upper")], "GRUCell 'upper'"),
    ):
        layer = ours.RNN(cells, name="outer")
        layer.build(x.shape)
        with pytest.raises(TypeError, match=f"every cell of 'outer' to be an LSTMCell .*, got {name}"):
            layer.trace(x)


def test_states_that_do_not_fit_the_layer(x, rng):
    stack = ours.RNN([ours.LSTMCell(H), ours.LSTMCell(H)])
    stack.build(x.shape)
    with pytest.raises(ValueError, match=r"initial_state: expected a list of 2 pairs \(h, c\).*, got 3 of them"):
        stack.trace(x, [state(rng)] * 3)
    both = keras.layers.Bidirectional(ours.LSTM(H))
    both.build(x.shape)
    with pytest.raises(ValueError, match=r"initial_state: expected a list, the forward layer's states .*got 3 of them"):
        trace(both, x, [*state(rng), state(rng)[0]])
