"""Holds the weights of a cell, and converts them to and from other systems' layouts, which only this file knows."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from glasscell._cells.arguments import described
from glasscell._cells.checks import Array, check_array, read_array, shapes

TORCH = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class LSTMWeights(NamedTuple):
    """Holds the weights of a cell: `kernel: (I, 4H)`, `recurrent_kernel: (H, 4H)`, `bias: (4H,)` or None.

    The columns belong to the gates i, f, g, o, H each. The arrays are C-contiguous.
    """

    kernel: Array
    recurrent_kernel: Array
    bias: Array | None

    def __repr__(self) -> str:
        return shapes("LSTMWeights", self._asdict())

    @classmethod
    def from_torch(
        cls, weight_ih: Any, weight_hh: Any = None, bias_ih: Any = None, bias_hh: Any = None, *more: Any
    ) -> LSTMWeights:
        """Convert PyTorch's `weight_ih: (4H, I)`, `weight_hh: (4H, H)`, and its two biases (4H,), which are added.

        The arguments are arrays, tensors or parameters on any device. `LSTMWeights.from_torch(*module.parameters())`
        takes a `torch.nn.LSTM` of one layer and direction, or a `torch.nn.LSTMCell`; `LSTM.from_torch(module)` takes
        any `torch.nn.LSTM`.

        Raises: TypeError or ValueError naming an argument that does not fit.
        """
        if more or hasattr(weight_ih, "state_dict"):
            got = f"{4 + len(more)} of them" if more else type(weight_ih).__name__
            raise TypeError(
                f"weight_ih: expected the parameters of one layer and direction, got {got}; "
                "LSTM.from_torch(module).weights has those of a whole module"
            )
        return _one_direction(dict(zip(TORCH, (weight_ih, weight_hh, bias_ih, bias_hh), strict=True)), "")

    @classmethod
    def from_tf1(cls, kernel: Any, bias: Any = None, forget_bias: float = 1.0) -> LSTMWeights:
        """Convert TensorFlow 1's `kernel: (I + H, 4H)` and `bias: (4H,)`, whose columns are i, g, f, o.

        The first I rows of the kernel belong to x, the others to h. These are the variables of `BasicLSTMCell`,
        `LSTMCell` and `LSTMBlockCell` of `tf.nn.rnn_cell` and `tf.contrib.rnn`. In place of `kernel` a mapping may give
        the variables of one cell by their names in a checkpoint: `rnn/lstm_cell/kernel` and `rnn/lstm_cell/bias`.

        forget_bias: the number that such a cell adds to the forget gate when it runs. It is 1.0 unless the cell was
        made with another number. No variable holds it; here it is added to the bias.

        Raises: TypeError or ValueError naming an argument that does not fit, or a variable of a peephole (`w_f_diag`,
        `w_i_diag`, `w_o_diag`) or of a projection: the cell has neither.

            cell = glasscell.LSTMCell(64)
            cell.set_weights(glasscell.LSTMWeights.from_tf1(kernel, bias))
        """
        if isinstance(kernel, Mapping):
            if bias is not None:
                raise TypeError(f"bias: expected None beside a mapping, which has it, got {described(bias)}")
            kernel, bias = _tf1_variables(kernel)
        return _from_tf1(kernel, bias, forget_bias)

    def to_torch(self) -> dict[str, Array]:
        """Copies in PyTorch's layout, by the argument names of `from_torch`.

        `bias_ih` holds the whole bias and `bias_hh` zeros; weights without a bias give neither.
        """
        return to_torch(self)

    def checked(self) -> LSTMWeights:
        """Check the weights, and return them C-contiguous. Raises: ValueError or TypeError where they do not fit."""
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


def to_torch(weights: LSTMWeights) -> dict[str, Array]:
    """Lays the weights out for PyTorch, by the names of `LSTMWeights.from_torch`, with all of the bias in `bias_ih`."""
    kernel, recurrent_kernel, bias = weights
    biases = {} if bias is None else {"bias_ih": bias.copy(), "bias_hh": np.zeros_like(bias)}
    return {"weight_ih": kernel.T.copy(), "weight_hh": recurrent_kernel.T.copy(), **biases}


def torch_module_weights(module: Any) -> list[list[LSTMWeights]]:
    """Reads the weights of a `torch.nn.LSTM` or of its `state_dict()`: for each layer a list, one for each direction.

    Raises: TypeError for another kind of module; ValueError for a projection, and for arrays that do not fit.
    """
    named = _module_parameters(module) if hasattr(module, "state_dict") else module
    if not isinstance(named, Mapping):
        raise TypeError(f"module: expected a torch.nn.LSTM or its state_dict(), got {described(module)}")
    if any(str(name).startswith("weight_hr") for name in named):
        raise ValueError("module: expected proj_size=0, got a projection, which the cell has not")
    directions = 1 + any(str(name).endswith("_reverse") for name in named)
    bias = any(str(name).startswith("bias") for name in named)
    layers = max(1, sum(str(name).startswith("weight_ih") for name in named) // directions)
    expected = [name for suffixes in _suffixes(layers, directions) for s in suffixes for name in _names(s, bias)]
    for name in (*expected, *named):
        if name not in named or name not in expected:
            got = "nothing of this name" if name not in named else "it, which an LSTM has not"
            raise ValueError(f"{name}: expected the state_dict() of one torch.nn.LSTM, got {got}")
    suffixes = _suffixes(layers, directions)
    found = [[_one_direction(_taken(named, suffix, bias), suffix) for suffix in level] for level in suffixes]
    first = found[0][0]
    units, dtype = len(first.recurrent_kernel), first.kernel.dtype
    for layer, level in enumerate(suffixes):
        inputs = directions * units if layer else len(first.kernel)
        for suffix, weights in zip(level, found[layer], strict=True):
            check_array(f"weight_hh{suffix}", weights.recurrent_kernel.T, (4 * units, units), dtype, "(4H, H)")
            check_array(f"weight_ih{suffix}", weights.kernel.T, (4 * units, inputs), dtype, "(4H, I)")
    return found


def to_torch_module(levels: Sequence[Sequence[LSTMWeights]]) -> dict[str, Array]:
    """Lays the weights of each layer and direction out for a `torch.nn.LSTM`, by its parameter names."""
    found = dict[str, Array]()
    for suffixes, level in zip(_suffixes(len(levels), len(levels[0])), levels, strict=True):
        for suffix, weights in zip(suffixes, level, strict=True):
            found |= {f"{name}{suffix}": array for name, array in to_torch(weights).items()}
    return found


def _suffixes(layers: int, directions: int) -> list[list[str]]:
    """Lists the suffixes of PyTorch's parameter names: a list for each layer, with one for each direction."""
    return [[f"_l{layer}{end}" for end in ("", "_reverse")[:directions]] for layer in range(layers)]


