"""Where Keras would loop over time: the native engine in its place, with the outputs that Keras gives on each backend.

No mathematics here: the cells' options, weights, states and masks go into the backend's operation.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from glasscell._cells import activations
from glasscell._cells.lstm import Options
from glasscell._ops.call import KEEP
from glasscell._ops.operands import Operands

Tensor = Any
Loop = tuple[Tensor, Tensor, list[Any]]  # last output, outputs, states: what `keras.layers.RNN.inner_loop` returns

CALLED = ("__call__", "forward", "call")  # what runs, one after another, when a cell is called
OPERATIONS = {  # of each backend: `why_not_available` and `run`
    "jax": "glasscell._ops.jax",
    "tensorflow": "glasscell._ops.tensorflow",
    "torch": "glasscell._ops.torch",
}


def each_step(layer: Any, mask: Any) -> Any:
    """A call's mask as (B, T), if it is one or Keras's loop would read it as one on this backend; else as it is."""
    mask = keras.tree.flatten(mask)[0] if mask is not None else None
    if mask is None or len(mask.shape) != 3:
        return mask
    if mask.shape[2] == 1:
        return mask[:, :, 0]
    scan = keras.backend.backend() == "jax" and not layer.unroll
    return ops.any(ops.cast(mask, "bool"), -1) if scan else mask


def why_not_native(layer: Any, sequences: Tensor, mask: Any, state: Any = None, asked: bool = False) -> str | None:
    """The reason why the native engine cannot run this layer's loop over these sequences; None if it can.

    mask: what `each_step` gave. state: the initial state, as far as it is known. asked: the native engine was asked for
    by name, so it runs where it only should not.
    """
    if (missing := _why_not_here(sequences, asked)) is not None:
        return missing
    if len(sequences.shape) != 3:
        return f"x: expected shape (B, T, I), got {tuple(sequences.shape)}"
    if mask is not None and not _fits(mask.shape, sequences.shape[:2]):
        return f"mask: expected shape (B, T) = {tuple(sequences.shape[:2])}, got {tuple(mask.shape)}"
    if any(is_hooked(cell) for cell in [layer.cell, *cells_of(layer.cell)]):
        return "a hook of PyTorch's is to be called at each step of the cell"
    if layer.unroll and layer.go_backwards and mask is not None:
        return "unroll with a mask, backwards, has outputs of its own in Keras"
    if (never := why_never_native(layer)) is not None or keras.backend.backend() != "torch":
        return never
    return _why_not_these(layer, sequences, state)


def _fits(shape: Any, expected: Any) -> bool:
    """Whether it is this shape, as far as the numbers are known."""
    return len(shape) == len(expected) and all(a == b or None in (a, b) for a, b in zip(shape, expected, strict=True))


def why_never_native(layer: Any) -> str | None:
    """The reason why the native engine cannot run this layer's loop over any sequences; None if it can."""
    cells = cells_of(layer.cell)
    for cell in cells:
        if not is_lstm(cell):
            return f"the cell is {type(cell).__name__}, not an LSTMCell with its own equations"
        if cell.compute_dtype not in ("float32", "float64") or cell.variable_dtype != cell.compute_dtype:
            return f"the dtype policy is {cell.dtype_policy.name}, not float32 or float64"
        for name in ("activation", "recurrent_activation"):
            if built_in(getattr(cell, name)) is None:
                return f"{name} is a callable outside the built-in activations"
    dtypes = sorted({part.compute_dtype for part in (layer, layer.cell, *cells)})
    return f"the layer and its cells compute in {' and '.join(dtypes)}" if len(dtypes) > 1 else None


def is_stack(cell: Any) -> bool:
    """Whether it runs its `cells` one after another, and nothing else."""
    return is_keras(cell, keras.layers.StackedRNNCells, CALLED)


def is_lstm(cell: Any) -> bool:
    """Whether it has the equations of `LSTMCell`."""
    return is_keras(cell, keras.layers.LSTMCell, CALLED)


def is_keras(part: Any, kind: type, methods: Iterable[str]) -> bool:
    """Whether it is of this kind of Keras's, with these methods as they are there."""
    return (
        isinstance(part, kind)
        and all(getattr(type(part), name, None) is getattr(kind, name, None) for name in methods)
        and not vars(part).keys() & set(methods)
    )


