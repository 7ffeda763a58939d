"""Defines `Trace`, every gate and state of every step of a call as named arrays, and `Traces` for several cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glasscell._cells.activations import Activation
from glasscell._cells.arguments import described
from glasscell._ops.call import Call, Record

if TYPE_CHECKING:  # imported for type checkers only: it takes 5 ms
    from collections.abc import Iterable
    from pathlib import Path

Array = npt.NDArray[Any]

RECORDED = ("i", "f", "g", "o", "c", "h", "zi", "zf", "zg", "zo")
# The axes of every array of a trace: B rows, T steps, H units, I input features; G, of dropout masks, is 1 or 4.
AXES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(RECORDED, ("B", "T", "H")),
    "mask": ("B", "T"),
    "reset": ("B", "T"),
    "x": ("B", "T", "I"),
    "h0": ("B", "H"),
    "c0": ("B", "H"),
    "kernel": ("I", "4H"),
    "recurrent_kernel": ("H", "4H"),
    "bias": ("4H",),
    "dropout_mask": ("G", "B", "I"),
    "recurrent_dropout_mask": ("G", "B", "H"),
    "feature_names": ("I",),
    "unit_names": ("H",),
    "step_names": ("B", "T"),
}
OF_ALL_UNITS = ("kernel", "recurrent_kernel", "bias", "recurrent_dropout_mask")  # left out where units are selected
ACTIVATIONS = ("activation", "recurrent_activation")


@dataclass(frozen=True, eq=False, repr=False)  # equality of arrays has no single truth
class Trace:
    """Holds every gate and state of every step of a call; each array is (B, T, H), time in processing order.

    i, f, o: activated gates; g: the activated candidate; c, h: cell and hidden state after the step.
    zi, zf, zg, zo: the raw gates, before their activation. A skipped step computes no gates: they are NaN there, and h
    and c are those of the step before.
    mask: (B, T) bool, True where the step ran, in processing order; None where all ran.

    The trace also holds the arguments of the call, which `glasscell.insight` explains the gates and states by. They are
    read-only, and None where they are not known:
    x: (B, T, I), the input of the cell, in processing order. h0, c0: (B, H), the state before the first step.
    reset: (B, T) bool, True where the state was set to zero before the step; None where it never was.
    kernel: (I, 4H), recurrent_kernel: (H, 4H), bias: (4H,), as `LSTMWeights` has them; without a bias None.
    activation, recurrent_activation: a(.) and s(.), with their Keras names as `name`.
    dropout_mask: (1 or 4, B, I), recurrent_dropout_mask: (1 or 4, B, H), None without dropout.
    go_backwards: whether the cell read x from its last step to its first.
    feature_names: (I,), unit_names: (H,), step_names: (B, T), strings; see `with_names`.

    A pickled or copied trace has None in place of an activation of your own, because not every function can be pickled.

    >>> trace = lstm.trace(x)  # x: (B, T, I)
    >>> trace.at(rows=0, times=slice(10, 20)).f.shape
    (1, 10, 64)
    """

    i: Array
    f: Array
    g: Array
    o: Array
    c: Array
    h: Array
    zi: Array
    zf: Array
    zg: Array
    zo: Array
    mask: Array | None = None
    x: Array | None = None
    h0: Array | None = None
    c0: Array | None = None
    reset: Array | None = None
    kernel: Array | None = None
    recurrent_kernel: Array | None = None
    bias: Array | None = None
    activation: Activation | None = None
    recurrent_activation: Activation | None = None
    dropout_mask: Array | None = None
    recurrent_dropout_mask: Array | None = None
    go_backwards: bool = False
    feature_names: Array | None = None
    unit_names: Array | None = None
    step_names: Array | None = None

    @classmethod
    def of(cls, call: Call, record: Record) -> Trace:
        """Make the trace of a call over the arrays of its record, without copying them."""
        mask, gates, z = call.kept_steps(), record.gates, record.z
        if mask is not None:
            gates[~mask], z[~mask] = np.nan, np.nan
        (i, f, g, o), (zi, zf, zg, zo) = (np.moveaxis(a, 2, 0) for a in (gates, z))
        options, (kernel, recurrent_kernel, bias) = call.options, (_unchanging(w) for w in call.weights)
        h0, c0 = (_frozen(state) for state in call.initial)
        return cls(
            i, f, g, o, record.c, record.h, zi, zf, zg, zo, mask,
            x=_frozen(call.x[:, ::-1] if options.go_backwards else call.x), h0=h0, c0=c0, reset=call.reset_steps(),
            kernel=kernel, recurrent_kernel=recurrent_kernel, bias=bias,
            activation=options.activation, recurrent_activation=options.recurrent_activation,
            dropout_mask=_frozen(call.dropout_mask), recurrent_dropout_mask=_frozen(call.recurrent_dropout_mask),
            go_backwards=options.go_backwards,
        )  # fmt: skip

    def __repr__(self) -> str:
        B, T, H = self.f.shape
        ran = "" if self.mask is None else f", {int(self.mask.sum())} of {B * T} steps ran"
        names = " ".join(self.asdict())
        return f"Trace(B={B}, T={T}, H={H}, {self.f.dtype}{ran}; arrays {names})"

    def __getstate__(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in ACTIVATIONS}
        return {**vars(self), **{name: a if a and a.is_built_in else None for name, a in found.items()}}

    def asdict(self) -> dict[str, Array]:
        """The gates and states by name, and the mask unless it is None. `save` writes the whole trace."""
        named = {name: getattr(self, name) for name in (*RECORDED, "mask")}
        return {name: array for name, array in named.items() if array is not None}

    def at(self, rows: Any = None, times: Any = None, units: Any = None) -> Trace:
        """Select rows, steps and units. The new trace shares memory where each is an index or a slice.

        rows, units: an index, a slice, or a list of indices or bools; None for all. times: an index or a slice of step
        1, in processing order. Every axis stays: an index leaves an axis of length 1.
        The state before the first selected step becomes (h0, c0). Where units are selected, the weights become None,
        for a gate reads all units.

        Raises: ValueError naming the argument that does not fit.

        >>> trace.at(rows=2, times=slice(10, 20), units=[0, 5]).c.shape
        (1, 10, 2)
        """
        B, T, H = self.h.shape
        begin, end = _unbroken(times, T)
        chosen = {"B": selection("rows", rows, B), "T": slice(begin, end), "H": selection("units", units, H)}
        parts: dict[str, Any] = {}
        if begin and self.c0 is not None:
            parts = {"h0": self.h[:, begin - 1], "c0": self.c[:, begin - 1]}
        for name, axes in AXES.items():
            array = parts.get(name, getattr(self, name))
            for axis, letter in enumerate(() if array is None else axes):
                array = array[(slice(None),) * axis + (chosen.get(letter, slice(None)),)]
            parts[name] = None if units is not None and name in OF_ALL_UNITS else array
        return replace(self, **parts)

    def with_names(self, features: Any = None, units: Any = None, steps: Any = None) -> Trace:
        """Return the same trace with names for its features, units and steps; names that are not given stay.

        features: I names of the input features. units: H names. steps: T names for all rows, or a list of T names for
        each row, such as words, in the order of the x that the layer was given; a string names each step by a letter.

        Raises: ValueError naming the argument, where there are more or fewer.

        >>> lstm.trace(x).with_names(features=["rain", "melt"], steps=days)
        """
        B, T, H = self.h.shape
        if features is not None and self.x is None:
            raise ValueError(f"features: expected None for a trace without its x, got {described(features)}")
        new = {
            "feature_names": _names("features", features, () if self.x is None else self.x.shape[2:]),
            "unit_names": _names("units", units, (H,)),
            "step_names": _names("steps", steps, (T,), (B, T)),
        }
        if new["step_names"] is not None:
            every = np.broadcast_to(new["step_names"], (B, T))
            new["step_names"] = every[:, ::-1] if self.go_backwards else every
        given: dict[str, Any] = {name: array for name, array in new.items() if array is not None}
        return replace(self, **given)

    def save(self, path: str | Path) -> Path:
        """Write the whole trace as an `.npz` file, which appears whole or not at all. Returns: its path.

        An activation of your own is left out. Raises: OSError naming `path` where it cannot be written.

        >>> Trace.load(trace.save("trace.npz"))
        """
        from glasscell._trace_files import write_trace

        return write_trace(path, self)

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Read a trace that `save` wrote. Nothing in the file is executed.

        Raises: OSError where the file cannot be read; ValueError naming the part that `save` would not write so.
        """
        from glasscell._trace_files import read_trace

        return cls(**read_trace(path))

    def to_xarray(self) -> Any:
        """The trace as an `xarray.Dataset` with the dimensions row, time, unit and feature; names become coordinates.

        Raises: ImportError, in one line, where xarray is not installed.
        """
        from glasscell._trace_files import to_dataset

        return to_dataset(self)

    def report(
        self, path: str | Path, title: str = "What the cell did", *, dense: Any = None, classes: Any = None
    ) -> Path:
        """Write a page that shows every gate and state, and explains them. It is one file, which opens offline.

        dense: (kernel, bias), (H, K) and (K,), of a Dense layer that reads h. With it the page also shows what that
        layer would answer after each step, and why. classes: K names.
        A long trace is cut to what a page of 3 MB holds, and the page says so; `at` selects a part. Returns: its path.
        Raises: ValueError for an empty trace and for a dense of another shape; OSError where it cannot be written.

        >>> trace.at(rows=[3, 8]).report("page.html")
        """
        from glasscell._report import answer_of, trace_report

        answer = None if dense is None else answer_of(dense, classes, self.h.shape[2])
        return trace_report(path, {"": self}, title, answer=answer)

    def _repr_html_(self) -> str:
        """A small table and two pictures, which notebooks show."""
        from glasscell._report import summary

        return summary(self)


