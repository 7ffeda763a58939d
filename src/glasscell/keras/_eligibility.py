"""Decides whether the native engine can run a layer's loop, and with what; else gives the reason."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
from keras import ops

from glasscell._cells import activations
from glasscell.keras import _compat

Tensor = Any
CELL_METHODS = ("__call__", "forward", "call")  # the methods that a call of a cell runs
OPERATIONS = {  # the module of each backend that has `why_not_available` and `run`
    "jax": "glasscell._ops.jax",
    "tensorflow": "glasscell._ops.tensorflow",
    "torch": "glasscell._ops.torch",
}


class NativeCell(NamedTuple):
    """Holds a cell with the equations of `LSTMCell`, and its built-in activations."""

    cell: Any
    activation: activations.Activation
    recurrent_activation: activations.Activation

    def weights(self) -> list[Tensor | None]:
        """Reads the kernel, the recurrent kernel and the bias."""
        variables = (self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias)
        return [None if w is None else ops.convert_to_tensor(w) for w in variables]


class Native(NamedTuple):
    """Holds what the native engine needs to run a layer's loop.

    operation: the backend's module in `OPERATIONS`. cells: first to last. weights: the weights of each cell.
    """

    operation: Any
    cells: list[NativeCell]
    weights: list[list[Tensor | None]]


def eligible(layer: Any, sequences: Tensor, mask: Any, state: Any = None, asked: bool = False) -> Native | str:
    """Finds the operation, cells and weights for a native run over these sequences, or the reason against one.

    mask: as `_inner_loop.step_mask` returns it. state: the initial state, as far as it is known. asked: engine="native"
    was given, so the native engine also runs where it is slower, and in graphs that may be saved.
    """
    operation = _find_operation(sequences, asked)
    if isinstance(operation, str):
        return operation
    cells = cells_of(layer.cell)
    if (reason := _why_not_this_call(layer, cells, sequences, mask)) is not None:
        return reason
    native = native_cells(layer, cells)
    if isinstance(native, str):
        return native
    weights = [cell.weights() for cell in native]
    if keras.backend.backend() == "torch":
        reason = _why_not_these_tensors(operation, cells[0].compute_dtype, sequences, weights, state)
    return Native(operation, native, weights) if reason is None else reason


def native_cells(layer: Any, cells: list[Any]) -> list[NativeCell] | str:
    """Finds the cells for the native engine, or the reason why it cannot run this layer over any sequences."""
    native = []
    for cell in cells:
        if not is_lstm(cell):
            return f"the cell is {type(cell).__name__}, not an LSTMCell with its own equations"
        if cell.compute_dtype not in ("float32", "float64") or cell.variable_dtype != cell.compute_dtype:
            return f"the dtype policy is {cell.dtype_policy.name}, not float32 or float64"
        found = {name: built_in(getattr(cell, name)) for name in ("activation", "recurrent_activation")}
        activation, recurrent_activation = found.values()
        if activation is None or recurrent_activation is None:
            name = next(name for name, activation in found.items() if activation is None)
            return _why_not_this_activation(name, getattr(cell, name))
        native.append(NativeCell(cell, activation, recurrent_activation))
    dtypes = sorted({part.compute_dtype for part in (layer, layer.cell, *cells)})
    return f"the layer and its cells compute in {' and '.join(dtypes)}" if len(dtypes) > 1 else native


def is_stack(cell: Any) -> bool:
    """Tells whether the cell runs its `cells` one after another, and nothing else."""
    return is_keras(cell, keras.layers.StackedRNNCells, CELL_METHODS)


def is_lstm(cell: Any) -> bool:
    """Tells whether the cell has the equations of `LSTMCell`."""
    return is_keras(cell, keras.layers.LSTMCell, CELL_METHODS)


def is_keras(part: Any, kind: type, methods: Iterable[str]) -> bool:
    """Tells whether the layer is of this kind of Keras's and has the kind's own methods of these names."""
    return (
        isinstance(part, kind)
        and all(getattr(type(part), name, None) is getattr(kind, name, None) for name in methods)
        and not vars(part).keys() & set(methods)
    )


def cells_of(cell: Any) -> list[Any]:
    """Lists the cells of a stack, or the one cell."""
    return list(cell.cells) if is_stack(cell) else [cell]


def built_in(function: Any) -> activations.Activation | None:
    """Finds the built-in activation for a Keras function, None if there is none."""
    name = _keras_name(function)
    return None if name is None else activations.BUILT_IN.get(name)


def _keras_name(function: Any) -> str | None:
    """Finds the name of this function in `keras.activations`; None if it is not there."""
    name = getattr(function, "__name__", None)
    known = isinstance(name, str) and (name in activations.BUILT_IN or name in activations.REFUSED)
    return name if known and function is keras.activations.get(name) else None


def _why_not_this_activation(argument: str, function: Any) -> str:
    """Finds the reason why the native engine does not run this activation, which is not built in."""
    name = _keras_name(function)
    if name is None:
        return f"{argument} is a callable outside the built-in activations"
    return f"{argument}: {name} {activations.REFUSED[name]}"


def why_not_here() -> str | None:
    """Finds the reason why the native engine runs no layer of this process: the backend, or its device."""
    operation = _find_operation(ops.zeros(()), asked=True)
    return operation if isinstance(operation, str) else None


def _find_operation(x: Tensor, asked: bool) -> Any:
    """Finds the backend's module in `OPERATIONS`, or the reason why it cannot run here."""
    backend = keras.backend.backend()
    if backend not in OPERATIONS:
        return f"the backend is {backend}; the native engine runs on {', '.join(OPERATIONS)}"
    operation = importlib.import_module(OPERATIONS[backend])
    if backend == "jax" and operation.is_traced(x) and _compat.in_export():
        return "the model is being exported, and what is exported must run without glasscell"
    if backend == "tensorflow" and not asked and _compat.may_be_saved():
        return "the graph that is being made may be saved, and what is saved must run without glasscell"
    reason = operation.why_not_available(x)
    if reason is None and backend == "jax" and not asked:
        reason = operation.why_slower(x)
    return operation if reason is None else reason