def is_hooked(layer: Any) -> bool:
    """Whether PyTorch calls somebody's function before or after this layer."""
    if keras.backend.backend() != "torch":
        return False
    from torch.nn.modules import module  # there is no public way to ask

    own = (layer._forward_pre_hooks, layer._forward_hooks, layer._backward_pre_hooks, layer._backward_hooks)
    return any(own) or bool(module._has_any_global_hook())


def cells_of(cell: Any) -> list[Any]:
    """The cells of a stack, or the one cell."""
    return list(cell.cells) if is_stack(cell) else [cell]


def built_in(function: Any) -> activations.Activation | None:
    """The built-in activation that this Keras function is."""
    for name, activation in activations.BUILT_IN.items():
        if function is keras.activations.get(name):
            return activation
    return None


class Pass(NamedTuple):
    """One layer's loop: what Keras calls its `inner_loop` with. `from_zero`: it is known that the state is zero."""

    layer: Any
    initial_state: Any
    training: bool
    from_zero: bool


def run_native(passes: list[Pass], sequences: Tensor, mask: Any) -> list[Loop]:
    """The loops of one layer, or of several over the same sequences, side by side: the directions of a Bidirectional.

    The cells of a stack run one after another, each over the whole sequence; a layer with a stack runs alone.
    """
    operation = _operation()
    first = passes[0].layer
    stacked = is_stack(first.cell)
    cells = [cells_of(p.layer.cell) for p in passes]
    kept = None if mask is None else ops.cast(ops.convert_to_tensor(mask), "bool")
    x, steps = ops.convert_to_tensor(sequences, cells[0][0].compute_dtype), _steps(kept)
    new_states: list[Any] = []
    for level in range(len(cells[0])):
        last = level == len(cells[0]) - 1
        directions = [
            _direction(p, cells[n][level], x, p.initial_state[level] if stacked else p.initial_state, level == 0)
            for n, p in enumerate(passes)
        ]
        every = not last or any(p.layer.return_sequences for p in passes)
        results = operation.run(x, steps, directions, every, bool(passes[0].training))
        new_states.append([results[0][1], results[0][2]])
        if not last:
            x = results[0][0]
            if level == 0 and first.go_backwards and kept is not None:
                steps = _steps(ops.flip(kept, 1))
    if len(passes) > 1 or not stacked:
        return [_loop(p, kept, h, [hT, cT]) for p, (h, hT, cT) in zip(passes, results, strict=True)]
    return [_loop(passes[0], kept, results[0][0], new_states if len(new_states) > 1 else new_states[0])]


def _steps(kept: Tensor | None) -> Tensor | None:
    """`Call.step_flags` of a mask."""
    return None if kept is None else ops.cast(kept, "uint8") * np.uint8(KEEP)


def _direction(p: Pass, cell: Any, x: Tensor, state: Any, first: bool) -> Operands:
    """What the operation takes of a cell; `first`: of its stack, the only one for which time may run backwards."""
    activation, recurrent_activation = built_in(cell.activation), built_in(cell.recurrent_activation)
    assert activation is not None, "why_not_native lets no other through"
    assert recurrent_activation is not None, "why_not_native lets no other through"
    width = cell.kernel.shape[0]
    if x.shape[2] is not None and x.shape[2] != width:
        raise ValueError(f"x: expected shape (B, T, I) = (B, T, {width}), got {tuple(x.shape)}")
    options = Options(activation, recurrent_activation, p.layer.go_backwards and first)
    if p.layer.stateful and keras.backend.backend() == "torch":
        state = [ops.copy(s) for s in state]  # the gradient needs them when the layer has written its new state
    weights = (cell.kernel, cell.recurrent_kernel, cell.bias)
    W, R, b = (None if w is None else ops.convert_to_tensor(w) for w in weights)
    dropout_mask, recurrent_dropout_mask = _dropout_masks(cell, x, state, p.training)
    h0, c0 = state
    return Operands(options, W, R, b, h0, c0, dropout_mask, recurrent_dropout_mask)


