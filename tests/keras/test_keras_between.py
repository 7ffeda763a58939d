"""Somebody's code between a layer's call and its loop: subclasses, methods set on an object, hooks, cells of their own.

Whatever stands there must act as it does in `keras.layers`, above all inside `Bidirectional`, which runs its directions
side by side. On the backend of this process; tests/keras/test_keras_backends.py runs this file on the others.
"""

import types

import keras
import numpy as np
import pytest
from beside import BACKEND, LIBRARIES, assert_agree, call_with, draw, framework, numbers, other_loop, other_start
from keras import layers, ops

import glasscell.keras as ours

B, T, F, H = 3, 5, 3, 4  # F is not H, so nothing fits by accident
MASK = np.array([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 0, 1, 0]], bool)  # leading gaps, an empty row


def tensors(call):
    return {k: v if k == "training" else keras.tree.map_structure(ops.convert_to_tensor, v) for k, v in call.items()}


def bidirectional(library, layer):
    """The layer in a Bidirectional, which copies it by its configuration."""
    known = {type(part).__name__: type(part) for part in (layer, layer.cell)}
    with keras.saving.custom_object_scope(known):
        return library.Bidirectional(layer)


def both(make, calls=({},), x=None, after=None):
    """Calls Keras's layer and ours, one call after another, from the same weights; gives both results and our layer.

    after: what is done to each of them before the calls.
    """
    x, found = draw(B, T, F) if x is None else x, []
    for library in LIBRARIES:
        keras.utils.set_random_seed(1)
        layer = make(library)
        layer.build(x.shape)
        weights = [draw(*w.shape, seed=k) / 2 for k, w in enumerate(layer.get_weights())]
        layer.set_weights(weights)
        if after is not None:
            after(layer)
        found.append([numbers(layer(ops.convert_to_tensor(x), **tensors(call))) for call in calls])
    return *found, layer


def check(make, *calls, **options):
    """Holds the results of `both` against each other; gives those of Keras's layer, and our layer."""
    expected, got, layer = both(make, calls or [{}], **options)
    assert_agree(got, expected)
    return expected, layer


def forward_of(layer):
    return getattr(layer, "forward_layer", layer)


def loop_called_by_itself(base):
    def call(self, sequences, initial_state=None, mask=None, training=False):
        state = [ops.ones((B, H)), ops.ones((B, H))]
        last, outputs, _ = self.inner_loop(sequences, state, mask, training)
        return outputs if self.return_sequences else last

    return {"call": call}


METHODS = {
    "always training": call_with(training=lambda *_: True),
    "other input": call_with(sequences=lambda self, x, _: x * 2 + 1),
    "other mask": call_with(mask=lambda self, x, m: ops.convert_to_tensor(MASK) if m is None else ops.logical_not(m)),
    "other state": call_with(initial_state=lambda *_: [ops.ones((B, H)) * 0.3, ops.ones((B, H))]),
    "other loop": other_loop,
    "loop called by itself": loop_called_by_itself,
    "other start": other_start,
}
CALLS = [{}, {"training": True}, {"mask": MASK}]


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "Bidirectional"])
@pytest.mark.parametrize("methods", METHODS)
def test_a_subclass_acts_as_it_does_in_keras(methods, wrapped):
    always = methods == "always training"  # whoever wants an uncertainty calls a layer on the same input many times

    def make(library):
        changed = type("Changed", (library.LSTM,), METHODS[methods](library.LSTM))
        layer = changed(H, dropout=0.5, recurrent_dropout=0.2 * always, seed=3, return_sequences=True)
        return bidirectional(library, layer) if wrapped else layer

    expected, _ = check(make, *CALLS, *[{}] * 3 * always)
    spread = np.stack([expected[0][0], *(call[0] for call in expected[len(CALLS) :])]).std(0)
    assert (spread.max() > 1e-3) == always


@pytest.mark.parametrize("methods", METHODS)
def test_a_method_set_on_an_object_acts(methods):
    def make(library):
        return library.Bidirectional(library.LSTM(H, dropout=0.5, seed=3, return_sequences=True))

    def after(layer):
        forward = layer.forward_layer
        for name, function in METHODS[methods](type(forward)).items():
            setattr(forward, name, types.MethodType(function, forward))

    expected, _ = check(make, *CALLS, after=after)
    plain, _ = check(make, *CALLS)
    assert any(np.abs(a[0] - b[0]).max() > 1e-3 for a, b in zip(expected, plain, strict=True))  # it did act


def test_a_subclass_of_bidirectional_acts():
    def make(library):
        class Changed(library.Bidirectional):
            def call(self, sequences, initial_state=None, mask=None, training=None):
                first = super().call(sequences, initial_state=initial_state, mask=mask, training=True)
                again = super().call(sequences, initial_state=initial_state, mask=mask, training=True)
                return first, again, self.forward_layer(sequences * 2, mask=mask)

        return Changed(library.LSTM(H, dropout=0.5, seed=3, return_sequences=True))

    expected, layer = check(make, {}, {"mask": MASK})
    assert np.abs(expected[0][0] - expected[0][1]).max() > 1e-3  # each call draws anew
    assert layer.engine_used == "native"


