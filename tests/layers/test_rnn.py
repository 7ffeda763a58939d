"""`RNN` and `LSTM` on NumPy: every flag against Keras and PyTorch with the same weights, values and gradients."""

import itertools

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch

from cases import NAMES
from compare import assert_close, assert_same_bits
from glasscell import LSTM, RNN, LSTMCell, Stream
from glasscell._cells.layouts import LSTMWeights

B, T, I, H = 6, 7, 3, 5
# Against Keras in float32: 8 epsilons of the array's scale. Either side rounds the sums of eight products and some
# elementwise operations at each of seven steps.
FLOAT32 = 1e-6
# Against PyTorch in float64 with its own order of summation: hundreds of epsilons.
FLOAT64 = 1e-13

FLAGS = ("return_sequences", "go_backwards", "zero_output_for_mask")
MASK = np.array(
    [
        [0, 1, 0, 1, 1, 0, 1],
        [1, 0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 1, 1],
    ],
    bool,
)
LENGTHS = np.array([7, 3, 1, 0, 6, 2])
PADDED = np.arange(T) < LENGTHS[:, None]


def draw(dtype=np.float32, seed=0):
    """x, (h0, c0), and weights as a list."""
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal(s) * scale for s, scale in (((I, 4 * H), 0.7), ((H, 4 * H), 0.5), (4 * H, 0.5))]
    x, state = rng.standard_normal((B, T, I)), rng.standard_normal((2, B, H)) * 0.5
    return x.astype(dtype), tuple(state.astype(dtype)), [w.astype(dtype) for w in weights]


def ours(weights, engine="native", dtype=np.float32, **arguments):
    layer = LSTM(H, engine=engine, dtype=dtype, **arguments)
    layer.cell.set_weights(weights)
    return layer


def theirs(weights, **arguments):
    layer = keras.layers.LSTM(H, **arguments)
    layer.build((B, T, I))
    layer.set_weights(weights)
    return layer


def listed(output):
    return [np.asarray(o) for o in (output if isinstance(output, (tuple, list)) else [output])]


@pytest.mark.parametrize("chosen", list(itertools.product([False, True], repeat=3)))
def test_every_flag_with_a_mask_as_keras(chosen):
    flags = dict(zip(FLAGS, chosen, strict=True))
    x, state, weights = draw()
    expected = listed(theirs(weights, return_state=True, **flags)(x, initial_state=list(state), mask=MASK))
    for engine in ("reference", "native"):
        got = listed(ours(weights, engine, return_state=True, **flags)(x, state, mask=MASK))
        assert len(got) == len(expected) == 3
        for value, wanted in zip(got, expected, strict=True):
            assert_close(value, wanted, FLOAT32, engine)


@pytest.mark.parametrize("chosen", list(itertools.product([False, True], repeat=2)))
def test_every_flag_without_a_mask_as_keras(chosen):
    """Without `return_state` there is one output, not a tuple."""
    flags = dict(zip(FLAGS, chosen, strict=False))
    x, state, weights = draw()
    expected = theirs(weights, **flags)(x, initial_state=list(state))
    for engine in ("reference", "native"):
        assert_close(ours(weights, engine, **flags)(x, state), expected, FLOAT32, engine)


@pytest.mark.parametrize("name", NAMES)
def test_every_activation_as_keras(name):
    """In both roles, never with itself."""
    x, state, weights = draw()
    other = NAMES[(NAMES.index(name) + 3) % len(NAMES)]
    weights = [w / 4 for w in weights]  # small, or the unbounded ones explode within the seven steps
    if "exponential" in (name, other):
        weights[2] -= 1
    arguments = {"activation": name, "recurrent_activation": other, "return_sequences": True}
    expected = theirs(weights, **arguments)(x, initial_state=list(state))
    got = ours(weights, **arguments)(x, state)
    assert_close(got, expected, 4 * FLOAT32)  # expm1, erf and the like are some ulp off in XLA


def test_without_bias_and_state_as_keras():
    x, _, weights = draw()
    expected = theirs(weights[:2], use_bias=False, return_sequences=True)(x)
    assert_close(ours(weights[:2], use_bias=False, return_sequences=True)(x), expected, FLOAT32)


