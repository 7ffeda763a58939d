"""What JAX makes of our layers, beside Keras's: derivatives of every mode and order, `vmap`, saved programs."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from beside import RELATIVE, assert_agree, assert_runs, twins

import glasscell.keras as ours
import pages
from compare import assert_close, assert_same_bits
from glasscell._cells.activations import BUILT_IN
from glasscell._cells.lstm import Options
from glasscell._ops import jax as jax_op
from glasscell._ops.call import KEEP, RESET
from glasscell._ops.operands import Operands

B, T, I, N = 2, 4, 3, 3


def layer_of(kind, name):
    engine = {"engine": "native"} if kind is ours else {}
    keras.utils.set_random_seed(1)
    if name == "layer":
        return kind.LSTM(3, return_sequences=True, return_state=True, go_backwards=True, **engine)
    if name == "stack":
        cells = [kind.LSTMCell(3), kind.LSTMCell(2, activation="relu", recurrent_activation="hard_sigmoid")]
        return kind.RNN(cells, **engine)
    if name == "dropout":
        return kind.LSTM(3, dropout=0.3, recurrent_dropout=0.3, seed=3, **engine)
    return kind.Bidirectional(kind.LSTM(2, return_sequences=True, use_bias=False, activation="softsign", **engine))


def value_of(kind, name):
    """A number as a function of weights and x, and the weights."""
    layer = layer_of(kind, name)
    layer.build((B, T, I))
    options = {"mask": np.array([[1, 1, 0, 1], [0, 1, 1, 1]], bool)} if name == "bidirectional" else {}
    others = [v.value for v in layer.non_trainable_variables]
    # Zeros in x, and a bias of zeros, put raw gates at zero; but at relu's kink second derivatives are what one likes.
    weights = [v.value + 0.1 * (name == "stack") for v in layer.trainable_variables]

    def value(weights, x):
        outputs, _ = layer.stateless_call(weights, others, x, training=name == "dropout", **options)
        return sum((t**2).sum() * (k + 1) for k, t in enumerate(jax.tree.leaves(outputs)))

    return value, weights


def data():
    rng = np.random.default_rng(0)
    many = rng.standard_normal((N, B, T, I)).astype("float32")
    many[:, :, 0] = 0
    return many[0], many


def several(weights):
    return [jnp.stack([w * factor for factor in (1.0, 0.5, -0.7)]) for w in weights]


X, MANY = data()
each = lambda f: jax.vmap(f, in_axes=(None, 0))  # noqa: E731
grad = lambda f: jax.grad(f, argnums=(0, 1))  # noqa: E731

TRANSFORMS = {
    "grad": lambda f, w: grad(f)(w, X),
    "jvp": lambda f, w: jax.jvp(f, (w, X), (w, X)),
    "jvp of weights": lambda f, w: jax.jit(lambda w: jax.jvp(lambda w: f(w, X), (w,), (w,)))(w),
    "jacfwd": lambda f, w: jax.jacfwd(f, argnums=1)(w, X),
    "linearize": lambda f, w: jax.linearize(lambda x: f(w, x), X)[1](X),
    "transposed": lambda f, w: jax.linear_transpose(jax.linearize(lambda x: f(w, x), X)[1], X)(jnp.float32(1)),
    "transposed twice": lambda f, w: jax.linear_transpose(jax.vjp(lambda x: f(w, x), X)[1], jnp.float32(1))((X,)),
    "hessian": lambda f, w: jax.jit(jax.hessian(f, argnums=1))(w, X),
    "jacrev twice": lambda f, w: jax.jacrev(jax.jacrev(f, argnums=1), argnums=1)(w, X),
    "jacfwd twice": lambda f, w: jax.jacfwd(jax.jacfwd(f, argnums=1), argnums=1)(w, X),
    "penalty": lambda f, w: jax.jit(jax.grad(lambda w: (jax.grad(f, argnums=1)(w, X) ** 2).sum()))(w),
    "grad of jvp": lambda f, w: jax.grad(lambda w: jax.jvp(lambda x: f(w, x), (X,), (X,))[1])(w),
    "vmap": lambda f, w: each(f)(w, MANY),
    "vmap of another axis": lambda f, w: jax.vmap(lambda x: f(w, x), in_axes=2)(np.moveaxis(MANY, 0, 2)),
    "vmap of grad": lambda f, w: jax.jit(each(grad(f)))(w, MANY),
    "grad of vmap": lambda f, w: grad(lambda w, x: each(f)(w, x).sum())(w, MANY),
    "vmap of weights": lambda f, w: jax.vmap(f, in_axes=(0, None))(several(w), X),
    "grad of vmap of weights": lambda f, w: grad(lambda w, x: jax.vmap(f, in_axes=(0, None))(w, x).sum())(
        several(w), X
    ),
    "vmap of vmap": lambda f, w: jax.vmap(each(grad(f)), in_axes=(0, None))(several(w), MANY),
    "vmap of hessian": lambda f, w: each(jax.hessian(f, argnums=1))(w, MANY),
    "hessian of vmap": lambda f, w: jax.hessian(lambda x: jax.vmap(f, in_axes=(0, None))(several(w), x).sum())(X),
    "checkpoint": lambda f, w: jax.jit(grad(jax.checkpoint(f)))(w, X),
    "scan": lambda f, w: jax.jit(
        grad(lambda w, x: jax.lax.scan(lambda x, _: (x + 1e-3 * f(w, x), None), x, None, length=2)[0].sum())
    )(w, X),
}


@pytest.mark.parametrize("name", ["layer", "stack", "bidirectional", "dropout"])
def test_derivatives_and_batches(name):
    mine, weights = value_of(ours, name)
    theirs, same = value_of(keras.layers, name)
    for a, b in zip(weights, same, strict=True):
        assert_same_bits(a, b)
    some = ["grad", "jvp", "hessian", "penalty", "vmap of grad", "grad of vmap of weights", "checkpoint"]
    for what in TRANSFORMS if name == "layer" else some:
        found, expected = (jax.jit(lambda w, f=f: TRANSFORMS[what](f, w))(weights) for f in (mine, theirs))  # noqa: B023
        assert_agree(found, expected, what=what)
        if name == "layer" and what in ("linearize", "hessian", "vmap of grad"):
            assert_agree(*(TRANSFORMS[what](f, weights) for f in (mine, theirs)), what=f"{what}, without jit")


def test_a_batch_is_one_native_call():
    """Gradients of each example: not a loop over calls, and a pass of shared weights not one call for each either."""
    value, weights = value_of(ours, "layer")
    text = jax.jit(each(jax.grad(value))).lower(weights, MANY).as_text()
    assert text.count("@glasscell_forward") == text.count("@glasscell_backward") == 1
    assert "while" not in text


def test_batches_have_the_bits_of_single_calls():
    value, weights = value_of(ours, "bidirectional")
    for function in (grad(value), value):
        together = jax.jit(each(function))(weights, MANY)
        alone = [function(weights, x) for x in MANY]
        for a, b in zip(jax.tree.leaves(together), zip(*map(jax.tree.leaves, alone), strict=True), strict=True):
            assert_same_bits(a, np.stack(b))


def test_operation_with_resets():
    """A reset is where Keras would be called anew: values, forward mode, second derivatives, batches."""
    cell = keras.layers.LSTMCell(3)
    cell.build((B, I))
    weights = [jnp.asarray(w) for w in cell.get_weights()]
    layer = keras.layers.RNN(cell, return_sequences=True, return_state=True)
    layer.build((B, T, I))
    others = [v.value for v in layer.non_trainable_variables]
    options = Options(BUILT_IN["tanh"], BUILT_IN["sigmoid"])
    state = [jnp.full((B, 3), 0.3), jnp.full((B, 3), -0.2)]
    steps = np.full((B, T), KEEP, np.uint8)
    steps[:, 2] |= RESET

    def mine(weights, x):
        ((h, hT, cT),) = jax_op.run(x, jnp.asarray(steps), [Operands(options, *weights, *state)], True, False)
        return (h**2).sum() + (hT * cT).sum()

    def theirs(weights, x):
        (first, *_), _ = layer.stateless_call(weights, others, x[:, :2], initial_state=state)
        (second, hT, cT), _ = layer.stateless_call(weights, others, x[:, 2:])
        return (first**2).sum() + (second**2).sum() + (hT * cT).sum()

    for what in ("grad", "jvp", "hessian", "vmap of grad", "grad of vmap of weights"):
        assert_agree(*(TRANSFORMS[what](f, weights) for f in (mine, theirs)), what=what)


def test_masks_that_are_learned_have_gradients():
    """Dropout masks are constants for the native engine; one that is not must not have a gradient of zero."""

    def cell_of(base):
        class Learned(base):
            def build(self, shape):
                super().build(shape)
                self.keep = self.add_weight(shape=(3,), initializer="ones", name="keep")

            def get_recurrent_dropout_mask(self, step_input):
                return [step_input * 0 + self.keep] * 4

        return Learned(3, recurrent_dropout=0.5, implementation=1)

    def gradients(kind):
        keras.utils.set_random_seed(0)
        layer = kind.RNN(cell_of(kind.LSTMCell))
        layer.build(X.shape)
        others = [v.value for v in layer.non_trainable_variables]
        value = lambda w, x: (layer.stateless_call(w, others, x, training=True)[0] ** 2).sum()  # noqa: E731
        weights = [v.value for v in layer.trainable_variables]
        return grad(value)(weights, X), jax.jvp(value, (weights, X), (weights, X))

    found, expected = gradients(ours), gradients(keras.layers)
    assert all(np.any(np.asarray(b)) for b in jax.tree.leaves(expected))
    assert_agree(found, expected)


@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("time", [1, 2])
def test_few_products_run_in_the_framework(rows, time):
    x = np.random.default_rng(0).standard_normal((rows, time, I)).astype("float32")
    theirs, layer = twins(lambda kind: kind.LSTM(4), x.shape)
    assert_agree(layer(x), theirs(x))
    assert layer.engine_used == ("framework" if rows * time == 1 else "native")
    layer.engine = "native"
    assert_agree(layer(x), theirs(x))
    assert layer.engine_used == "native"


SAVE = """
import sys, keras, numpy as np, jax, pickle, glasscell.keras as ours
from jax import export
from jax.experimental import jax2tf, serialize_executable
import tensorflow as tf
folder = sys.argv[1]
keras.utils.set_random_seed(0)
kept = np.array([[0, 1, 1, 0, 1]] * 3, bool)
stack = ours.RNN([ours.LSTMCell(3), ours.LSTMCell(2)], engine="native")
both = ours.Bidirectional(ours.LSTM(4, return_sequences=True, engine="native"))
def f(x): return stack(both(x, mask=kept[:1] | (x[:, :, 0] > 9)))
x = np.random.default_rng(0).standard_normal((3, 5, 3)).astype("float32")
mine = f(x)
for layer in (stack, both.forward_layer, both.backward_layer): layer.engine = "framework"
np.savez(folder + "/data.npz", x=x, y=f(x), dx=jax.grad(lambda x: f(x).sum())(x), mine=mine)
for layer in (stack, both.forward_layer, both.backward_layer): layer.engine = "native"
fixed = jax.ShapeDtypeStruct(x.shape, x.dtype)
rows = jax.ShapeDtypeStruct((*export.symbolic_shape("rows"), *x.shape[1:]), x.dtype)
programs = {
    "fixed": export.export(jax.jit(f))(fixed),
    "rows": export.export(jax.jit(f))(rows),
    "platforms": export.export(jax.jit(f), platforms=["cpu", "cuda", "tpu"])(fixed),
    "gradient": export.export(jax.jit(jax.vmap(jax.grad(lambda x: f(x[None]).sum()))))(fixed),
}
for name, program in programs.items():
    open(folder + "/" + name, "wb").write(program.serialize(vjp_order=name != "gradient"))
