"""`RNN` and `LSTM` on NumPy: every flag against Keras and PyTorch with the same weights, values and gradients."""

import itertools

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch

from cases import GRADIENTS, NAMES
from compare import assert_close, assert_same_bits
from glasscell import LSTM, RNN, LSTMCell
from glasscell._cells.layouts import LSTMWeights

B, T, I, H = 6, 7, 3, 5
# Against Keras in float32: 8 epsilons of the array's scale. Either side rounds the sums of eight products and some
# elementwise operations at each of seven steps.
FLOAT32 = 1e-6
# Against PyTorch in float64 with its own order of summation: hundreds of epsilons.
FLOAT64 = 1e-13

FLAGS = ("return_sequences", "go_backwards", "zero_output_for_mask")
STEPS = [0b0101101, 0b1011000, 0, 0b1111111, 0b1110000, 0b0000111]  # the used steps of each row
MASK = np.array([[row >> (T - 1 - t) & 1 for t in range(T)] for row in STEPS], bool)
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


def assert_all_close(got, expected, relative=FLOAT32, what=""):
    """Compares outputs: an array, or as many arrays in a tuple or list."""
    pairs = zip(*([o] if hasattr(o, "shape") else list(o) for o in (got, expected)), strict=True)
    for value, wanted in pairs:
        assert_close(value, wanted, relative, what)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("chosen", list(itertools.product([False, True], repeat=3)))
def test_every_flag_as_keras(chosen, masked):
    """With `return_state` and a mask, or without: then there is one output, not a tuple."""
    flags = dict(zip(FLAGS, chosen, strict=True))
    x, state, weights = draw()
    flags, mask = {**flags, "return_state": masked}, MASK if masked else None
    expected = theirs(weights, **flags)(x, initial_state=list(state), mask=mask)
    for engine in ("reference", "native"):
        got = ours(weights, engine, **flags)(x, state, mask=mask)
        assert isinstance(got, tuple) == masked
        assert_all_close(got, expected, FLOAT32, engine)


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
    assert_all_close(layer(x, state, mask=MASK), expected(x, initial_state=list(state), mask=MASK))
    assert layer.engine_used == engine_name


def test_stateful_as_keras():
    x, state, weights = draw()
    flags = {"return_sequences": True, "return_state": True, "stateful": True}
    layer, expected = ours(weights, **flags), theirs(weights, **flags)
    calls = [(None, x), (None, x[:, ::-1]), (state, x), (None, x)]
    for given, values in calls:
        wanted = expected(values, initial_state=None if given is None else list(given), mask=MASK)
        assert_all_close(layer(values, given, mask=MASK), wanted)
    layer.reset_state()
    assert layer.state is None
    assert_same_bits(layer(x)[0], ours(weights, **flags)(x)[0])


@pytest.mark.parametrize(("dropout", "recurrent_dropout"), [(0.4, 0.0), (0.0, 0.3), (0.4, 0.3)])
def test_dropout_masks_as_keras(dropout, recurrent_dropout):
    """With the masks that Keras drew in a training call: one for all gates, or one for each."""
    x, state, weights = draw()
    layer = theirs(weights, dropout=dropout, recurrent_dropout=recurrent_dropout, seed=1, return_sequences=True)
    masks = {}
    for name in ("dropout_mask", "recurrent_dropout_mask"):
        original = getattr(layer.cell, f"get_{name}")

        def recording(*arguments, original=original, name=name):
            mask = original(*arguments)
            if mask is not None:
                masks[name] = np.stack(mask) if isinstance(mask, (list, tuple)) else np.asarray(mask)
            return mask

        object.__setattr__(layer.cell, f"get_{name}", recording)
    expected = layer(x, initial_state=list(state), training=True)
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
    found = [got.kernel, got.recurrent_kernel, got.bias, got.x, got.h0, got.c0]
    found = [value for value in found if value is not None]
    assert_all_close(found, [*d_weights, *expected], 2 * FLOAT32)  # sums over all rows and steps as well


@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_as_torch(engine_name, bias):
    torch.manual_seed(0)
    peer = torch.nn.LSTM(I, H, bias=bias, batch_first=True, dtype=torch.float64)
    x, state, _ = draw(np.float64)
    inputs = [torch.tensor(v, requires_grad=True) for v in (x, *state)]
    output, (h, c) = peer(inputs[0], (inputs[1][None], inputs[2][None]))
    dy, dh, dc = (torch.tensor(np.random.default_rng(n).standard_normal(v.shape)) for n, v in enumerate((output, h, c)))
    torch.autograd.backward([output, h, c], [dy, dh, dc])

    weights = LSTMWeights.from_torch(*(p.detach().numpy() for p in peer.parameters()))
    d_kernel, d_recurrent_kernel, *d_biases = (p.grad.numpy() for p in peer.parameters())
    layer = ours([w for w in weights if w is not None], engine_name, np.float64, use_bias=bias, return_sequences=True,
                 return_state=True)  # fmt: skip
    assert_all_close(layer(x, state), [v.detach().numpy() for v in (output, h[0], c[0])], FLOAT64)
    _, pullback = layer.vjp(x, state)
    got = pullback(dy.numpy(), (dh[0].numpy(), dc[0].numpy()))
    found = [got.kernel.T, got.recurrent_kernel.T, *len(d_biases) * [got.bias], got.x, got.h0, got.c0]
    wanted = [d_kernel, d_recurrent_kernel, *d_biases, *(v.grad.numpy() for v in inputs)]
    assert_all_close(found, wanted, FLOAT64)


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
    layer = ours(weights, engine_name, go_backwards=go_backwards)
    trace = layer.trace(x, state, mask=MASK)
    cell, (h, c) = layer.cell, state
    for s, t in enumerate(reversed(range(T)) if go_backwards else range(T)):
        gates, (h_next, (_, c_next)), kept = cell.gates(x[:, t], (h, c)), cell(x[:, t], (h, c)), MASK[:, t]
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
    for name in GRADIENTS:
        assert_close(getattr(only_y, name) + getattr(only_state, name), getattr(both, name), FLOAT64, name)
