"""What the layers rely on in the private parts of their frameworks: each test names the part that has moved.

On the backend of this process; tests/keras/test_keras_backends.py runs this file on the others.
"""

import importlib
import inspect

import keras
import numpy as np
import pytest
from beside import BACKEND, draw, framework
from keras import layers

import glasscell.keras as ours
from glasscell.keras import _compat

only = {name: pytest.mark.skipif(name != BACKEND, reason=f"only on {name}") for name in ("jax", "tensorflow", "torch")}


class Probe(keras.layers.Layer):
    """Notes what `_compat` finds while the layer is called."""

    def __init__(self, find):
        super().__init__()
        self.find, self.found = find, []

    def call(self, x):
        self.found.append(self.find())
        return x * 1.0


def probed(find):
    probe = Probe(find)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3), probe])
    model.compile("sgd", "mse")
    probe.found.clear()
    return model, probe.found


def test_all_layers_of_a_model_are_found():
    inner = keras.Sequential([keras.Input((None, 2)), layers.RNN([layers.LSTMCell(2), layers.LSTMCell(3)])])
    model = keras.Sequential([keras.Input((4, 5, 2)), layers.TimeDistributed(inner)])
    kinds = [type(layer).__name__ for layer in _compat.layers_in(model)]
    assert kinds.count("LSTMCell") == 2, f"Layer._flatten_layers no longer finds cells in wrapped models: {kinds}"
    assert kinds.count("Sequential") == 2, f"Layer._flatten_layers no longer finds models: {kinds}"


def test_eager_calls_do_not_walk_the_stack(monkeypatch):
    def walk():
        raise AssertionError("an eager call walks the stack")

    layer = ours.Bidirectional(ours.LSTM(4))
    layer.build((8, 5, 3))
    monkeypatch.setattr(_compat, "_callers", walk)
    layer(keras.ops.convert_to_tensor(draw(8, 5, 3)))
    assert layer.engine_used == "native"


@only["jax"]
def test_export_is_noticed(tmp_path):
    model, found = probed(_compat.in_export)
    model.predict(draw(2, 3), verbose=0)
    assert not any(found), "model.predict looks like model.export to _compat.in_export"
    found.clear()
    model.export(tmp_path / "model", format="tf_saved_model", verbose=False)
    assert any(found), f"model.export no longer calls from {_compat.EXPORT}: _compat.in_export does not see it"


@only["jax"]
def test_jax_tells_of_axes_of_a_mesh_and_of_export():
    from glasscell._ops import jax as op
    from glasscell._ops import jax_compat

    aval = framework.typeof(framework.numpy.ones(3))
    assert not jax_compat.varies(aval), "aval.mat.varying is not empty outside of jax.shard_map"
    seen = []
    framework.make_jaxpr(lambda x: seen.append(op.is_traced(x)) or x)(1.0)
    assert seen == [True], "jax.core.Tracer is no longer what JAX traces with"
    assert not op.is_traced(framework.numpy.ones(3))
    assert jax_compat.zero_tangent(framework.numpy.ones(3)).aval.shape == (3,), "to_tangent_aval gives something else"
    parameters = inspect.signature(framework.interpreters.mlir.LoweringParameters).parameters
    assert "for_export" in parameters, "LoweringParameters.for_export is gone; saved programs would hold native calls"


@only["tensorflow"]
def test_graphs_that_may_be_saved_are_told_apart(tmp_path):
    for module, function in _compat.NEVER_SAVED:
        source = inspect.getsource(importlib.import_module(module))
        assert f"def {function}(" in source, f"{module} has no {function} any more: _compat.NEVER_SAVED names it"
    importlib.import_module(_compat.FUNCTIONS.removesuffix("."))
    model, found = probed(_compat.may_be_saved)
    steps = {
        "fit": lambda: model.fit(draw(2, 3), np.ones((2, 3)), verbose=0),
        "predict": lambda: model.predict(draw(2, 3), verbose=0),
        "an eager call": lambda: model(draw(2, 3)),
        "inference of shapes": lambda: model.layers[-1](keras.Input((3,))),
        "tf.function": lambda: framework.function(model)(draw(2, 3)),
        "export": lambda: model.export(tmp_path / "model", verbose=False),
    }
    for name, run in steps.items():
        found.clear()
        run()
        expected = name in ("tf.function", "export")
        assert found, f"{name}: the layer was not called"
        assert set(found) == {expected}, f"{name}: _compat.may_be_saved takes Keras's or TensorFlow's frames for others"


@only["tensorflow"]
def test_tensorflow_takes_functions_by_name_and_tensors_from_outside():
    from glasscell._ops import tensorflow_compat

    def double(x):
        return x * 2

    outside = framework.constant(1.0)

    @framework.function
    def run(x, compiled=False):
        tensorflow_compat.capture(lambda: outside)
        assert tensorflow_compat.compiled_by_xla() == compiled, "GraphOrParentsInXlaContext tells otherwise"
        return (
            x
            if compiled
            else framework.raw_ops.PyFuncStateless(input=[x], token="glasscell.test", Tout=[framework.float32])[0]
        )

    tensorflow_compat.register_py_function("glasscell.test", double)
    assert run(framework.constant(3.0)) == 6, "script_ops._py_funcs._funcs is not what PyFunc calls any more"
    captured = run.get_concrete_function(framework.constant(3.0)).captured_inputs
    assert any(t is outside for t in captured), "FuncGraph.capture captures no tensor any more"
    assert not tensorflow_compat.compiled_by_xla()
    framework.function(lambda x: run.python_function(x, compiled=True), jit_compile=True)(framework.constant(3.0))


@only["torch"]
@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre", "global"])
def test_hooks_are_noticed(kind):
    layer = layers.LSTM(3)
    assert not _compat.is_hooked(layer)
    register = framework.nn.modules.module.register_module_forward_hook if kind == "global" else None
    handle = (register or getattr(layer, f"register_{kind}_hook"))(lambda *_: None)
    try:
        assert _compat.is_hooked(layer), f"PyTorch keeps its {kind} hooks elsewhere: _compat.is_hooked misses them"
    finally:
        handle.remove()
    assert not _compat.is_hooked(layer)
