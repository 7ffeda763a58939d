"""Which engine runs a call: the NumPy reference or the native kernel. Checks arrays, allocates, calls."""

from __future__ import annotations

import os
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from glasscell import _native
from glasscell._cells.lstm import Options
from glasscell._cells.weights import LSTMWeights, State, check_array, check_state, read_array
from glasscell._ops import aligned, reference
from glasscell._ops.call import Call, Forward, Gradients, Keep, Tape, step_flags_of

Array = npt.NDArray[Any]
Engine = Literal["auto", "native", "reference"]
Used = Literal["native", "reference"]
ENGINES = get_args(Engine)

FRAMEWORKS = ("keras", "jax", "tensorflow", "torch")


class SequenceOptions(NamedTuple):
    """Which steps and which elements of a call take part.

    mask: (B, T) bool; lengths: (B,) integers; reset: (B, T) bool, as `step_flags_of` reads them.
    dropout_mask: (B, I), or (4, B, I) one for each gate; recurrent_dropout_mask: (B, H) or (4, B, H). Factors.
    """

    mask: Any = None
    lengths: Any = None
    reset: Any = None
    dropout_mask: Any = None
    recurrent_dropout_mask: Any = None


def make_call(
    weights: LSTMWeights, options: Options, x: Any, initial_state: Any, masks: SequenceOptions, packed: Any = None
) -> Call:
    """Check everything a pass takes. `packed`: what `pack(weights)` gave, if it was called.

    Raises: ValueError or TypeError naming the argument, the expected and the got.
    """
    inputs, (units, _), dtype = weights.kernel.shape[0], weights.recurrent_kernel.shape, weights.kernel.dtype
    x = read_array("x", x)
    if x.ndim != 3:
        raise ValueError(f"x: expected shape (B, T, I) = (B, T, {inputs}), got {x.shape}")
    batch, time, _ = x.shape
    return Call(
        weights,
        options,
        check_array("x", x, (batch, time, inputs), dtype, "(B, T, I)"),
        check_state("initial_state", initial_state, batch, units, dtype),
        step_flags_of(batch, time, masks.mask, masks.lengths, masks.reset),
        _factors("dropout_mask", masks.dropout_mask, batch, inputs, dtype, "I"),
        _factors("recurrent_dropout_mask", masks.recurrent_dropout_mask, batch, units, dtype, "H"),
        packed,
    )


def pack(weights: LSTMWeights) -> Any:
    """The weights as the native engine reads them, to be made once for many calls; None where it cannot serve them.

    They stay right only as long as nobody writes into the arrays.
    """
    return _native.pack(*weights) if weights.kernel.dtype in (np.float32, np.float64) else None


def _factors(name: str, value: Any, batch: int, width: int, dtype: npt.DTypeLike, symbol: str) -> Array | None:
    if value is None:
        return None
    value = read_array(name, value)
    if value.ndim == 2:
        return check_array(name, value, (batch, width), dtype, f"(B, {symbol})")[None]
    return check_array(name, value, (4, batch, width), dtype, f"(B, {symbol}) or (4, B, {symbol})")


def choose(engine: Engine, call: Call) -> Used:
    """The engine that runs `call`: with "auto" the native one wherever it can.

    Raises: ValueError for an unknown name, and for "native" where the native engine cannot serve, with the reason.
    """
    if engine not in ENGINES:
        raise ValueError(f'engine: expected "auto", "native" or "reference", got {engine!r}')
    if engine == "reference":
        return "reference"
    try:
        call.options.codes()
        if call.x.dtype not in (np.float32, np.float64):
            raise ValueError(f"x: the native engine runs float32 and float64, got {call.x.dtype}")
    except ValueError:
        if engine == "native":
            raise
        return "reference"
    return "native"


def forward(call: Call, keep: Keep, engine: Used) -> Forward:
    """Run a call on the engine that `choose` named.

    keep: what beside the final state: nothing, every h, the tape for gradients (whole, or checkpoints from which it is
    computed anew), a whole trace.
    """
    if engine == "reference":
        return reference.forward(call, keep)
    B, T, _, H = call.sizes
    dtype, codes = call.x.dtype, call.options.codes()
    final = State(np.empty((B, H), dtype), np.empty((B, H), dtype))
    h = None if keep == "state" else aligned.empty((B, T, H), dtype)
    c = gates = z = cell_checkpoints = None
    if keep in ("tape", "trace"):
        c, gates = aligned.empty((B, T, H), dtype), aligned.empty((B, T, 4, H), dtype)
        if keep == "trace" or _native.needs_raw_gates(codes["activation"], codes["recurrent_activation"]):
            z = aligned.empty((B, T, 4, H), dtype)
    elif keep == "checkpoints":
        cell_checkpoints = np.empty((_native.time_block_count(B, T), B, H), dtype)
    _native.forward(
        call.x, *call.weights, call.packed, *call.initial, call.step_flags, call.dropout_mask, call.recurrent_dropout_mask,
        h, c, gates, z, cell_checkpoints, *final, **codes,
    )  # fmt: skip
    tape = (
        None if h is None or (c is None and cell_checkpoints is None) else Tape(call, h, c, gates, z, cell_checkpoints)
    )
    return Forward(h, final, tape)


def backward(tape: Tape, dh_all: Array | None, dh: Array, dc: Array, engine: Used) -> Gradients:
    """The gradients of a call, on the engine that ran it. Arguments as in `reference.backward`."""
    call = tape.call
    if engine == "reference":
        return reference.backward(tape, dh_all, dh, dc)
    gradients = Gradients(
        x=np.empty_like(call.x),
        kernel=np.empty_like(call.weights.kernel),
        recurrent_kernel=np.empty_like(call.weights.recurrent_kernel),
        bias=None if call.weights.bias is None else np.empty_like(call.weights.bias),
        h0=np.empty_like(dh),
        c0=np.empty_like(dc),
    )
    _native.backward(
        call.x, *call.weights, *call.initial, call.step_flags, call.dropout_mask, call.recurrent_dropout_mask,
        tape.h, tape.c, tape.gates, tape.z, tape.cell_checkpoints, dh_all, dh, dc,
        gradients.x, gradients.kernel, gradients.recurrent_kernel, gradients.bias, gradients.h0, gradients.c0,
        **call.options.codes(),
    )  # fmt: skip
    return gradients


def show_config() -> dict[str, Any]:
    """What this installation is and can do: version, compiler, instruction sets, threads, frameworks found.

    `threads_of` tells whose threads they are: with `glasscell.torch` imported those of PyTorch's OpenMP.
    `targets` are the instruction sets this build has and this machine can run, best first; `target` is the one in
    use (GLASSCELL_TARGET forces one). Frameworks are looked up, not imported.
    """
    import platform
    from importlib import metadata

    return {
        "glasscell": metadata.version("glasscell"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "compiler": _native.compiler(),
        "target": _native.target(),
        "targets": _native.targets(),
        "threads": _native.num_threads(),
        "threads_of": "PyTorch (OpenMP)" if _native.uses_openmp_threads() else "glasscell",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "jax_call": bool(_native.jax_handlers()),
        **{name: _version(name) for name in FRAMEWORKS},
    }


def _version(package: str) -> str | None:
    from importlib import metadata  # 50 ms that `import glasscell` need not pay

    names = {"tensorflow": ("tensorflow", "tensorflow-cpu")}.get(package, (package,))
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