def _why_not_this_call(layer: Any, cells: list[Any], sequences: Tensor, mask: Any) -> str | None:
    """Finds a reason in the shapes of a call, in hooks, or in a combination that Keras's loop treats specially."""
    if (reason := why_not_these_shapes(sequences, mask)) is not None:
        return reason
    if any(_compat.is_hooked(cell) for cell in [layer.cell, *cells]):
        return "a hook of PyTorch's is to be called at each step of the cell"
    if layer.unroll and layer.go_backwards and mask is not None:
        return "unroll with a mask, backwards, has outputs of its own in Keras"
    return None


def why_not_these_shapes(sequences: Tensor, mask: Any) -> str | None:
    """Finds a reason in the shapes of a call's sequences and mask; Keras's loop fails on most of these as well."""
    if len(sequences.shape) != 3:
        return f"x: expected shape (B, T, I), got {tuple(sequences.shape)}"
    if mask is not None and not _fits(mask.shape, sequences.shape[:2]):
        return f"mask: expected shape (B, T) = {tuple(sequences.shape[:2])}, got {tuple(mask.shape)}"
    return None


def _fits(shape: Any, expected: Any) -> bool:
    """Tells whether a shape is the expected one, as far as its numbers are known."""
    return len(shape) == len(expected) and all(a == b or None in (a, b) for a, b in zip(shape, expected, strict=True))


def _why_not_these_tensors(
    operation: Any, dtype: str, x: Tensor, weights: list[list[Tensor | None]], state: Any
) -> str | None:
    """Finds a reason in the tensors of a layer on PyTorch, where the dtypes of a module's weights may change."""
    tensors = [w for of_a_cell in weights for w in of_a_cell if w is not None]
    dtypes = {keras.backend.standardize_dtype(w.dtype) for w in tensors} - {dtype}
    if dtypes:
        return f"the weights are {' and '.join(sorted(dtypes))}, where the dtype policy says {dtype}"
    states = [s for s in keras.tree.flatten(state) if ops.is_tensor(s)]
    reason: str | None = operation.why_in_torch(x, *tensors, *states)
    return reason