def _dropout_masks(cell: Any, x: Tensor, state: Any, training: bool) -> list[Tensor | None]:
    """The masks Keras drew for this call, each (1 or 4, B, width), or None where there is no dropout."""

    def mask(rate: float, draw: Any, values: Any) -> Tensor | None:
        if not training or not 0 < rate < 1:
            return None
        drawn = draw(values())
        return ops.stack(drawn) if isinstance(drawn, list) else drawn[None]

    return [
        mask(cell.dropout, cell.get_dropout_mask, lambda: x[:, 0]),
        mask(cell.recurrent_dropout, cell.get_recurrent_dropout_mask, lambda: state[0]),
    ]


def _loop(p: Pass, kept: Tensor | None, h: Tensor | None, states: list[Any]) -> Loop:
    """The layer's outputs: h, and at skipped steps what Keras puts there on this backend."""
    layer, hT = p.layer, states[-1][0] if isinstance(states[-1], list) else states[0]
    outputs: Any = h if layer.return_sequences else hT[:, None]
    if keras.backend.backend() == "torch" and _shared(p, kept is not None, outputs):
        outputs = ops.copy(outputs)
    if kept is None:
        return outputs[:, -1], outputs, states
    kept = ops.flip(kept, 1) if layer.go_backwards else kept
    scan = keras.backend.backend() == "jax" and not layer.unroll
    if not scan and not p.from_zero:  # before the first kept step Keras gives zeros there, else the initial h
        outputs = _where(ops.cumsum(ops.cast(kept, "int32"), 1) > 0, outputs, layer.return_sequences)
    if layer.zero_output_for_mask and (scan or keras.backend.backend() != "jax"):
        outputs = _where(kept, outputs, layer.return_sequences)
    return outputs[:, -1], outputs, states


def _shared(p: Pass, masked: bool, outputs: Tensor) -> bool:
    """Whether what is handed out on PyTorch, to be written into, would be what the gradient keeps (see `op.run`), or
    the final h, where it is not that in Keras."""
    if p.layer.return_sequences:
        return bool(outputs.requires_grad)
    fused = getattr(p.layer, "use_cudnn", False) and not p.layer.cell.recurrent_dropout and not masked
    return not fused


def _where(steps: Tensor, outputs: Tensor, sequences: bool) -> Tensor:
    """The outputs, but zeros at the other steps."""
    return ops.where((steps if sequences else steps[:, -1:])[:, :, None], outputs, 0.0)


def _operation() -> Any:
    """The backend's module in `OPERATIONS`."""
    return importlib.import_module(OPERATIONS[keras.backend.backend()])


def _why_not_here(x: Tensor, asked: bool) -> str | None:
    backend = keras.backend.backend()
    if backend not in OPERATIONS:
        return f"the backend is {backend}; the native engine runs on {', '.join(OPERATIONS)}"
    if backend == "jax" and _in_export():
        return "the model is being exported, and what is exported must run without glasscell"
    operation = _operation()
    if backend == "tensorflow" and not asked and operation.may_be_saved():
        return "the graph that is being made may be saved, and what is saved must run without glasscell"
    reason: str | None = operation.why_not_available(x)
    return operation.why_slower(x) if reason is None and backend == "jax" and not asked else reason


def _why_not_these(layer: Any, x: Tensor, state: Any) -> str | None:
    """The reason in the tensors of a layer on PyTorch, which is a torch.nn.Module and may have changed their dtypes."""
    operation, cells = _operation(), cells_of(layer.cell)
    variables = [w for cell in cells for w in (cell.kernel, cell.recurrent_kernel, cell.bias) if w is not None]
    weights = [ops.convert_to_tensor(w) for w in variables]
    dtypes = {keras.backend.standardize_dtype(w.dtype) for w in weights} - {cells[0].compute_dtype}
    if dtypes:
        return f"the weights are {' and '.join(sorted(dtypes))}, where the dtype policy says {cells[0].compute_dtype}"
    states = [s for s in keras.tree.flatten(state) if ops.is_tensor(s)]
    reason: str | None = operation.why_in_torch(x, *weights, *states)
    return reason


def _in_export() -> bool:
    """Whether `model.export` is calling. It tells nobody, so only the callers' names do."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("keras.src.export."):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