def test_rnn_of_a_cell_as_keras(engine_name):
    x, state, weights = draw()
    expected = keras.layers.RNN(keras.layers.LSTMCell(H), return_sequences=True, return_state=True)
    expected.build((B, T, I))
    expected.set_weights(weights)
    cell = LSTMCell(H)
    cell.set_weights(weights)
    layer = RNN(cell, return_sequences=True, return_state=True, engine=engine_name)
    wanted = expected(x, initial_state=list(state), mask=MASK)
    for value, reference in zip(layer(x, state, mask=MASK), wanted, strict=True):
        assert_close(value, reference, FLOAT32)
    assert layer.engine_used == engine_name


def test_stateful_as_keras():
    x, state, weights = draw()
    flags = {"return_sequences": True, "return_state": True, "stateful": True}
    layer, expected = ours(weights, **flags), theirs(weights, **flags)
    calls = [(None, x), (None, x[:, ::-1]), (state, x), (None, x)]
    for given, values in calls:
        wanted = expected(values, initial_state=None if given is None else list(given), mask=MASK)
        for value, reference in zip(layer(values, given, mask=MASK), wanted, strict=True):
            assert_close(value, reference, FLOAT32)
    layer.reset_state()
    assert layer.state is None
    assert_same_bits(layer(x)[0], ours(weights, **flags)(x)[0])


def test_stateful_state_is_its_own():
    """What a call returned may be written into; with another batch size `reset_state` is needed."""
    x, _, weights = draw()
    layer, again = (ours(weights, stateful=True, return_state=True) for _ in range(2))
    for array in layer(x):
        array[...] = np.nan
    again(x)
    for value, reference in zip(layer(x), again(x), strict=True):
        assert_same_bits(value, reference)
    layer.reset_state()
    assert layer(x[:2])[0].shape == (2, H)


@pytest.mark.parametrize(("dropout", "recurrent_dropout"), [(0.4, 0.0), (0.0, 0.3), (0.4, 0.3)])
def test_dropout_masks_as_keras(dropout, recurrent_dropout):
    """With the masks that Keras drew in a training call: one for all gates, or one for each."""
    x, state, weights = draw()
    layer = theirs(weights, dropout=dropout, recurrent_dropout=recurrent_dropout, seed=1, return_sequences=True)
    drawn = {}
    for name in ("get_dropout_mask", "get_recurrent_dropout_mask"):
        original = getattr(layer.cell, name)

        def recording(*arguments, original=original, name=name):
            drawn[name] = original(*arguments)
            return drawn[name]

        object.__setattr__(layer.cell, name, recording)
    expected = layer(x, initial_state=list(state), training=True)
    masks = {}
    for name, argument in (
        ("get_dropout_mask", "dropout_mask"),
        ("get_recurrent_dropout_mask", "recurrent_dropout_mask"),
    ):
        mask = drawn.get(name)
        if mask is not None:
            masks[argument] = np.stack(mask) if isinstance(mask, (list, tuple)) else np.asarray(mask)
    assert ("dropout_mask" in masks, "recurrent_dropout_mask" in masks) == (dropout > 0, recurrent_dropout > 0)
    assert_close(ours(weights, return_sequences=True)(x, state, **masks), expected, FLOAT32)


GRADIENT_CASES = [
    {"return_sequences": True, "go_backwards": True},
    {"return_sequences": False, "zero_output_for_mask": True},
    {"return_sequences": True, "zero_output_for_mask": True, "activation": "relu"},
    {"return_sequences": True, "recurrent_activation": "hard_sigmoid", "use_bias": False},
]


