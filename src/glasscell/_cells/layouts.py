"""Holds the weights of a cell, and lays them out for other systems. No other file knows their layouts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from glasscell._cells.checks import Array, check_array, read_array


class LSTMWeights(NamedTuple):
    """`kernel: (I, 4H)`, `recurrent_kernel: (H, 4H)`, `bias: (4H,)` or None; columns i, f, g, o; C-contiguous."""

    kernel: Array
    recurrent_kernel: Array
    bias: Array | None

    @classmethod
    def from_torch(
        cls, weight_ih: Array, weight_hh: Array, bias_ih: Array | None = None, bias_hh: Array | None = None
    ) -> LSTMWeights:
        """From PyTorch's `weight_ih: (4H, I)`, `weight_hh: (4H, H)`, and its two biases (4H,), which add up.

        Arrays, tensors or parameters: `LSTMWeights.from_torch(*module.parameters())` takes a `torch.nn.LSTM` of one
        layer and direction.
        """
        weight_ih, weight_hh, bias_ih, bias_hh = map(_detached, (weight_ih, weight_hh, bias_ih, bias_hh))
        if (bias_ih is None) != (bias_hh is None):
            raise ValueError("bias_ih, bias_hh: expected both or neither")
        w_ih, w_hh, bias = read_array("weight_ih", weight_ih), read_array("weight_hh", weight_hh), None
        if bias_ih is not None:
            biases = {"bias_ih": bias_ih, "bias_hh": bias_hh}
            one, other = (check_array(name, b, w_hh.shape[:1], w_hh.dtype, "(4H,)") for name, b in biases.items())
            bias = one + other
        return cls(np.ascontiguousarray(w_ih.T), np.ascontiguousarray(w_hh.T), bias).checked()

    def checked(self) -> LSTMWeights:
        """These weights, C-contiguous. Raises: ValueError or TypeError where they do not fit each other."""
        kernel, recurrent_kernel = (read_array(name, getattr(self, name)) for name in ("kernel", "recurrent_kernel"))
        if recurrent_kernel.ndim != 2 or recurrent_kernel.shape[1] != 4 * recurrent_kernel.shape[0]:
            raise ValueError(f"recurrent_kernel: expected shape (H, 4H), got {recurrent_kernel.shape}")
        units, dtype = recurrent_kernel.shape[0], recurrent_kernel.dtype
        if dtype.kind != "f" or not dtype.isnative:
            raise TypeError(f"recurrent_kernel: expected a float dtype in this machine's byte order, got {dtype}")
        if kernel.ndim != 2:
            raise ValueError(f"kernel: expected shape (I, 4H), got {kernel.shape}")
        bias = self.bias
        return LSTMWeights(
            check_array("kernel", kernel, (kernel.shape[0], 4 * units), dtype, "(I, 4H)"),
            check_array("recurrent_kernel", recurrent_kernel, (units, 4 * units), dtype, "(H, 4H)"),
            None if bias is None else check_array("bias", bias, (4 * units,), dtype, "(4H,)"),
        )


def _detached(value: Any) -> Any:
    """A parameter of PyTorch's without its gradient, which NumPy would refuse to lose."""
    return value.detach() if hasattr(value, "detach") else value


def to_torch(weights: LSTMWeights) -> dict[str, Array]:
    """Lays the weights out for PyTorch, by the names of `LSTMWeights.from_torch`, with all of the bias in `bias_ih`."""
    kernel, recurrent_kernel, bias = weights
    biases = {} if bias is None else {"bias_ih": bias, "bias_hh": np.zeros_like(bias)}
    return {"weight_ih": kernel.T.copy(), "weight_hh": recurrent_kernel.T.copy(), **biases}


def to_onnx(weights: LSTMWeights) -> dict[str, Array]:
    """Lays the weights out for an ONNX LSTM node, in the gate order i, o, f, g.

    Returns `W: (1, 4H, I)`, `R: (1, 4H, H)`, `B: (1, 8H)`.
    """

    def reordered(rows: Array) -> Array:
        i, f, g, o = np.split(rows, 4)
        return np.concatenate([i, o, f, g])[None]

    W, R, *biases = (reordered(rows) for rows in to_torch(weights).values())
    return {"W": W, "R": R, **({"B": np.concatenate(biases, 1)} if biases else {})}
