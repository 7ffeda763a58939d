"""One row's problem, made from a seed wherever it is needed; its right answer; and the check against it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import glasscell as gc
from glasscell.bench.shapes import TORCH_MODES, TRAINING, Shape
from glasscell.weights import LSTMWeights

Array = npt.NDArray[Any]
Work = Callable[[], tuple[Array, ...]]  # does the work once and gives the results

WRONG = 1e-3  # of the largest value: far above float32's rounding here, far below any wrong term
DROPPED = 0.25  # the rate of recurrent dropout
SHORTEST = 5  # of the drawn lengths
EPISODE = 20  # steps, on average
PACKED = "torch packed"  # so begin the modes of packed sequences, in and out
CHECKED_STEPS = 3  # of the mode "step"


class Problem(NamedTuple):
    """An LSTM, its input, and what is asked of it, float32.

    What a work gives: y; with `train`, also the gradients of kernel and recurrent kernel under dy, or of a PyTorch
    module those of x, kernel, recurrent kernel and both biases; in modes "torch packed" what has steps is packed.
    Mode "step": x is (B, I), every call is one more step with it, from a zero state, and gives h. Mode "trace": the
    arrays of a Trace.

    x: (B, T, I), or (B, I) in mode "step". dy: (B, T, H), zero at steps beyond the lengths.
    lengths: (B,) in modes "lengths", "torch packed", "torch lengths" and with "-train"; else None.
    recurrent_mask: (4, B, H) in mode "recurrent-dropout", for those who take it; else None.
    reset: (B, T) bool in mode "torch reset", True where an episode starts; else None.
    """

    shape: Shape
    mode: str
    threads: int
    weights: LSTMWeights
    x: Array
    dy: Array
    lengths: Array | None
    recurrent_mask: Array | None
    reset: Array | None = None

    @property
    def train(self) -> bool:
        return self.mode in TRAINING

    @property
    def kept(self) -> Array | None:
        """(B, T) bool: the steps within the lengths."""
        return None if self.lengths is None else np.arange(self.shape.T) < self.lengths[:, None]

    @property
    def packed_rows(self) -> Array | None:
        """(B,) the rows in the order of a packed sequence, the longest first, in modes "torch packed"; else None."""
        if self.lengths is None or not self.mode.startswith(PACKED):
            return None
        return np.argsort(-self.lengths, kind="stable")

    def given(self, steps: Array) -> Array:
        """(B, T, ...) as a work takes or gives it: in modes "torch packed" (N, ...), step by step the rows in it."""
        rows, kept = self.packed_rows, self.kept
        return steps if rows is None or kept is None else steps[rows].swapaxes(0, 1)[kept[rows].T]

    @property
    def kept_share(self) -> float:
        return 1.0 if self.lengths is None else float(self.lengths.mean()) / self.shape.T


def make_problem(shape: Shape, mode: str, threads: int) -> Problem:
    """The same arrays in every process: random weights of Keras's size, input and output gradient."""
    B, T, inputs, H = shape
    rng = np.random.default_rng(0)

    def draw(*size: int) -> Array:
        return rng.standard_normal(size, np.float32)

    weights = LSTMWeights(draw(inputs, 4 * H) / inputs**0.5, draw(H, 4 * H) / H**0.5, draw(4 * H))
    x, dy = draw(B, T, inputs), draw(B, T, H)
    lengths = rng.integers(min(SHORTEST, T), T + 1, B) if "lengths" in mode or mode.startswith(PACKED) else None
    mask = (rng.random((4, B, H), np.float32) >= DROPPED) / np.float32(1 - DROPPED)
    problem = Problem(shape, mode, threads, weights, x, dy, lengths, mask if mode == "recurrent-dropout" else None)
    if mode == "torch reset":
        problem = problem._replace(reset=rng.random((B, T)) < 1 / EPISODE)
    if (kept := problem.kept) is not None:
        problem = problem._replace(dy=np.where(kept[:, :, None], dy, np.float32(0)))
    return problem._replace(x=x[:, 0]) if mode == "step" else problem


def expected(problem: Problem) -> tuple[Array, ...]:
    """The right results, by the NumPy engine."""
    B, _, inputs, H = problem.shape
    layer = gc.LSTM(H, return_sequences=True, engine="reference")
    layer.cell.set_weights(list(problem.weights))
    if problem.mode == "step":
        return (np.asarray(layer(np.broadcast_to(problem.x[:, None], (B, CHECKED_STEPS, inputs)))),)
    if problem.mode == "trace":
        return tuple(layer.trace(problem.x).asdict().values())
    if not problem.train:
        return (problem.given(np.asarray(layer(problem.x, lengths=problem.lengths))),)
    y, pullback = layer.vjp(
        problem.x, lengths=problem.lengths, reset=problem.reset, recurrent_dropout_mask=problem.recurrent_mask
    )
    gradients = pullback(problem.dy)
    if problem.mode in TORCH_MODES:
        bias = np.asarray(gradients.bias)
        y, dx = problem.given(np.asarray(y)), problem.given(gradients.x)
        return y, dx, gradients.kernel, gradients.recurrent_kernel, bias, bias
    return y, gradients.kernel, gradients.recurrent_kernel


def first_results(work: Work, problem: Problem) -> tuple[Array, ...]:
    """What is checked: the results of the first call, or in mode "step" of the first few, (B, steps, H)."""
    if problem.mode != "step":
        return work()
    return (np.stack([np.array(work()[0]) for _ in range(CHECKED_STEPS)], axis=1),)


def check(name: str, results: tuple[Array, ...], right: tuple[Array, ...], problem: Problem) -> None:
    """Compare what `first_results` gave with `expected`. Raises: RuntimeError where it is wrong."""
    for k, (got, want) in enumerate(zip(results, right, strict=True)):
        padded = k == 0 and problem.packed_rows is None  # then what stands beyond a length is a convention
        check_close(name, k, got, want, problem.kept if padded else None)


def check_close(name: str, k: int, got: Array, want: Array, kept: Array | None = None) -> None:
    """Compare one result, or what is kept of it. Raises: RuntimeError where it is wrong."""
    if got.shape != want.shape:
        raise RuntimeError(f"{name}: result {k} has shape {got.shape}, not {want.shape}; no time for it")
    difference = np.abs(got - want)
    if kept is not None:
        difference = difference[kept]
    error = float(difference.max()) / (float(np.abs(want).max()) or 1.0)  # one step has a zero gradient of R
    if not error < WRONG:
        raise RuntimeError(f"{name}: result {k} is off by {error:.1e} of its scale; no time for it")