class Traces(list[Any]):
    """A list of the traces of several cells, each with a name: the cells of a stack, or the two directions.

    Its elements are `Trace`s; where each direction is a stack they are `Traces`.
    """

    def __init__(self, traces: Iterable[Trace | Traces], names: Iterable[str]) -> None:
        super().__init__(traces)
        self.names = list(names)

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {trace!r}" for name, trace in self.named().items())

    def named(self) -> dict[str, Trace]:
        """The traces by name; those of a stack in two directions are named like "forward, cell 0"."""
        found: dict[str, Trace] = {}
        for name, trace in zip(self.names, self, strict=True):
            inner = trace.named() if isinstance(trace, Traces) else {"": trace}
            found |= {f"{name}, {within}" if within else name: each for within, each in inner.items()}
        return found

    def report(self, path: str | Path, title: str = "What the cells did") -> Path:
        """Write one page that shows all traces, as `Trace.report` does. Returns: its path."""
        from glasscell._report import trace_report

        return trace_report(path, self.named(), title)

    def _repr_html_(self) -> str:
        """Shows each trace in a notebook, under its name."""
        from glasscell._report import summary

        return "".join(f"<h4>{name}</h4>{summary(trace)}" for name, trace in self.named().items())


def selection(name: str, index: Any, size: int) -> Any:
    """Converts the index of an axis to a slice or an array of indices. Raises: ValueError naming the argument."""
    expected = f"{name}: expected indices in {-size}..{size - 1}" if size else f"{name}: expected none, for it has none"
    if index is None:
        return slice(None)
    try:
        if isinstance(index, slice):
            index.indices(size)
            return index
        found = np.arange(size)[index if isinstance(index, (int, np.integer)) else np.asarray(index)]
    except (IndexError, TypeError, ValueError):
        raise ValueError(f"{expected}, got {described(index)}") from None
    if found.ndim == 0 and not isinstance(index, bool):
        return slice(int(found), int(found) + 1)
    if found.ndim != 1 or isinstance(index, bool):
        raise ValueError(f"{expected}, one, a slice or a list of them, got {described(index)}")
    return found