def _names(suffix: str, bias: bool) -> list[str]:
    return [f"{name}{suffix}" for name in TORCH[: 4 if bias else 2]]


def _taken(named: Mapping[str, Any], suffix: str, bias: bool) -> dict[str, Any]:
    """Selects the four parameters of one layer and direction; None for a missing bias."""
    return {name: named[f"{name}{suffix}"] if bias or name.startswith("weight") else None for name in TORCH}


def _module_parameters(module: Any) -> dict[str, Any]:
    """Reads the parameters of a module by name, as attributes, which are computed where it is parametrized."""
    mode = getattr(module, "mode", type(module).__name__)
    if mode != "LSTM" or not hasattr(module, "num_layers"):
        instead = "; LSTMWeights.from_torch(*module.parameters()) takes a cell's" if mode == "LSTMCell" else ""
        raise TypeError(f"module: expected a torch.nn.LSTM or its state_dict(), got {mode}{instead}")
    if module.proj_size:
        raise ValueError(f"module: expected proj_size=0, got {module.proj_size}: the cell has no projection")
    suffixes = _suffixes(module.num_layers, 1 + bool(module.bidirectional))
    names = [name for level in suffixes for suffix in level for name in _names(suffix, module.bias)]
    return {name: getattr(module, name) for name in names}