@pytest.mark.parametrize("arguments", GRADIENT_CASES)
def test_gradients_as_keras(arguments):
    """Through the Keras layer with `jax.grad`: of the weights, the inputs and the initial state."""
    x, state, weights = draw()
    weights = weights if arguments.get("use_bias", True) else weights[:2]
    layer = theirs(weights, return_state=True, **arguments)
    cotangents = [np.random.default_rng(2 + n).standard_normal(o.shape) for n, o in enumerate(layer(x))]
    cotangents = [c.astype(np.float32) for c in cotangents]

    def loss(variables, x, h, c):
        outputs, _ = layer.stateless_call(
            variables, [v.value for v in layer.non_trainable_variables], x, initial_state=[h, c], mask=MASK
        )
        return sum(jnp.vdot(o, d) for o, d in zip(outputs, cotangents, strict=True))

    variables = [v.value for v in layer.trainable_variables]
    d_weights, *expected = jax.grad(loss, argnums=(0, 1, 2, 3))(variables, jnp.asarray(x), *map(jnp.asarray, state))
    _, pullback = ours(weights, **arguments).vjp(x, state, mask=MASK)
    got = pullback(cotangents[0], tuple(cotangents[1:]))
    assert_close(got.kernel, d_weights[0], 2 * FLOAT32, "kernel")  # sums over all rows and steps as well
    assert_close(got.recurrent_kernel, d_weights[1], 2 * FLOAT32, "recurrent_kernel")
    if len(weights) == 3:
        assert_close(got.bias, d_weights[2], 2 * FLOAT32, "bias")
    else:
        assert got.bias is None
    for value, wanted, name in zip((got.x, got.h0, got.c0), expected, ("x", "h0", "c0"), strict=True):
        assert_close(value, wanted, 2 * FLOAT32, name)


@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_as_torch(engine_name, bias):
    torch.manual_seed(0)
    peer = torch.nn.LSTM(I, H, bias=bias, batch_first=True, dtype=torch.float64)
    x, state, _ = draw(np.float64)
    inputs = [torch.tensor(v, requires_grad=True) for v in (x, *state)]
    output, (h, c) = peer(inputs[0], (inputs[1][None], inputs[2][None]))
    dy, dh, dc = (torch.tensor(np.random.default_rng(n).standard_normal(v.shape)) for n, v in enumerate((output, h, c)))
    torch.autograd.backward([output, h, c], [dy, dh, dc])

    parameters = {name: p.detach().numpy() for name, p in peer.named_parameters()}
    gradients = {name: p.grad.numpy() for name, p in peer.named_parameters()}
    weights = LSTMWeights.from_torch(*parameters.values())
    layer = ours([w for w in weights if w is not None], engine_name, np.float64, use_bias=bias, return_sequences=True,
                 return_state=True)  # fmt: skip
    for value, wanted in zip(layer(x, state), (output, h[0], c[0]), strict=True):
        assert_close(value, wanted.detach().numpy(), FLOAT64)
    _, pullback = layer.vjp(x, state)
    got = pullback(dy.numpy(), (dh[0].numpy(), dc[0].numpy()))
    assert_close(got.kernel, gradients["weight_ih_l0"].T, FLOAT64)
    assert_close(got.recurrent_kernel, gradients["weight_hh_l0"].T, FLOAT64)
    if bias:
        assert_close(got.bias, gradients["bias_ih_l0"], FLOAT64)
        assert_close(got.bias, gradients["bias_hh_l0"], FLOAT64)
    for value, wanted in zip((got.x, got.h0, got.c0), inputs, strict=True):
        assert_close(value, wanted.grad.numpy(), FLOAT64)


def test_lengths_are_a_mask(engine_name):
    x, state, weights = draw()
    layer = ours(weights, engine_name, return_sequences=True)
    lengths = LENGTHS.tolist()
    assert_same_bits(layer(x, state, lengths=lengths), layer(x, state, mask=PADDED))
    both = layer(x, state, mask=MASK, lengths=lengths)
    assert_same_bits(both, layer(x, state, mask=MASK & PADDED))


def test_a_skipped_step_repeats_the_state(engine_name):
    """Before the first kept step that is the initial h."""
    x, state, weights = draw()
    y = ours(weights, engine_name, return_sequences=True)(x, state, mask=MASK)
    assert_same_bits(y[0, 0], state[0][0])
    assert_same_bits(y[2], np.tile(state[0][2], (T, 1)))
    assert_same_bits(y[1, 4:], np.tile(y[1, 3], (3, 1)))


