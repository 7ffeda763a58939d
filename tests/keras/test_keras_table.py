"""The table of docs/keras.md: each row has a check, and each check a row.

On the backend of this process; tests/keras/test_keras_backends.py runs this file on the others. A check is a function
here, or the name of a test that stands elsewhere and runs with the suite.
"""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest
from beside import BACKEND, LIBRARIES, assert_agree, assert_runs, draw, framework, number, twins
from keras import layers, ops

import glasscell.keras as ours

HERE = Path(__file__).parent
X = draw(2, 5, 3)


def rows():
    """Reads the first column of the table."""
    text = (HERE.parent.parent / "docs" / "keras.md").read_text()
    cells = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    return [cell.replace("`", "") for cell in cells[2:]]


def engine_of(layer, x=X, **call):
    layer(ops.convert_to_tensor(x), **call)
    return layer.engine_used


def every_option():
    for options in (
        {"dropout": 0.1, "recurrent_dropout": 0.1, "return_sequences": True, "return_state": True},
        {"go_backwards": True, "use_bias": False, "activation": "relu", "zero_output_for_mask": True},
        {"stateful": True, "recurrent_activation": "hard_sigmoid", "implementation": 1},
    ):
        assert engine_of(ours.LSTM(4, **options)) == "native"
        assert engine_of(ours.LSTM(4, **options), mask=ops.convert_to_tensor(np.ones((2, 5), bool))) == "native"
    assert engine_of(ours.RNN([ours.LSTMCell(4), ours.LSTMCell(2)])) == "native"
    assert engine_of(ours.Bidirectional(ours.LSTM(4))) == "native"
    if BACKEND != "jax":
        assert engine_of(ours.LSTM(4, dtype="float64"), X.astype("float64")) == "native"


def half():
    for dtype in ("mixed_float16", "bfloat16") if BACKEND == "jax" else ("mixed_bfloat16", "float16"):
        layer = ours.LSTM(4, dtype=dtype, recurrent_initializer="glorot_uniform")
        assert engine_of(layer) == "framework"
        assert layer.trace(X).f.dtype == "float32"
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert engine_of(ours.LSTM(4, dtype="float32")) == "native"
    finally:
        keras.config.set_dtype_policy(before)


def of_ones_own():
    class Own(ours.LSTMCell):
        def call(self, inputs, states, training=False):
            return super().call(inputs, states, training)

    assert engine_of(ours.LSTM(4, activation=lambda z: ops.sin(z))) == "framework"
    assert engine_of(ours.RNN(Own(4))) == "framework"


def elsewhere():
    """No machine of the suite has a GPU: the frameworks say that they see one."""
    layer = ours.LSTM(4, use_cudnn=False)
    with pytest.MonkeyPatch.context() as patch:
        if BACKEND == "jax":
            patch.setattr(framework, "default_backend", lambda: "gpu")
        elif BACKEND == "tensorflow":
            patch.setattr(framework.config, "list_logical_devices", lambda kind=None: ["GPU:0"])
        else:
            from glasscell._ops import torch as operation

            patch.setattr(operation, "why_not_available", lambda x: "the tensors are on cuda")
        assert engine_of(layer) == "framework"
        model = keras.Sequential([keras.Input((5, 3)), layers.LSTM(4)])
        with pytest.warns(UserWarning, match=r"accelerate: what was replaced runs in Keras's own loop here: .*\w"):
            ours.accelerate(model)
    assert engine_of(layer) == "native"


def derivatives():
    theirs, mine = twins(lambda kind: kind.LSTM(4), X.shape)
    x = ops.convert_to_tensor(X)
    if BACKEND == "jax":

        def hessian(layer):
            return framework.jacfwd(framework.grad(lambda x: (layer(x) ** 2).sum()))(x[:1])
    else:

        def hessian(layer):
            return framework.autograd.functional.hessian(lambda x: (layer(x) ** 2).sum(), x[:1])

    assert_agree(hessian(mine), hessian(theirs))


def unrolled():
    for options, mask, used in (
        ({}, True, "native"),
        ({"go_backwards": True}, False, "native"),
        ({"go_backwards": True}, True, "framework"),
    ):
        theirs, mine = twins(lambda kind, options=options: kind.LSTM(4, unroll=True, **options), X.shape)
        call = {"mask": ops.convert_to_tensor(np.arange(5) < [[5], [3]])} if mask else {}
        if BACKEND == "torch" and used == "framework":
            for layer in (theirs, mine):
                with pytest.raises(AttributeError, match="'tuple' object"):
                    layer(ops.convert_to_tensor(X), **call)
            continue
        assert engine_of(mine, **call) == used
        x = ops.convert_to_tensor(X)
        assert_agree(mine(x, **call), theirs(x, **call))


