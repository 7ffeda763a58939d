"""Times the LSTMs that are installed on this machine, glasscell's among them: `glasscell bench`.

Every result is checked against the reference before it is timed, and all are timed in turn. `benchmarks/` in the
repository builds on it and compares more.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata, util
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import glasscell as gc
from glasscell import _native
from glasscell._cells.layouts import LSTMWeights, to_onnx, to_torch

Array = npt.NDArray[Any]
Work = Callable[[], tuple[Array, ...]]  # does the work once and gives its results
Turn = Callable[[float], float]  # works for some seconds and gives the seconds of a call

SHAPES = ("1,100,64,64", "32,100,128,128")
ONNX_OUTPUTS = ("Y", "hT", "cT")
WRONG = 1e-3  # of the largest value: far above float32's rounding here, far below any wrong term
ROUNDS, ROUND_SECONDS = 25, 0.03
DISTANT = 2.0  # times the fastest peer: whoever is slower is not in the running, and the fewest rounds will do
PAUSE = 0.005  # between turns: the threads of the one before fall asleep
SAMPLE_SECONDS = 0.001  # calls shorter than this are timed several together
COLD_SECONDS = 5.0  # a first call that takes longer counts: a second one would take too long


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
        """Of the matrix products: 8BTH(I+H) forward, and twice that again backward."""
        return 8 * self.B * self.T * self.H * (self.I + self.H) * (3 if train else 1)


class Problem(NamedTuple):
    """An LSTM and its input, float32. A work gives y; with `train` the gradients of kernel, recurrent kernel and bias.

    x: (B, T, I). target: (B, T, H). dy: (B, T, H), the gradient of the mean squared error.
    """

    shape: Shape
    train: bool
    weights: LSTMWeights
    x: Array
    target: Array
    dy: Array


def draw_problem(shape: Shape, train: bool) -> Problem:
    rng = np.random.default_rng(0)
    weights, x, target = draw_weights(shape, rng), *(rng.standard_normal((*shape[:2], n), "f4") for n in shape[2:])
    problem = Problem(shape, False, weights, x, target, target)
    (y,) = numpy_lstm(problem, "reference")()
    return problem._replace(train=train, dy=(y - target) * np.float32(2 / y.size))


def draw_weights(shape: Shape, rng: np.random.Generator) -> LSTMWeights:
    """Of the size of Keras's."""
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

    def infer() -> tuple[Array, ...]:
        with torch.inference_mode():
            return (module(x)[0].numpy(),)

    def train() -> tuple[Array, ...]:
        kernel, recurrent_kernel, bias, _ = torch.autograd.grad(module(x)[0], tuple(module.parameters()), dy)
        return kernel.numpy().T, recurrent_kernel.numpy().T, bias.numpy()

    return train if problem.train else infer


def keras_lstm(problem: Problem, ours: bool) -> Work:
    """A model of one layer, a batch at a time, on the backend that this process has."""
    for name, value in keras_environment(gc.num_threads()).items():
        os.environ.setdefault(name, value)
    if not missing("jax"):
        os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    import glasscell.keras

    kind = functools.partial(glasscell.keras.LSTM, engine="native") if ours else keras.layers.LSTM
    layer = kind(problem.shape.H, return_sequences=True)
    layer.build(problem.x.shape)
    layer.set_weights(list(problem.weights))
    work = keras_model([layer], problem.x, problem.target, problem.train)
    return (lambda: work()[1:]) if problem.train else work