def _unbroken(times: Any, size: int) -> tuple[int, int]:
    """Converts an index of steps to (first, last + 1). Raises: ValueError for steps with gaps."""
    found = selection("times", times, size)
    if not isinstance(found, slice) or found.step not in (None, 1):
        raise ValueError(f"times: expected one step or a slice of step 1, without gaps, got {described(times)}")
    begin, end, _ = found.indices(size)
    return begin, max(begin, end)


def _names(argument: str, given: Any, *shapes: tuple[int, ...]) -> Array | None:
    """Converts names to an array of strings of one of the shapes. Raises: ValueError naming the argument."""
    if given is None:
        return None
    try:
        array = np.array(list(given)).astype(str)
    except (TypeError, ValueError):
        array = np.empty(())
    if array.shape not in shapes:
        counts = " or ".join(" x ".join(map(str, shape)) for shape in shapes)
        got = f"{' x '.join(map(str, array.shape))} of them" if array.ndim else described(given)
        raise ValueError(f"{argument}: expected {counts} names, got {got}")
    return array


def _frozen(array: Array | None) -> Array | None:
    """Returns a read-only copy: the caller may still write into the array itself."""
    if array is None:
        return None
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _unchanging(array: Array | None) -> Array | None:
    """Returns weights that nobody can write into as they are, such as a cell's own; a read-only copy of others.

    A read-only view is copied too: it may show a tensor that is still being trained.
    """
    unchanging = array is not None and array.base is None and not array.flags.writeable
    return array if unchanging else _frozen(array)