module = tf.Module()
module.f = tf.function(jax2tf.convert(f), autograph=False, input_signature=[tf.TensorSpec(x.shape, x.dtype)])
tf.saved_model.save(module, folder + "/tensorflow")
compiled = jax.jit(f).lower(x).compile()
pickle.dump(serialize_executable.serialize(compiled), open(folder + "/compiled", "wb"))
assert stack.engine_used == both.engine_used == "native"
"""
LOAD = """
import sys, numpy as np, jax, pickle
from jax import export
from jax.experimental import serialize_executable
import tensorflow as tf
folder = sys.argv[1]
data = np.load(folder + "/data.npz")
x = data["x"]
def close(a, b): np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
for name in ("fixed", "rows", "platforms"):
    program = export.deserialize(open(folder + "/" + name, "rb").read())
    close(program.call(x), data["y"])
    close(jax.grad(lambda x: program.call(x).sum())(x), data["dx"])
close(export.deserialize(open(folder + "/gradient", "rb").read()).call(x), data["dx"])
close(tf.saved_model.load(folder + "/tensorflow").f(x), data["y"])
compiled = pickle.load(open(folder + "/compiled", "rb"))
try:
    serialize_executable.deserialize_and_load(*compiled)
except Exception as error:
    assert "glasscell_forward_float32" in str(error), error