def keras_environment(threads: int) -> dict[str, str]:
    """What Keras's backends must find when they are imported, to run on so many threads of the CPU, and in silence."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC", "GLASSCELL_NUM_THREADS")
    silent = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**dict.fromkeys(names, str(threads)), "TF_NUM_INTEROP_THREADS": "1", "JAX_PLATFORMS": "cpu", **silent}


def keras_model(layers: Sequence[Any], x: Array, target: Array, train: bool) -> Work:
    """A model of these layers, asked or trained a batch at a time. In training its first call gives the loss and the
    gradients of the weights."""
    import keras

    def weights() -> list[Array]:
        return [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.trainable_variables]

    def step() -> tuple[Array, ...]:
        loss, changed = np.asarray(model.train_on_batch(x, target)), weights() if before else []
        gradients = [old - new for old, new in zip(before, changed, strict=True)]
        before.clear()
        return loss, *gradients

    model = keras.Sequential([keras.Input(x.shape[1:]), *layers])
    model.compile(keras.optimizers.SGD(1.0), "mse")  # 1: a mean over so many elements has gradients that small
    before = weights()
    return step if train else lambda: (np.asarray(model.predict_on_batch(x)),)


def onnx_lstm(problem: Problem) -> Work:
    B, T, _, H = problem.shape
    x = np.ascontiguousarray(problem.x.swapaxes(0, 1))
    model = onnx_model(problem.weights, {"X": x, "Y": np.empty((T, 1, B, H), "f4")})
    session = onnx_session(model.SerializeToString(), gc.num_threads())
    return lambda: (session.run(None, {"X": x})[0][:, 0].swapaxes(0, 1),)


def onnx_model(weights: LSTMWeights, memory: Mapping[str, Array]) -> Any:
    """An LSTM node over time-major data. memory: its inputs and outputs, of their shapes and dtypes, by their names:
    X (T, B, I), the lengths N (B,), the states h, c, hT and cT (1, B, H), Y (T, 1, B, H); not all need be there."""
    from onnx import helper, numpy_helper

    constants, types = to_onnx(weights), helper.np_dtype_to_tensor_dtype
    values = {name: helper.make_tensor_value_info(name, types(a.dtype), a.shape) for name, a in memory.items()}
    names = [
        [name if name in constants or name in memory else "" for name in order]
        for order in (("X", "W", "R", "B", "N", "h", "c"), ONNX_OUTPUTS)
    ]
    node = helper.make_node("LSTM", *names, hidden_size=weights.recurrent_kernel.shape[0])
    given, results = ([values[name] for name in order if name in values] for order in names)
    initial = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([node], "lstm", given, results, initial)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def onnx_session(model: bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    # As fast as with the default of some 60 ms, in which its waiting threads would double the next contestant's time.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "1000")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


CONTESTANTS: dict[str, tuple[Callable[[Problem], Work], tuple[str, ...]]] = {  # and the packages that each needs
    "glasscell": (numpy_lstm, ()),
    "glasscell.torch.LSTM": (lambda problem: torch_lstm(problem, True), ("torch",)),
    "torch.nn.LSTM": (lambda problem: torch_lstm(problem, False), ("torch",)),
    "glasscell.keras.LSTM": (lambda problem: keras_lstm(problem, True), ("keras",)),
    "keras.layers.LSTM": (lambda problem: keras_lstm(problem, False), ("keras",)),
    "ONNX Runtime": (onnx_lstm, ("onnx", "onnxruntime")),
}


def check(name: str, results: Sequence[Array], right: Sequence[Array], kept: Array | None = None) -> None:
    """Compare results with the right ones. kept: of the first, all else is a convention; default, all.

    Raises: RuntimeError where one is wrong.
    """
    for k, (got, want) in enumerate(zip(results, right, strict=True)):
        if got.shape != want.shape:
            raise RuntimeError(f"{name}: result {k} has shape {got.shape}, not {want.shape}; no time for it")
        difference = np.abs(got - want) if k or kept is None else np.abs(got - want)[kept]
        error = float(difference.max()) / (float(np.abs(want).max()) or 1.0)  # one step has a zero gradient of R
        if not error < WRONG:
            raise RuntimeError(f"{name}: result {k} is off by {error:.1e} of its scale; no time for it")


def turn(work: Callable[[], object], seconds: float) -> float:
    """Seconds a call: the shortest sample of a turn of at least `seconds`.

    What else goes on in a machine only ever adds to a time. The first call warms up and does not count, unless it takes
    very long: memory that the system took back since the turn before comes at the price of more than the work.
    """
    start = time.perf_counter()
    work()
    if (first := time.perf_counter() - start) >= max(seconds, COLD_SECONDS):
        return first
    calls, best, start = math.ceil(SAMPLE_SECONDS / first), math.inf, time.perf_counter()
    begun = start
    while True:
        for _ in range(calls):
            work()
        ended = time.perf_counter()
        best, begun = min(best, (ended - begun) / calls), ended
        if begun - start >= seconds:
            return best


def timed(
    turns: Mapping[str, Turn], enough: float, fewest: int, between: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Seconds of a call by name: the least of ROUNDS rounds, or of `fewest` at least once `enough` seconds are over.

    The least, as of the machine's limits: on a shared machine the ratio of two medians differed by 7 to 49 % from run
    to run, that of two least times by 2 to 10 %. `between` is called before each round.
    """
    best, running, start = dict.fromkeys(turns, math.inf), list(turns), time.perf_counter()
    for done in range(ROUNDS if turns else 0):
        if done >= fewest and time.perf_counter() - start > enough:
            break
        if done == fewest:
            fastest = min((s for name, s in best.items() if not name.startswith("glasscell")), default=0.0)
            running = [n for n in running if n.startswith("glasscell") or best[n] <= DISTANT * fastest]
        time.sleep(PAUSE)
        between()
        first = done % len(running)
        for name in running[first:] + running[:first]:  # nobody is always the next
            time.sleep(PAUSE)
            best[name] = min(best[name], turns[name](ROUND_SECONDS))
    return best


