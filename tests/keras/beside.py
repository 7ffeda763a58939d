"""Our layers beside those of `keras.layers`, with the same weights, on the backend of this process."""

import importlib

import keras
import numpy as np
from keras import layers, ops

import glasscell.keras as ours
from compare import assert_close
from fresh import run_python

BACKEND = keras.backend.backend()
framework = importlib.import_module(BACKEND)
# Both sides sum in float32, in another order: a few roundings of the largest value, grown over up to a dozen steps.
RELATIVE = 1e-5
LIBRARIES = (layers, ours)


def numbers(values):
    """Lists the tensors of a structure as NumPy arrays."""
    return [np.asarray(ops.convert_to_numpy(v)) for v in keras.tree.flatten(values)]


def number(value):
    """Gives one tensor as a NumPy array."""
    (array,) = numbers(value)
    return array


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def twins(make, shape):
    """Makes Keras's layer and ours, `make(library)`, built for inputs of this shape and with the same weights."""
    theirs, mine = map(make, LIBRARIES)
    theirs.build(shape), mine.build(shape)
    mine.set_weights(theirs.get_weights())
    return theirs, mine


# Methods of a subclass, each made of the class that it stands in.
def call_with(**changes):
    """Makes a `call` that passes on other arguments: each change is a function of (layer, x, it)."""

    def methods(base):
        def call(self, sequences, initial_state=None, mask=None, training=False):
            given = {"sequences": sequences, "initial_state": initial_state, "mask": mask, "training": training}
            given |= {name: change(self, sequences, given[name]) for name, change in changes.items()}
            return base.call(self, given.pop("sequences"), **given)

        return {"call": call}

    return methods


def other_loop(base):
    def inner_loop(self, sequences, initial_state, mask, training=False):
        initial_state = keras.tree.map_structure(lambda s: s + 0.5, initial_state)
        return base.inner_loop(self, sequences * 0.5, initial_state, mask, training)

    return {"inner_loop": inner_loop}


def other_start(base):
    def get_initial_state(self, batch_size):
        return keras.tree.map_structure(lambda s: s + 0.25, base.get_initial_state(self, batch_size))

    return {"get_initial_state": get_initial_state}


def double(base):
    """Makes a cell put out twice its h: other equations."""

    def call(self, inputs, states, training=False):
        h, states = base.call(self, inputs, states, training=training)
        return h * 2, states

    return {"call": call}


def ones(base):
    """Makes a cell begin with a state that is not zero."""

    def get_initial_state(self, batch_size=None):
        return [ops.ones((batch_size, self.units)) * 0.5, ops.ones((batch_size, self.units))]

    return {"get_initial_state": get_initial_state}


def assert_agree(got, expected, relative=RELATIVE, what=""):
    """Holds the tensors of two structures against each other."""
    for k, (g, e) in enumerate(zip(numbers(got), numbers(expected), strict=True)):
        assert_close(g, e, relative, f"{k} of {what}")


def run_code(code, *arguments, **environment):
    """Runs Python code in a fresh process on the same backend."""
    return run_python("-c", code, *arguments, KERAS_BACKEND=BACKEND, TF_CPP_MIN_LOG_LEVEL="3", **environment)


def assert_runs(code, *arguments, **environment):
    run = run_code(code, *arguments, **environment)
    assert run.returncode == 0, run.stderr[-3000:]


def total(outputs, losses):
    """Sums all outputs with weights, and what the layer adds to a model's loss."""
    draws, outputs = np.random.default_rng(1), keras.tree.flatten(outputs)
    weights = [ops.convert_to_tensor(draws.standard_normal(o.shape).astype("float32")) for o in outputs]
    return sum(ops.sum(o * w) for o, w in zip(outputs, weights, strict=True)) + sum(losses)


def learn(layer, x, call, inputs=True):
    """Computes the outputs of a call, the gradients of their `total` and what the call moves (states, seeds).

    The gradients are those of the weights, and with `inputs` of x and the initial states before them.
    """
    outputs, gradients = LEARN[BACKEND](layer, x, dict(call), inputs)
    return [numbers(part) for part in (outputs, gradients, [v.value for v in layer.non_trainable_variables])]


def learn_jax(layer, x, call, inputs):
    trainable, others = ([v.value for v in vs] for vs in (layer.trainable_variables, layer.non_trainable_variables))
    state = call.pop("initial_state", None)

    def loss(variables, x, state):
        extra = {} if state is None else {"initial_state": state}
        outputs, moved, losses = layer.stateless_call(variables, others, x, return_losses=True, **call, **extra)
        return total(outputs, losses), (outputs, moved)

    sources = (1, 2, 0) if inputs else (0,)
    gradients, (outputs, moved) = framework.jit(framework.grad(loss, argnums=sources, has_aux=True))(
        trainable, x, state
    )
    for variable, value in zip(layer.non_trainable_variables, moved, strict=True):
        variable.assign(value)
    return outputs, gradients


def learn_torch(layer, x, call, inputs):
    sources = [x, *keras.tree.flatten(call.get("initial_state", []))] if inputs else []
    sources = [t.requires_grad_() for t in sources] + [v.value for v in layer.trainable_variables]
    outputs = layer(x, **call)
    gradients = framework.autograd.grad(total(outputs, layer.losses), sources, allow_unused=True)
    return outputs, [framework.zeros_like(s) if g is None else g for s, g in zip(sources, gradients, strict=True)]


def learn_tensorflow(layer, x, call, inputs):
    sources = [x, *keras.tree.flatten(call.get("initial_state", []))] if inputs else []
    with framework.GradientTape() as tape:
        for tensor in sources:
            tape.watch(tensor)
        outputs = layer(x, **call)
        loss = total(outputs, layer.losses)
    sources += [v.value for v in layer.trainable_variables]
    return outputs, tape.gradient(loss, sources, unconnected_gradients="zero")


LEARN = {"jax": learn_jax, "torch": learn_torch, "tensorflow": learn_tensorflow}
