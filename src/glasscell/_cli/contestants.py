"""Defines the LSTMs that `glasscell bench` times, and the problem that all of them get."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from importlib import util
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import glasscell as gc
from glasscell._cells.layouts import LSTMWeights, to_onnx, to_torch

Array = npt.NDArray[Any]
Work = Callable[[], tuple[Array, ...]]  # runs one call and returns its results


class Shape(NamedTuple):
    """B rows, T steps, I input features, H units."""

    B: int
    T: int
    I: int
    H: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """From "B,T,I,H". Raises: ValueError."""
        sizes = text.split(",")
        if len(sizes) != 4 or not all(size.strip().isdecimal() and int(size) for size in sizes):
            raise ValueError(f"shape: expected B,T,I,H, four positive integers, got {text!r}")
        return cls(*map(int, sizes))

    def flops(self, train: bool) -> int:
        """Floating-point operations of the matrix products: 8BTH(I+H) forward, and twice that again backward."""
        return 8 * self.B * self.T * self.H * (self.I + self.H) * (3 if train else 1)


class Problem(NamedTuple):
    """Holds an LSTM's weights and input, float32. The result is y; with `train` the gradients of the weights.

    x: (B, T, I). target: (B, T, H). dy: (B, T, H), the gradient of the mean squared error.
    """

    shape: Shape
    train: bool
    weights: LSTMWeights
    x: Array
    target: Array
    dy: Array


def draw_problem(shape: Shape, train: bool) -> Problem:
    """Draws the weights, the input and the target. Raises: MemoryError where the machine has too little memory."""
    _require_memory(shape)
    rng = np.random.default_rng(0)
    weights, x, target = draw_weights(shape, rng), *(rng.standard_normal((*shape[:2], n), "f4") for n in shape[2:])
    problem = Problem(shape, False, weights, x, target, target)
    (y,) = numpy_lstm(problem, "reference")()
    return problem._replace(train=train, dy=(y - target) * np.float32(2 / y.size))


def _require_memory(shape: Shape) -> None:
    """Raises MemoryError before any allocation: a system may grant more memory than it has, and kill the process."""
    B, T, I, H = shape
    needed = 4 * (4 * H * (I + H) + B * T * (I + H))  # bytes of the weights, the input and the output
    has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else needed
    if needed > has:
        size, have = (f"{number / 2**30:.4g} GiB" for number in (needed, has))
        raise MemoryError(f"{','.join(map(str, shape))} needs {size} for its arrays, and this machine has {have}")


def draw_weights(shape: Shape, rng: np.random.Generator) -> LSTMWeights:
    """Draws random weights of the size of Keras's initial ones."""
    inputs, units = shape[2:]
    kernel, recurrent_kernel = (rng.standard_normal((n, 4 * units), "f4") / n**0.5 for n in (inputs, units))
    return LSTMWeights(kernel, recurrent_kernel, rng.standard_normal(4 * units, "f4"))


def numpy_lstm(problem: Problem, engine: Any = "native") -> Work:
    layer = gc.LSTM(problem.shape.H, return_sequences=True, engine=engine)
    layer.cell.set_weights(list(problem.weights))

    def train() -> tuple[Any, ...]:
        gradients = layer.vjp(problem.x)[1](problem.dy)
        return gradients.kernel, gradients.recurrent_kernel, gradients.bias

    return train if problem.train else lambda: (np.asarray(layer(problem.x)),)


def torch_lstm(problem: Problem, ours: bool) -> Work:
    import torch

    import glasscell.torch

    torch.set_num_threads(gc.num_threads())
    kind = functools.partial(glasscell.torch.LSTM, engine="native") if ours else torch.nn.LSTM
    module = kind(*problem.shape[2:], batch_first=True)
    module.load_state_dict({f"{name}_l0": torch.from_numpy(w) for name, w in to_torch(problem.weights).items()})
    x, dy = torch.from_numpy(problem.x), torch.from_numpy(problem.dy)

    def work() -> tuple[Array, ...]:
        with torch.inference_mode(not problem.train):
            y = module(x)[0]
        if not problem.train:
            return (y.numpy(),)
        kernel, recurrent_kernel, bias, _ = torch.autograd.grad(y, tuple(module.parameters()), dy)
        return kernel.numpy().T, recurrent_kernel.numpy().T, bias.numpy()

    return work