def missing(*packages: str) -> list[str]:
    """Those that are not installed."""
    return [package for package in packages if util.find_spec(package) is None]


def reason(error: BaseException) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def main(shapes: Sequence[str] = SHAPES, modes: Sequence[str] = ("infer", "train")) -> None:
    """Time each shape, "B,T,I,H", in each mode; print a line of each contestant as soon as it is timed.

    Raises: ValueError naming a wrong shape; RuntimeError where a result is wrong.
    """
    sizes, left_out, shares = {shape: Shape.parse(shape) for shape in shapes}, dict[str, str](), list[float]()
    width, threads, peak = max(map(len, ("B,T,I,H", *sizes))), gc.num_threads(), 0.0
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    print(f"{'B,T,I,H':{width}}  mode   {'':20}        ms   times  of peak", flush=True)
    for shape, mode in itertools.product(sizes, modes):
        problem = draw_problem(sizes[shape], mode == "train")
        turns = _ready(problem, f"{shape} {mode}", left_out)
        peak = max(peak, *(_native.peak_flops(threads) for _ in range(ROUNDS)))
        best = timed(turns, enough=1.0, fewest=3)
        _note("", "")
        for name, seconds in best.items():
            times, share = seconds / best["glasscell"], problem.shape.flops(problem.train) / seconds / peak
            shares += [share] if name == "glasscell" else []
            cells = f"{mode:5}  {name:20}  {seconds * 1e3:8.4g}  {times:6.2f}  {share:7.0%}"
            print(f"{shape:{width}}  {cells}", flush=True)
    print("times: as long as glasscell takes; the least of several rounds, all in turn")
    reached = " to ".join(dict.fromkeys(f"{share:.0%}" for share in (min(shares), max(shares))))
    print(f"threads {threads}, {_native.target()}; glasscell at {reached} of the measured {peak / 1e9:.0f} GFLOP/s")
    if "keras.layers.LSTM" in best:
        backend = sys.modules["keras"].backend.backend()
        print(f"Keras {metadata.version('keras')} on {backend}: predict_on_batch and train_on_batch of a model")
    if load > 1:
        print(f"others were at work here (load average {load:.1f}): close them, and time again")
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")


def _ready(problem: Problem, title: str, left_out: dict[str, str]) -> dict[str, Turn]:
    """Who takes part, each result checked; the others go to left_out, with the reason."""
    right, turns = numpy_lstm(problem, "reference")(), dict[str, Turn]()
    _note(title, "")
    for name, (make, needs) in CONTESTANTS.items():
        if gone := missing(*needs):
            left_out[name] = f"{' and '.join(gone)} not installed"
        elif name != "ONNX Runtime" or not problem.train:
            _note(title, name)
            try:
                work = make(problem)
                results = work()
            except Exception as error:
                if name == "glasscell":
                    raise
                left_out[name] = reason(error)
                continue
            check(name, results, right)
            turns[name] = functools.partial(turn, work)
    return turns


def _note(title: str, step: str) -> None:
    """On standard error what goes on; on a terminal every step, and the next line takes its place."""
    if sys.stderr.isatty():
        print(f"{title} {step}".ljust(60), end="\r", file=sys.stderr, flush=True)
    elif title and not step:
        print(f"glasscell bench: {title}", file=sys.stderr, flush=True)