def test_a_bidirectional_layer_of_another_dtype():
    """Between it and its directions stands a cast."""
    if BACKEND == "jax":
        pytest.skip("JAX has no float64 without a switch of its own")
    x = draw(B, T, F).astype("float64")
    for outer, inner in (("float32", "float64"), ("float64", "float32")):

        def make(library, outer=outer, inner=inner):
            return library.Bidirectional(library.LSTM(H, dtype=inner, return_sequences=True), dtype=outer)

        _, layer = check(make, {}, {"mask": MASK}, x=x)
        assert layer.engine_used == "native"


def test_integers_in_a_bidirectional_layer_of_mixed_precision():
    """No cast stands between, and what the outer layer computes in is not what its directions do."""
    x = (draw(B, T, F) * 3).astype("int32")

    def make(library):
        return library.Bidirectional(library.LSTM(H, return_sequences=True, dtype="float32"), dtype="mixed_bfloat16")

    expected, got, _ = both(make, x=x)
    assert_agree(got[0][0].astype("float32"), expected[0][0].astype("float32"))


def test_what_keras_fills_in_on_the_way_to_a_direction():
    """Where `call` is called past `__call__`, the mask comes to the directions, and not to Bidirectional."""

    class Outer(keras.layers.Layer):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.masking = inner, layers.Masking()

        def build(self, shape):
            self.inner.build(shape)

        def call(self, x, training=None):
            return self.inner.call(self.masking(x)), self.inner.call(x, training=training)

    x = draw(B, T, F) * MASK[:, :, None]
    expected, layer = check(
        lambda library: Outer(library.Bidirectional(library.LSTM(H, return_sequences=True, dropout=0.5, seed=3))),
        *({"training": True}, {"training": False}, {}),
        x=x,
    )
    assert np.abs(expected[1][0] - expected[1][1]).max() > 1e-3  # the mask did act
    assert layer.inner.engine_used == "native"


def test_a_failing_call_leaves_no_draws_behind():
    layer = ours.Bidirectional(ours.LSTM(H, dropout=0.5, seed=3))
    with pytest.raises(Exception, match=r".") as caught:
        layer(
            ops.convert_to_tensor(draw(B, T, F)),
            initial_state=[ops.ones((B, H))] * 3 + [ops.ones((B, 2))],
            training=True,
        )
    assert isinstance(caught.value, (ValueError, TypeError, RuntimeError))
    for direction in (layer.forward_layer, layer.backward_layer):
        assert getattr(direction.cell, "_dropout_mask", None) is None


def test_a_stateful_bidirectional_layer_speaks_of_its_batch():
    texts = []
    for library in LIBRARIES:
        layer = library.Bidirectional(library.LSTM(H, stateful=True))
        layer(ops.convert_to_tensor(draw(B, T, F)))
        with pytest.raises(ValueError, match="batch size of the") as caught:
            layer(ops.convert_to_tensor(draw(B - 1, T, F)))
        texts.append(str(caught.value).split("Arguments received")[0])
    assert texts[1] == texts[0]


def test_rematerialised_layers():
    with keras.RematScope(mode="full"):
        check(lambda library: library.Bidirectional(library.LSTM(H, return_sequences=True)), {}, {"mask": MASK})


@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's hooks")
@pytest.mark.parametrize("kind", ["pre", "in place", "after", "weights", "global", "cell", "cell after", "stack"])
def test_hooks_of_torch_act(kind):
    torch = framework

    def doubled(module, arguments, keywords):
        return tuple(a * 2 for a in arguments), keywords

    def in_place(module, arguments):
        arguments[0].add_(1.0)

    def afterwards(module, arguments, output):
        arguments[0].mul_(0.5)  # the backward layer reads it next

    def weights(module, arguments):
        with torch.no_grad():
            module.cell.kernel.value.mul_(0.5)

    def everywhere(module, arguments):
        if isinstance(module, keras.layers.RNN):
            arguments[0].add_(1.0)

    def on_a_cell(module, arguments):
        return (arguments[0] * 2, *arguments[1:])

    def after_a_cell(module, arguments, output):
        return output[0] * 2, output[1]

    def make(library):
        if kind == "stack":
            return library.RNN([library.LSTMCell(H), library.LSTMCell(H)])
        return library.Bidirectional(library.RNN(library.LSTMCell(H), return_sequences=True))

    def hook(layer):
        cell = layer.cell
        return {
            "pre": lambda: layer.register_forward_pre_hook(doubled, with_kwargs=True),
            "in place": lambda: layer.register_forward_pre_hook(in_place),
            "weights": lambda: layer.register_forward_pre_hook(weights),
            "after": lambda: layer.register_forward_hook(afterwards),
            "global": lambda: torch.nn.modules.module.register_module_forward_pre_hook(everywhere),
            "cell": lambda: cell.register_forward_pre_hook(on_a_cell),
            "stack": lambda: cell.register_forward_pre_hook(on_a_cell),
            "cell after": lambda: cell.register_forward_hook(after_a_cell),
        }[kind]()

    plain, _ = check(make)
    found = []
    for library in LIBRARIES:
        layer = make(library)
        layer.build((B, T, F))
        layer.set_weights([draw(*w.shape, seed=k) / 2 for k, w in enumerate(layer.get_weights())])
        handle = hook(forward_of(layer))
        try:
            found.append(numbers(layer(torch.tensor(draw(B, T, F)))))
        finally:
            handle.remove()
    assert_agree(*found)
    assert np.abs(found[0][0] - plain[0][0]).max() > 1e-3  # it did act