def _one_direction(given: dict[str, Any], suffix: str) -> LSTMWeights:
    """Converts one layer and direction. Raises: ValueError or TypeError naming the parameter with its suffix."""
    arrays = {name: None if a is None else _read(f"{name}{suffix}", a) for name, a in given.items()}
    w_ih, w_hh, bias_ih, bias_hh = (arrays[name] for name in TORCH)
    for name, array, shape in (("weight_ih", w_ih, "(4H, I)"), ("weight_hh", w_hh, "(4H, H)")):
        if array is None:
            raise TypeError(f"{name}{suffix}: expected an array of shape {shape}, got None")
    assert w_ih is not None
    assert w_hh is not None
    if w_hh.ndim != 2 or w_hh.shape[0] != 4 * w_hh.shape[1]:
        raise ValueError(f"weight_hh{suffix}: expected shape (4H, H), got {w_hh.shape}")
    if w_ih.ndim != 2 or w_ih.shape[0] != w_hh.shape[0]:
        raise ValueError(f"weight_ih{suffix}: expected shape (4H, I) = ({w_hh.shape[0]}, I), got {w_ih.shape}")
    if (bias_ih is None) != (bias_hh is None):
        only = "bias_hh" if bias_ih is None else "bias_ih"
        raise ValueError(f"bias_ih, bias_hh: expected both or neither, got {only}{suffix} alone")
    biases = [check_array(f"{name}{suffix}", b, w_hh.shape[:1], w_hh.dtype, "(4H,)")
              for name, b in (("bias_ih", bias_ih), ("bias_hh", bias_hh)) if b is not None]  # fmt: skip
    bias = biases[0] + biases[1] if biases else None
    return LSTMWeights(np.ascontiguousarray(w_ih.T), np.ascontiguousarray(w_hh.T), bias).checked()


def _read(name: str, value: Any) -> Array:
    """Reads a parameter as an array. NumPy refuses tensors that require gradients, and those of other devices."""
    if hasattr(value, "detach"):
        value = value.detach()
        value = value if value.is_meta else value.cpu()
    return read_array(name, value)


def _tf1_variables(named: Mapping[str, Any]) -> tuple[Any, Any]:
    """Finds the kernel and bias of one TensorFlow 1 cell by their names. Raises: ValueError for other variables."""
    found = dict[str, Any]()
    for name, value in named.items():
        scope, _, last = str(name).removesuffix(":0").rpartition("/")
        kind = {"w_f_diag": "a peephole", "w_i_diag": "a peephole", "w_o_diag": "a peephole"}.get(last)
        kind = "a projection" if scope.rpartition("/")[2] == "projection" else kind
        if kind:
            raise ValueError(f"{name}: expected the kernel and the bias alone, got {kind}, which the cell has not")
        if last not in ("kernel", "bias") or last in found:
            raise ValueError(f"{name}: expected the kernel and the bias of one cell, got {', '.join(map(str, named))}")
        found[last] = value
    for last in ("kernel", "bias"):
        if last not in found:
            raise ValueError(f"{last}: expected the kernel and the bias of one cell, got nothing of this name")
    return found["kernel"], found["bias"]


def _from_tf1(kernel: Any, bias: Any, forget_bias: Any) -> LSTMWeights:
    """Converts TensorFlow 1's weights; adds `forget_bias` to the bias of f. Raises: as `LSTMWeights.from_tf1`."""
    for name, value, shape in (("kernel", kernel, "(I + H, 4H)"), ("bias", bias, "(4H,)")):
        if value is None:
            raise TypeError(f"{name}: expected an array of shape {shape}, got None")
    if isinstance(forget_bias, bool) or not isinstance(forget_bias, numbers.Real) or not math.isfinite(forget_bias):
        raise ValueError(f"forget_bias: expected a finite number, got {described(forget_bias)}")
    kernel = read_array("kernel", kernel)
    if kernel.dtype.kind != "f":
        raise TypeError(f"kernel: expected a float dtype, got {kernel.dtype}")
    units = kernel.shape[1] // 4 if kernel.ndim == 2 else 0
    if not units or kernel.shape[1] != 4 * units or kernel.shape[0] <= units:
        raise ValueError(f"kernel: expected shape (I + H, 4H) with I and H from 1, got {kernel.shape}")
    bias = check_array("bias", bias, (4 * units,), kernel.dtype, "(4H,)")
    i, g, f, o = np.split(np.vstack([kernel, bias]), 4, axis=1)
    f[-1] += kernel.dtype.type(forget_bias)
    ordered = np.hstack([i, f, g, o])
    inputs = len(kernel) - units
    return LSTMWeights(*(part.copy() for part in (ordered[:inputs], ordered[inputs:-1], ordered[-1]))).checked()


def to_onnx(weights: LSTMWeights) -> dict[str, Array]:
    """Lays the weights out for an ONNX LSTM node, in the gate order i, o, f, g.

    Returns `W: (1, 4H, I)`, `R: (1, 4H, H)`, `B: (1, 8H)`.
    """

    def reordered(rows: Array) -> Array:
        i, f, g, o = np.split(rows, 4)
        return np.concatenate([i, o, f, g])[None]

    W, R, *biases = (reordered(rows) for rows in to_torch(weights).values())
    return {"W": W, "R": R, **({"B": np.concatenate(biases, 1)} if biases else {})}