else:
    raise AssertionError("an executable with our call in it was loaded without us")
assert not any(module.startswith("glasscell") for module in sys.modules)
import glasscell.keras
np.testing.assert_array_equal(serialize_executable.deserialize_and_load(*compiled)(x), data["mine"])
"""


def test_what_is_saved_runs_without_glasscell(tmp_path):
    """Exported programs hold the framework's operations; a compiled executable names our call, which it needs."""
    for code in (SAVE, LOAD):
        assert_runs(code, tmp_path)


def test_float64_forward_mode_is_the_transpose_of_reverse():
    """<J t, ct> = <t, J' ct>: the equations' J in a scan, the native engine's J', to the digits of float64."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        weights = [jnp.asarray(rng.standard_normal(shape)) for shape in ((I, 12), (3, 12), (12,), (B, 3), (B, 3))]
        x, ct, *t = (
            jnp.asarray(rng.standard_normal(shape)) for shape in ((B, T, I), (B, T, 3), *(w.shape for w in weights))
        )
        options = Options(BUILT_IN["gelu"], BUILT_IN["sigmoid"], go_backwards=True)

        def h(*weights):
            return jax_op.run(x, None, [Operands(options, *weights)], True, False)[0][0]

        along, pulled = jax.jvp(h, weights, t)[1], jax.vjp(h, *weights)[1](ct)
        total = sum(float((a * b).sum()) for a, b in zip(t, pulled, strict=True))
        assert float((along * ct).sum()) == pytest.approx(total, rel=1e-12)


SHARDED = """
import sys, jax, keras, numpy as np, glasscell.keras as ours
from jax.sharding import AxisType, PartitionSpec as P
mesh = jax.make_mesh((2,), ("rows",), axis_types=(AxisType.Auto,))
x = np.random.default_rng(0).standard_normal((4, 6, 5)).astype("float32")
mine, theirs = ours.LSTM(4, engine="native"), keras.layers.LSTM(4)
mine.build(x.shape), theirs.build(x.shape)
theirs.set_weights(mine.get_weights())
weights, others = ([v.value for v in vs] for vs in (mine.trainable_variables, mine.non_trainable_variables))
def gradients(layer, **options):
    f = lambda w, x: layer.stateless_call(w, others, x)[0]
    f = jax.shard_map(f, mesh=mesh, in_specs=(P(), P("rows")), out_specs=P("rows"), **options)
    return jax.jit(jax.grad(lambda w: (f(w, x) ** 2).sum()))(weights)
