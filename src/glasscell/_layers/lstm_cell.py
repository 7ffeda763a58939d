"""`LSTMCell` on NumPy: Keras's arguments, weights and configuration around one step of the engine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from glasscell._cells import activations
from glasscell._cells.checks import Array, State, check_state, read_array
from glasscell._cells.initializers import get_initializer
from glasscell._cells.layouts import LSTMWeights
from glasscell._cells.lstm import Gates, Options
from glasscell._ops.call import Call, Engine
from glasscell._ops.numpy import pack, run

Activation = str | Callable[[Array], Array] | None


class LSTMCell:
    """The LSTM cell as `keras.layers.LSTMCell` defines it.

    i, f, o = s(x W + h R + b), g = a(x W + h R + b), each with its own columns of W, R and b, in the order i, f, g, o;
    c' = f * c + i * g;  h' = o * a(c'), with a = `activation` and s = `recurrent_activation`.

    Arguments, names and defaults are Keras's. `units` is H. Regularisers and constraints are kept for the
    configuration; they act where training happens, in Keras. Dropout masks are given to `RNN`'s call as arrays.
    `dtype` is float32 (the fast path), float64, or another NumPy float (reference engine); a Keras policy stands for
    the dtype of its variables, in which everything is computed here: mixed_float16 for float32.
    `engine`: "auto", "native" or "reference"; `engine_used` tells what ran last.

    Raises: ValueError or TypeError for an argument Keras would not take, naming it.
    """

    def __init__(
        self,
        units: int,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        *,
        name: str = "lstm_cell",
        trainable: bool = True,
        dtype: Any = "float32",
        implementation: int = 2,
        engine: Engine = "auto",
    ) -> None:
        if isinstance(units, bool) or not isinstance(units, (int, np.integer)) or units <= 0:
            raise ValueError(f"units: expected a positive integer, got {units!r}")
        if implementation not in (1, 2):
            raise ValueError(f"implementation: expected 1 or 2 (they run alike here), got {implementation!r}")
        for argument, rate in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            if not isinstance(rate, (int, float, np.number)) or not 0 <= rate <= 1:
                raise ValueError(f"{argument}: expected a fraction in 0..1, got {rate!r}")
        self.units = int(units)
        self.activation = activations.get(activation, "activation")
        self.recurrent_activation = activations.get(recurrent_activation, "recurrent_activation")
        self.use_bias = bool(use_bias)
        self.kernel_initializer = get_initializer(kernel_initializer, "kernel_initializer")
        self.recurrent_initializer = get_initializer(recurrent_initializer, "recurrent_initializer")
        self.bias_initializer = get_initializer(bias_initializer, "bias_initializer")
        self.unit_forget_bias = bool(unit_forget_bias)
        penalties = {
            "kernel_regularizer": kernel_regularizer,
            "recurrent_regularizer": recurrent_regularizer,
            "bias_regularizer": bias_regularizer,
            "kernel_constraint": kernel_constraint,
            "recurrent_constraint": recurrent_constraint,
            "bias_constraint": bias_constraint,
        }
        self.penalties = copy.deepcopy(penalties)  # configurations are dictionaries of dictionaries
        self.dropout, self.recurrent_dropout, self.seed = float(dropout), float(recurrent_dropout), seed
        self.implementation = implementation
        self.name, self.trainable, self.dtype = name, trainable, _dtype(dtype)
        self.engine: Engine = engine
        self.engine_used: str | None = None
        self._weights: LSTMWeights | None = None
        self._packed: tuple[LSTMWeights | None, Any] = None, None

    def __repr__(self) -> str:
        inputs = f"I={len(self.weights.kernel)}" if self.built else "not built"
        names = f"{self.activation.name}, {self.recurrent_activation.name}"
        return f"{type(self).__name__}({self.units}, {inputs}, {names}, {self.dtype})"

    def build(self, input_dim: int, seed: int | None = None, dtype: Any = None) -> LSTMCell:
        """Make the weights for I = `input_dim` input features, by Keras's rules from NumPy's draws.

        `seed` (default: the cell's own) makes them reproducible; `dtype` (default: the cell's own, float32) becomes the
        cell's. Returns the cell.
        """
        if isinstance(input_dim, bool) or not isinstance(input_dim, (int, np.integer)) or input_dim <= 0:
            raise ValueError(f"input_dim: expected a positive integer, got {input_dim!r}")
        self.dtype = self.dtype if dtype is None else _dtype(dtype)
        rng, H = np.random.default_rng(self.seed if seed is None else seed), self.units
        kernel = self.kernel_initializer((int(input_dim), 4 * H), self.dtype, rng)
        recurrent_kernel = self.recurrent_initializer((H, 4 * H), self.dtype, rng)
        bias = None
        if self.use_bias and self.unit_forget_bias:  # ones for f; the others still use the initialiser
            i, go = (self.bias_initializer((n * H,), self.dtype, rng) for n in (1, 2))
            bias = np.concatenate([i, np.ones(H, self.dtype), go])
        elif self.use_bias:
            bias = self.bias_initializer((4 * H,), self.dtype, rng)
        self._take(LSTMWeights(kernel, recurrent_kernel, bias))
        return self

    @property
    def built(self) -> bool:
        """Whether the weights exist."""
        return self._weights is not None

    @property
    def weights(self) -> LSTMWeights:
        """`kernel (I, 4H)`, `recurrent_kernel (H, 4H)`, `bias (4H,)` or None; read-only: `set_weights` changes them.

        Raises: ValueError before `build`.
        """
        if self._weights is None:
            raise ValueError("weights: the cell has none yet; call build(I) or set_weights([...]) first")
        return self._weights

    def get_weights(self) -> list[Array]:
        """Copies, as Keras orders them: `[kernel, recurrent_kernel, bias]`, or the first two without bias."""
        return [w.copy() for w in self.weights if w is not None]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Take copies of `[kernel, recurrent_kernel, bias]`; builds the cell if it is not built.

        Raises: ValueError for another number or shape, TypeError for another dtype than a built cell has.
        """
        self._take(self._checked_weights(weights))

    def _checked_weights(self, weights: Sequence[Any]) -> LSTMWeights:
        expected = 3 if self.use_bias else 2
        if len(weights) != expected:
            raise ValueError(f"weights: expected {expected} arrays (use_bias={self.use_bias}), got {len(weights)}")
        names = ("kernel", "recurrent_kernel", "bias")
        kernel, recurrent_kernel, *bias = (read_array(n, w).copy() for n, w in zip(names, weights, strict=False))
        new = LSTMWeights(kernel, recurrent_kernel, bias[0] if bias else None).checked()
        if new.recurrent_kernel.shape[0] != self.units:
            raise ValueError(f"recurrent_kernel: expected H = {self.units}, got {new.recurrent_kernel.shape[0]}")
        if self._weights is not None:
            if new.kernel.shape != self._weights.kernel.shape:
                raise ValueError(f"kernel: expected shape {self._weights.kernel.shape}, got {new.kernel.shape}")
            if new.kernel.dtype != self.dtype:
                raise TypeError(f"weights: expected dtype {self.dtype}, got {new.kernel.dtype}")
        return new

    def _take(self, weights: LSTMWeights) -> None:
        for array in weights:
            if array is not None:
                array.flags.writeable = False  # what is packed of them must stay right
        self._weights, self.dtype = weights, weights.kernel.dtype

    def packed(self, weights: LSTMWeights) -> Any:
        """The cell's `weights` as the native engine reads them, made at their first use; None where it will not serve.

        Asked for by the weights, not by the cell alone: another thread may set new ones in the middle of a call.
        """
        if self.engine == "reference":
            return None
        of, packed = self._packed
        if of is not weights:
            packed = pack(weights)
            self._packed = weights, packed
        return packed

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": (None, None)}  # it can be made again, and not be written down

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._weights is not None:
            self._take(self._weights)  # a copy of a read-only array may be written into

    def options(self, go_backwards: bool = False) -> Options:
        """The cell's options as one value."""
        return Options(self.activation, self.recurrent_activation, go_backwards)

    def get_initial_state(self, batch_size: int) -> State:
        """Zeros: h and c, each (B, H)."""
        return check_state("initial_state", None, batch_size, self.units, self.dtype)

    def __call__(self, x: Any, state: Any = None) -> tuple[Array, State]:
        """One step: `x: (B, I)`, `state: (h, c)` each (B, H), None for zeros. Returns h' and (h', c')."""
        result = run(self._call(x, state), "state", self.engine)
        self.engine_used = result.engine
        return result.final.h.copy(), result.final  # either may be written into

    def gates(self, x: Any, state: Any = None) -> Gates:
        """The activated gates i, f, g, o, each (B, H), of the step that `cell(x, state)` makes."""
        result = run(self._call(x, state), "trace", self.engine)
        self.engine_used = result.engine
        return Gates(*(result.record.gates[:, 0, k] for k in range(4)))

    def _call(self, x: Any, state: Any) -> Call:
        weights, x = self.weights, read_array("x", x)
        if x.ndim != 2:
            _refuse("x", f"shape (B, I) = (B, {len(weights.kernel)})", x.shape)
        if state is not None:
            state = check_state("state", state, len(x), len(weights.recurrent_kernel), weights.kernel.dtype)
        return Call.checked(weights, self.options(), x[:, None], state, packed=self.packed(weights))

    def dropout_masks(self, batch_size: int, seed: int | None = None) -> dict[str, Array]:
        """Draw the masks of `dropout` and `recurrent_dropout` for one call in training: `rnn.vjp(x, **masks)`.

        Zero with the probability of the rate, else 1 / (1 - rate). As in Keras one mask serves all gates, or each gate
        has its own with `implementation=1`. The draws are NumPy's. Empty where both rates are 0.
        """
        rng = np.random.default_rng(seed)
        gates = (4,) if self.implementation == 1 else ()
        widths = {"dropout_mask": (self.dropout, len(self.weights.kernel))}
        widths["recurrent_dropout_mask"] = self.recurrent_dropout, self.units
        masks = {}
        for name, (rate, width) in widths.items():
            if 0 < rate < 1:  # of 1, too, Keras drops nothing
                masks[name] = ((rng.random((*gates, batch_size, width)) >= rate) / (1 - rate)).astype(self.dtype)
        return masks

    def get_config(self) -> dict[str, Any]:
        """The configuration, with Keras's keys: `keras.layers.LSTMCell.from_config` takes it.

        A callable of your own as activation stands there as it is: by its name another one could be found.
        """
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": self.dtype.name,
            "units": self.units,
            "activation": _named(self.activation),
            "recurrent_activation": _named(self.recurrent_activation),
            "use_bias": self.use_bias,
            "unit_forget_bias": self.unit_forget_bias,
            "kernel_initializer": self.kernel_initializer.serialize(),
            "recurrent_initializer": self.recurrent_initializer.serialize(),
            "bias_initializer": self.bias_initializer.serialize(),
            **copy.deepcopy(self.penalties),
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LSTMCell:
        """A cell from `get_config()`, ours or that of a Keras LSTMCell as it is.

        Raises: TypeError for unknown keys, such as those of a layer; ValueError for what NumPy has not, such as
        bfloat16 and quantized weights.
        """
        if "return_sequences" in config:
            raise TypeError("config: expected that of an LSTMCell, got that of a layer; take layer.cell.get_config()")
        return cls(**config)


def _named(activation: activations.Activation) -> str | activations.Activation:
    return activation.name if activation.is_built_in else activation


def _dtype(dtype: Any) -> np.dtype[Any]:
    if isinstance(dtype, dict):  # a serialised Keras policy; that of a quantized layer has no name
        config = dtype.get("config") or {}
        dtype = config.get("name") or f"{dtype.get('class_name')} {config.get('mode', '')}".strip()
    try:
        found: np.dtype[Any] = np.dtype({"mixed_float16": "float32", "mixed_bfloat16": "float32"}.get(dtype, dtype))
    except TypeError:
        found = np.dtype("V")
    if dtype is None or found.kind != "f" or not found.isnative:
        _refuse("dtype", "a NumPy float dtype, such as float32", dtype)
    return found


def _refuse(argument: str, expected: str, got: object) -> NoReturn:
    raise ValueError(f"{argument}: expected {expected}, got {got!r}")