def cudnn():
    theirs, mine = twins(lambda kind: kind.LSTM(4, use_cudnn=True), X.shape)
    assert engine_of(mine) == "native"
    if BACKEND != "torch":
        with pytest.raises(ValueError, match="use_cudnn=True"):
            theirs(ops.convert_to_tensor(X))


def quantized():
    for kind in LIBRARIES:
        memory = kind.LSTM(4)
        model = keras.Sequential([keras.Input((5, 3)), memory])
        before = number(model(X))
        model.quantize("int8")
        assert (memory.dtype_policy.name, number(memory.cell.kernel).dtype) == ("float32", "float32")
        np.testing.assert_array_equal(number(model(X)), before)
    assert memory.engine_used == "native"


DISTRIBUTED = """
import glasscell.keras as ours, jax, keras, numpy as np
x, losses = np.random.default_rng(0).standard_normal((8, 5, 3)).astype("float32"), []
assert len(keras.distribution.list_devices()) == 2
keras.distribution.set_distribution(keras.distribution.DataParallel(devices=keras.distribution.list_devices()))
for kind in (keras.layers, ours):
    keras.utils.set_random_seed(0)
    memory = kind.LSTM(4)
    model = keras.Sequential([keras.Input((5, 3)), memory, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    losses.append(model.fit(x, x[:, 0, :1], epochs=3, batch_size=8, shuffle=False, verbose=0).history["loss"])
np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
assert memory.engine_used == "native"
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("rows",))
rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
compiled = jax.jit(memory, in_shardings=rows, out_shardings=rows).lower(x).compile().as_text()
assert "all-gather" in compiled and "f32[8,5,3]" in compiled
"""


def distributed():
    assert_runs(DISTRIBUTED, XLA_FLAGS="--xla_force_host_platform_device_count=2")


# By the row: the backends that it is of, and its checks: functions, or the names of tests.
EVERY = ("jax", "tensorflow", "torch")
CHECKS = {
    "float32 and float64": (EVERY, [every_option, "options::test_float64_is_native_and_right_to_the_last_digits"]),
    "mixed_float16, mixed_bfloat16, float16, bfloat16": (
        EVERY, [half, "options::test_what_runs_in_the_framework_has_its_number"]
    ),
    "activations and cells of your own": (EVERY, [of_ones_own]),
    "a GPU or TPU": (EVERY, [elsewhere]),
    "jit_compile=True on TensorFlow": (
        ("tensorflow",), ["options::test_compiled_by_xla_on_tensorflow", "accelerate::test_jit_is_asked_again"]
    ),
    "tf.function of your own": (
        ("tensorflow",),
        [
            "graphs::test_functions_around_the_layer",
            "graphs::test_keras_trains_natively",
            "graphs::test_a_graph_with_the_native_call_refuses_to_be_saved",
        ],
    ),
    "model.export, SavedModel, TFLite, ONNX, jax.export": (
        EVERY,
        [
            "export::test_exported_models_give_the_same_numbers",
            "graphs::test_what_is_saved_runs_in_any_process",
            "jax::test_what_is_saved_runs_without_glasscell",
        ],
    ),
    "serialized executables of JAX": (("jax",), ["jax::test_what_is_saved_runs_without_glasscell"]),
    "second derivatives, forward mode on TensorFlow": (
        ("tensorflow",), ["graphs::test_derivatives_are_right_or_refused_in_words"]
    ),
    "second derivatives, forward mode, vmap on JAX and PyTorch": (
        ("jax", "torch"),
        [derivatives, "jax::test_derivatives_and_batches", "torch_module::test_derivatives_are_kerass"],
    ),
    "jax.shard_map": (("jax",), ["jax::test_shard_map"]),
    "keras.distribution on JAX": (("jax",), [distributed]),
    "a single step of fewer than 8 rows on JAX": (("jax",), ["jax::test_few_products_run_in_the_framework"]),
    "hooks, autocast and changed dtypes of PyTorch": (
        ("torch",),
        [
            "between::test_hooks_of_torch_act",
            "torch_module::test_autocast_is_kerass",
            "torch_module::test_dtypes_changed_by_torch",
        ],
    ),
    "unroll=True": (EVERY, [unrolled]),
    "use_cudnn=True": (EVERY, [cudnn]),
    'model.quantize("int8")': (EVERY, [quantized]),
}  # fmt: skip


def test_each_row_has_a_check_and_each_check_a_row():
    assert rows() == list(CHECKS)


def stands(name):
    """Tells whether a test of this name, "file::function", stands in this folder."""
    file, _, function = name.partition("::")
    tree = ast.parse((HERE / f"test_keras_{file}.py").read_text())
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize("row", rows())
def test_the_row(row):
    backends, checks = CHECKS[row]
    assert checks
    for check in checks:
        if isinstance(check, str):
            assert stands(check), f"{check} is gone: {row!r} has no check"
        elif BACKEND in backends:
            check()