def test_reset_starts_from_zero(engine_name):
    """A reset cuts the sequence: what follows is what a new call from zeros gives, also at a skipped step."""
    x, state, weights = draw()
    layer = ours(weights, engine_name, return_sequences=True)
    reset = np.zeros((B, T), bool)
    reset[:, 3] = True
    y = layer(x, state, reset=reset)
    assert_close(y[:, :3], layer(x[:, :3], state), 1e-7)
    assert_close(y[:, 3:], layer(x[:, 3:]), 1e-7)
    skipped = np.ones((B, T), bool)
    skipped[:, 3] = False
    y = layer(x, state, mask=skipped, reset=reset)
    assert not y[:, 3].any()
    assert_close(y[:, 4:], layer(x[:, 4:]), 1e-7)
    beyond = layer(x, state, lengths=np.full(B, 3), reset=reset)
    assert_same_bits(beyond[:, 3:], np.repeat(beyond[:, 2:3], T - 3, 1))


@pytest.mark.parametrize("go_backwards", [False, True])
def test_trace_is_the_cell_step_by_step(engine_name, go_backwards):
    x, state, weights = draw()
    mask = MASK
    layer = ours(weights, engine_name, go_backwards=go_backwards)
    trace = layer.trace(x, state, mask=mask)
    cell, (h, c) = layer.cell, state
    for s, t in enumerate(reversed(range(T)) if go_backwards else range(T)):
        gates, (h_next, (_, c_next)), kept = cell.gates(x[:, t], (h, c)), cell(x[:, t], (h, c)), mask[:, t]
        raw = np.split(x[:, t] @ weights[0] + h @ weights[1] + weights[2], 4, axis=1)
        h, c = np.where(kept[:, None], h_next, h), np.where(kept[:, None], c_next, c)
        assert_close(trace.h[:, s], h, FLOAT32)
        assert_close(trace.c[:, s], c, FLOAT32)
        for name, activated, z in zip("ifgo", gates, raw, strict=True):
            for array, wanted in ((getattr(trace, name), activated), (getattr(trace, "z" + name), z)):
                assert_close(array[kept, s], wanted[kept], FLOAT32, name)
                assert np.isnan(array[~kept, s]).all()
        np.testing.assert_array_equal(trace.mask[:, s], kept)
    assert set(trace.asdict()) == {"i", "f", "g", "o", "c", "h", "zi", "zf", "zg", "zo", "mask"}
    assert set(layer.trace(x).asdict()) == {"i", "f", "g", "o", "c", "h", "zi", "zf", "zg", "zo"}


def test_pullback_without_dy_or_dstate(engine_name):
    """Each is zero where it is left out, and the two together are the sum."""
    x, state, weights = draw(np.float64)
    layer = ours(weights, engine_name, np.float64, return_sequences=True)
    y, pullback = layer.vjp(x, state, mask=MASK)
    both, only_y, only_state = pullback(y, state), pullback(y), pullback(dstate=state)
    for name in ("x", "kernel", "recurrent_kernel", "bias", "h0", "c0"):
        assert_close(getattr(only_y, name) + getattr(only_state, name), getattr(both, name), FLOAT64, name)


def test_inputs_are_left_alone(engine_name):
    x, state, weights = draw()
    given = [x, *state, *weights]
    copies = [array.copy() for array in given]
    layer = ours(weights, engine_name, return_sequences=True, return_state=True)
    outputs = list(layer(x, state, mask=MASK))
    y, pullback = layer.vjp(x, state)
    pullback(y, state)
    for array in (*outputs, y):
        array[...] = 0
    for array, copy in zip(given, copies, strict=True):
        assert_same_bits(array, copy)


def test_arrays_that_are_not_aligned():
    layer = LSTM(3, return_sequences=True).build(2, seed=0)
    x = np.ndarray((1, 4, 2), np.float32, bytearray(33), offset=1)
    x[...] = np.arange(8).reshape(x.shape)
    assert not x.flags.aligned
    y, stream = layer(x.copy()), Stream(layer)
    assert_same_bits(layer(x), y)
    for t in range(4):
        assert_same_bits(stream.step(x[0, t]), y[0, t])
