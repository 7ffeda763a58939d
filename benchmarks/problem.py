"""One row's problem, made from a seed wherever it is needed; its right answer; and the check against it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import glasscell as gc
from benchmarks.shapes import DROPOUT, PACKED, RESET, TORCH, trains
from glasscell._cells.layouts import LSTMWeights
from glasscell._cli import bench
from glasscell._cli.contestants import Shape, Work, draw_weights

Array = npt.NDArray[Any]

DROPPED = 0.25  # the rate of recurrent dropout
SHORTEST = 5  # of the drawn lengths
EPISODE = 20  # steps, on average
CHECKED_STEPS = 3  # of the mode "step"
SEED = 0


class Problem(NamedTuple):
    """An LSTM, its input and its mode, float32.

    A work gives y; in training, also the gradients of kernel and recurrent kernel under dy, or of a PyTorch
    module those of x, kernel, recurrent kernel and both biases; in modes "torch packed" arrays with steps are packed.
    Mode "step": x is (B, I), every call is one more step with it, from a zero state, and gives h. Mode "trace": the
    arrays of a Trace. Keras models: y, or in training the loss and the gradient of each weight.

    x: (B, T, I), or (B, I) in mode "step". dy: (B, T, H), zero at steps beyond the lengths; what Keras models aim at.
    lengths: (B,) in modes with lengths, packed sequences or a mask; else None.
    recurrent_dropout_mask: (4, B, H) in modes "recurrent-dropout", for peers that take it or draw it alike; else None.
    reset: (B, T) bool in mode "torch reset", True where an episode starts; else None.
    """

    shape: Shape
    mode: str
    threads: int
    weights: LSTMWeights
    x: Array
    dy: Array
    lengths: Array | None
    recurrent_dropout_mask: Array | None
    reset: Array | None

    @property
    def train(self) -> bool:
        return trains(self.mode)

    @property
    def kept(self) -> Array | None:
        """(B, T) bool: the steps within the lengths."""
        return None if self.lengths is None else np.arange(self.shape.T) < self.lengths[:, None]

    @property
    def packed_rows(self) -> Array | None:
        """(B,) the rows in the order of a packed sequence, the longest first, in modes "torch packed"; else None."""
        return None if self.mode not in PACKED or self.lengths is None else np.argsort(-self.lengths, kind="stable")

    def packed(self, steps: Array) -> Array:
        """(B, T, ...) as a work takes or gives it: in modes "torch packed" (N, ...), step by step the rows in it."""
        rows, kept = self.packed_rows, self.kept
        return steps if rows is None or kept is None else steps[rows].swapaxes(0, 1)[kept[rows].T]

    @property
    def kept_share(self) -> float:
        return 1.0 if self.lengths is None else float(self.lengths.mean()) / self.shape.T


def make_problem(shape: Shape, mode: str, threads: int) -> Problem:
    """The same arrays in every process: random weights of Keras's size, input and output gradient."""
    B, T, inputs, H = shape
    rng = np.random.default_rng(SEED)
    weights, x, dy = draw_weights(shape, rng), *(rng.standard_normal((B, T, n), "f4") for n in (inputs, H))
    has_lengths = mode in PACKED or any(word in mode for word in ("lengths", "masked"))
    lengths = rng.integers(min(SHORTEST, T), T + 1, B) if has_lengths else None
    mask = None
    if mode in DROPOUT:
        from benchmarks import torch_peers

        mask = torch_peers.first_masks(B, H)
    elif mode == "recurrent-dropout":
        mask = (rng.random((4, B, H), np.float32) >= DROPPED) / np.float32(1 - DROPPED)
    reset = rng.random((B, T)) < 1 / EPISODE if mode in RESET else None
    problem = Problem(shape, mode, threads, weights, x, dy, lengths, mask, reset)
    if (kept := problem.kept) is not None:
        problem = problem._replace(dy=np.where(kept[:, :, None], dy, np.float32(0)))
    return problem._replace(x=x[:, 0]) if mode == "step" else problem


def expected(problem: Problem) -> tuple[Array, ...]:
    """The right results, by the NumPy engine."""
    if problem.mode.startswith("keras "):
        return _expected_of_a_model(problem)
    layer = _reference(problem)
    if problem.mode == "step":
        (B, inputs), steps = problem.x.shape, CHECKED_STEPS
        return (np.asarray(layer(np.broadcast_to(problem.x[:, None], (B, steps, inputs)))),)
    if problem.mode == "trace":
        return tuple(layer.trace(problem.x).asdict().values())
    if not problem.train:
        return (problem.packed(np.asarray(layer(problem.x, lengths=problem.lengths))),)
    y, pullback = layer.vjp(
        problem.x, lengths=problem.lengths, reset=problem.reset, recurrent_dropout_mask=problem.recurrent_dropout_mask
    )
    gradients = pullback(problem.dy)
    kernels = gradients.kernel, gradients.recurrent_kernel
    if problem.mode not in TORCH:
        return y, *kernels
    bias = np.asarray(gradients.bias)
    return problem.packed(np.asarray(y)), problem.packed(gradients.x), *kernels, bias, bias


def _expected_of_a_model(problem: Problem) -> tuple[Array, ...]:
    """Prediction, or loss and gradients of the mean squared error of the steps kept. Both directions of a bidirectional
    model have the same weights and the same target."""
    both = 1 + ("bidirectional" in problem.mode)
    passes = [
        _reference(problem, go_backwards=k == 1).vjp(
            problem.x, lengths=problem.lengths, recurrent_dropout_mask=problem.recurrent_dropout_mask
        )
        for k in range(both)
    ]
    flips = [slice(None), slice(None, None, -1)]  # backwards, y comes in the order of the work
    ys = [np.asarray(y)[:, flip] for (y, _), flip in zip(passes, flips, strict=False)]
    if not problem.train:
        return (np.concatenate(ys, 2),)
    kept = np.ones(problem.dy.shape[:2], bool) if problem.kept is None else problem.kept
    off = [np.where(kept[:, :, None], y - problem.dy, np.float32(0)) for y in ys]
    count = both * kept.sum() * problem.shape.H
    gradients: list[Any] = []
    for (_, pullback), flip, difference in zip(passes, flips, off, strict=False):
        g = pullback(np.ascontiguousarray(difference[:, flip] * np.float32(2 / count)))
        gradients += [g.kernel, g.recurrent_kernel, g.bias]
    return np.float32(np.sum(np.square(off)) / count), *gradients


def _reference(problem: Problem, go_backwards: bool = False) -> gc.LSTM:
    layer = gc.LSTM(problem.shape.H, return_sequences=True, engine="reference", go_backwards=go_backwards)
    layer.cell.set_weights(list(problem.weights))
    return layer


def first_results(work: Work, problem: Problem) -> tuple[Array, ...]:
    """The results to check: of the first call, or in mode "step" of the first few, (B, steps, H)."""
    if problem.mode != "step":
        return work()
    return (np.stack([np.array(work()[0]) for _ in range(CHECKED_STEPS)], axis=1),)


def check(name: str, results: tuple[Array, ...], right: tuple[Array, ...], problem: Problem) -> None:
    """Compare the results of `first_results` with those of `expected`. Raises: RuntimeError where one is wrong."""
    kept, shape = problem.kept, right[0].shape
    if kept is not None and shape[:2] == kept.shape == results[0].shape[:2]:  # beyond a length h is a convention
        results, right = ((y[kept], *others) for y, *others in (results, right))
    bench.check(name, results, right)