def keras_lstm(problem: Problem, ours: bool) -> Work:
    """Makes a model of one layer, for one batch at a time, on the backend of this process."""
    backend = {} if missing("jax") else {"KERAS_BACKEND": "jax"}
    os.environ.update({**keras_environment(gc.num_threads()), **backend, **os.environ})
    import glasscell.keras  # isort: skip  # before Keras: it chooses a backend that is installed
    import keras

    kind = functools.partial(glasscell.keras.LSTM, engine="native") if ours else keras.layers.LSTM
    layer = kind(problem.shape.H, return_sequences=True)
    layer.build(problem.x.shape)
    layer.set_weights(list(problem.weights))
    work = keras_model([layer], problem.x, problem.target, problem.train)
    return (lambda: work()[1:]) if problem.train else work


def keras_environment(threads: int) -> dict[str, str]:
    """Returns environment variables that, set before import, make Keras's backends use `threads` CPU threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC", "GLASSCELL_NUM_THREADS")
    silent = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**dict.fromkeys(names, str(threads)), "TF_NUM_INTEROP_THREADS": "1", "JAX_PLATFORMS": "cpu", **silent}


def keras_model(layers: Sequence[Any], x: Array, target: Array, train: bool) -> Work:
    """Makes a model of these layers that predicts or trains one batch at a time.

    In training the first call returns the loss and the gradients of the weights, later calls only the loss.
    """
    import keras

    def weights() -> list[Array]:
        return [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.trainable_variables]

    def step() -> tuple[Array, ...]:
        loss, changed = np.asarray(model.train_on_batch(x, target)), weights() if before else []
        gradients = [old - new for old, new in zip(before, changed, strict=True)]
        before.clear()
        return loss, *gradients

    model = keras.Sequential([keras.Input(x.shape[1:]), *layers])
    model.compile(keras.optimizers.SGD(1.0), "mse")  # rate 1, for the gradients of a mean over many elements are small
    before = weights()
    return step if train else lambda: (np.asarray(model.predict_on_batch(x)),)


def onnx_lstm(problem: Problem) -> Work:
    """Makes an ONNX model of one LSTM node, over time-major data."""
    from onnx import TensorProto, helper, numpy_helper

    (B, T, _, H), x = problem.shape, np.ascontiguousarray(problem.x.swapaxes(0, 1))
    constants = [numpy_helper.from_array(array, name) for name, array in to_onnx(problem.weights).items()]
    node = helper.make_node("LSTM", ["X", *(constant.name for constant in constants)], ["Y"], hidden_size=H)
    sizes = {"X": x.shape, "Y": (T, 1, B, H)}
    X, Y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in sizes.items())
    graph = helper.make_graph([node], "lstm", [X], [Y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = onnx_session(model.SerializeToString(), gc.num_threads())
    return lambda: (session.run(None, {"X": x})[0][:, 0].swapaxes(0, 1),)


def onnx_session(model: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    # 1 ms is as fast as the default of some 60 ms, with which waiting threads would double the next contestant's time.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "1000")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


CONTESTANTS: dict[str, tuple[Callable[[Problem], Work], tuple[str, ...]]] = {  # with the packages of each
    "glasscell": (numpy_lstm, ()),
    "glasscell.torch.LSTM": (lambda problem: torch_lstm(problem, True), ("torch",)),
    "torch.nn.LSTM": (lambda problem: torch_lstm(problem, False), ("torch",)),
    "glasscell.keras.LSTM": (lambda problem: keras_lstm(problem, True), ("keras",)),
    "keras.layers.LSTM": (lambda problem: keras_lstm(problem, False), ("keras",)),
    "ONNX Runtime": (onnx_lstm, ("onnx", "onnxruntime")),
}


def missing(*packages: str) -> list[str]:
    """Lists the packages that are not installed."""
    return [package for package in packages if util.find_spec(package) is None]


def reason(error: BaseException) -> str:
    """Writes an exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