for a, b in zip(gradients(mine, check_vma=False), gradients(theirs, check_vma=False), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
for layer, error in ((mine, NotImplementedError), (theirs, TypeError)):
    try:
        gradients(layer)
    except error as e:
        assert layer is theirs or "check_vma=False" in str(e), e
    else:
        raise AssertionError(error)
"""


def test_shard_map():
    """Gradients of weights are sums over the mesh; with `check_vma` ours refuse, and Keras's fail."""
    assert_runs(SHARDED, XLA_FLAGS="--xla_force_host_platform_device_count=2")


def test_errors_of_the_call_name_the_argument():
    options = Options(BUILT_IN["tanh"], BUILT_IN["sigmoid"])
    W, R, b, s = jnp.ones((I, 12)), jnp.ones((3, 12)), jnp.ones(11), jnp.ones((B, 3))
    with pytest.raises(
        jax.errors.JaxRuntimeError, match=r"INVALID_ARGUMENT: bias: expected shape \(12,\), got \(11,\)"
    ):
        jax.block_until_ready(jax_op.run(jnp.asarray(X), None, [Operands(options, W, R, b, s, s)], True, False))


def test_gradients_of_weights_alone_and_with_x_have_the_same_bits():
    layer = ours.Bidirectional(ours.LSTM(4, return_sequences=True, engine="native"))
    x = np.random.default_rng(0).standard_normal((3, 6, 5)).astype("float32")
    layer.build(x.shape)
    weights, others = ([w.value for w in ws] for ws in (layer.trainable_variables, layer.non_trainable_variables))

    def loss(weights, x):
        return (layer.stateless_call(weights, others, x)[0] ** 2).sum()

    def repeated(weights, x):  # here x depends on what is differentiated from the second round on
        step = lambda x, _: (x + loss(weights, x) * 1e-3, None)  # noqa: E731
        return jax.lax.scan(step, x, None, length=3)[0].sum()

    jaxpr = jax.make_jaxpr(jax.grad(loss))(weights, x)
    (dx,) = (e.outvars[0].aval for e in jaxpr.eqns if e.primitive.name == "glasscell_backward")
    assert dx.shape == (0,)
    for of in (loss, repeated, jax.checkpoint(loss)):
        alone = jax.jit(jax.grad(of))(weights, x)
        both = jax.jit(jax.grad(of, argnums=(0, 1)))(weights, x)[0]
        for one, other in zip(alone, both, strict=True):
            np.testing.assert_array_equal(one, other)
    each = jax.vmap(jax.grad(loss), in_axes=(None, 0))(weights, x[:, None])
    for total, parts in zip(jax.grad(loss)(weights, x), each, strict=True):
        assert_close(parts.sum(0), total, RELATIVE)


@pages.needed
def test_large_results_ask_for_large_pages():
    """XLA maps what an execution needs anew where it is large; the pages of a result were asked for by us alone."""
    layer = ours.LSTM(64, return_sequences=True, engine="native")
    y = layer(np.ones((2048, 80, 1), "float32"))
    assert y.nbytes == 40 << 20
    middle = y.unsafe_buffer_pointer() + y.nbytes // 2
    assert any(middle in span for span in pages.advised())
