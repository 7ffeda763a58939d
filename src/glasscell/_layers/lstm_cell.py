"""Defines `LSTMCell` on NumPy: one step of the LSTM, with Keras's arguments, weights and configuration."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from glasscell._cells import activations
from glasscell._cells.arguments import (
    check_choice,
    check_config,
    check_flag,
    check_name,
    check_rate,
    check_seed,
    check_size,
    described,
    named_arguments,
)
from glasscell._cells.checks import Array, State, check_arrays, check_state, read_array
from glasscell._cells.initializers import get_initializer
from glasscell._cells.layouts import LSTMWeights
from glasscell._cells.lstm import Gates, Options
from glasscell._layers.plain import run_plain
from glasscell._ops.call import Call, Engine
from glasscell._ops.numpy import ENGINES, pack, run

Activation = str | Callable[[Array], Array] | None


class LSTMCell:
    """The LSTM cell: computes one step of an LSTM, exactly as `keras.layers.LSTMCell` defines it.

    From the input x and the state (h, c), a step computes the gates, the new cell state c' and the new output h':

        i  = s(x W_i + h R_i + b_i)    input gate: how much is written
        f  = s(x W_f + h R_f + b_f)    forget gate: how much is kept
        g  = a(x W_g + h R_g + b_g)    candidate: what is written
        o  = s(x W_o + h R_o + b_o)    output gate: how much is shown
        c' = f * c + i * g             cell state, element by element
        h' = o * a(c')                 output, also called the hidden state

    Here a is `activation` (tanh) and s is `recurrent_activation` (sigmoid).

    Shapes: x is (B, I); h, c and every gate are (B, H), for B sequences, I input features and H = `units`.

    Weights: `kernel` (I, 4H) is W, `recurrent_kernel` (H, 4H) is R and `bias` (4H,) is b. Columns 0 to H-1 belong to
    i, H to 2H-1 to f, 2H to 3H-1 to g, and 3H to 4H-1 to o. `build` draws them, `set_weights` takes given ones.

    State: `cell(x, (h, c))` returns h' and (h', c'). The next step takes (h', c') as its state. Without a state, h and
    c are zeros.

    Dropout: `dropout` is the rate at which elements of x are zeroed, `recurrent_dropout` the rate for h on its way into
    the gates. A call of the cell drops nothing: `RNN` draws the masks, in calls with `training=True`.

    Example, with one input and one unit:

        cell = glasscell.LSTMCell(1)
        cell.set_weights([np.float32([[2, 0, 1, 1]]), np.float32([[1, -1, 1, 0]]), np.float32([-1, 1, 0, 0])])
        h, state = cell(np.float32([[1]]))  # step 1, from zeros: h = [[0.3696]]
        h, state = cell(np.float32([[0]]), state)  # step 2: h = [[0.2256]]

    Step 1 by hand, with x = 1 and h = c = 0:

        i  = sigmoid(1 * 2 + 0 * 1 - 1) = sigmoid(1) = 0.7311
        f  = sigmoid(1 * 0 + 0 * (-1) + 1) = sigmoid(1) = 0.7311
        g  = tanh(1 * 1 + 0 * 1 + 0) = tanh(1) = 0.7616
        o  = sigmoid(1 * 1 + 0 * 0 + 0) = sigmoid(1) = 0.7311
        c' = 0.7311 * 0 + 0.7311 * 0.7616 = 0.5568
        h' = 0.7311 * tanh(0.5568) = 0.7311 * 0.5056 = 0.3696

    Step 2 takes h = 0.3696 and c = 0.5568, and gives c' = 0.4862 and h' = 0.2256 for x = 0.

    The arguments, their names and their defaults are Keras's. Regularisers and constraints are only kept for the
    configuration: they act in training, which happens in Keras. `seed` seeds `build` and the dropout masks.
    `dtype` is float32 (the fast path), float64, or another NumPy float (reference engine). A Keras policy is read as
    the dtype of its variables, and everything is computed in it: mixed_float16 means float32.
    `engine`: "auto", "native" or "reference". `engine_used` is the engine of the last call.

    Raises: ValueError or TypeError naming the argument, where Keras would not take it.
    """

    @named_arguments
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
        self.units = check_size("units", units)
        if isinstance(implementation, bool) or not isinstance(implementation, int) or implementation not in (1, 2):
            got = described(implementation)
            raise ValueError(f"implementation: expected 1 or 2 (they run alike here), got {got}")
        self.activation = activations.get(activation, "activation")
        self.recurrent_activation = activations.get(recurrent_activation, "recurrent_activation")
        self.use_bias = check_flag("use_bias", use_bias)
        self.kernel_initializer = get_initializer(kernel_initializer, "kernel_initializer")
        self.recurrent_initializer = get_initializer(recurrent_initializer, "recurrent_initializer")
        self.bias_initializer = get_initializer(bias_initializer, "bias_initializer")
        self.unit_forget_bias = check_flag("unit_forget_bias", unit_forget_bias)
        penalties = {
            "kernel_regularizer": kernel_regularizer,
            "recurrent_regularizer": recurrent_regularizer,
            "bias_regularizer": bias_regularizer,
            "kernel_constraint": kernel_constraint,
            "recurrent_constraint": recurrent_constraint,
            "bias_constraint": bias_constraint,
        }
        self.penalties = copy.deepcopy(penalties)  # configurations are dictionaries of dictionaries
        self.dropout = check_rate("dropout", dropout)
        self.recurrent_dropout = check_rate("recurrent_dropout", recurrent_dropout)
        self.seed, self.implementation = check_seed("seed", seed), implementation
        self.name, self.trainable = check_name(name, "lstm_cell"), check_flag("trainable", trainable)
        self.dtype, self.engine = _dtype(dtype), check_choice("engine", engine, ENGINES)
        self.engine_used: str | None = None
        self._weights: LSTMWeights | None = None
        self._packed: tuple[LSTMWeights | None, Any] = None, None
        self._draws: Any = None  # the generator of `dropout_masks`, made when it is asked for

    def __repr__(self) -> str:
        inputs = f"I={len(self.weights.kernel)}" if self.built else "not built"
        names = f"{self.activation.name}, {self.recurrent_activation.name}"
        return f"{type(self).__name__}({self.units}, {inputs}, {names}, {self.dtype})"

    def build(self, input_dim: int, seed: int | None = None, dtype: Any = None) -> LSTMCell:
        """Draw new weights for I = `input_dim` input features, with Keras's initialisers and NumPy's random numbers.

        `seed` (default: the cell's own) makes them reproducible. `dtype` (default: the cell's own) becomes the dtype of
        the cell. Returns the cell.
        """
        inputs, H = check_size("input_dim", input_dim), self.units
        rng = generator(self.seed if seed is None else seed)
        self.dtype = self.dtype if dtype is None else _dtype(dtype)
        kernel = self.kernel_initializer((inputs, 4 * H), self.dtype, rng)
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
        """Copies of the weights in Keras's order: `[kernel, recurrent_kernel, bias]`, or the first two without bias."""
        return [w.copy() for w in self.weights if w is not None]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the weights to copies of `[kernel, recurrent_kernel, bias]`, or of an `LSTMWeights`.

        A cell that is not built yet takes its number of inputs and its dtype from them.
        Raises: ValueError for a wrong number of arrays or a wrong shape, TypeError for a dtype that a built cell lacks.
        """
        self._take(self._checked_weights(weights))

    def _checked_weights(self, weights: Sequence[Any]) -> LSTMWeights:
        expected = 3 if self.use_bias else 2
        weights = check_arrays("weights", weights)
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
                array.flags.writeable = False  # a write would leave the packed copy out of date
        self._weights, self.dtype = weights, weights.kernel.dtype

    def packed(self, weights: LSTMWeights) -> Any:
        """The `weights` packed for the native engine, made at their first use; None where that engine will not run.

        The caller passes the weights it computes with: another thread may set new ones in the middle of a call.
        """
        if self.engine == "reference":
            return None
        of, packed = self._packed
        if of is not weights:
            packed = pack(weights)
            self._packed = weights, packed
        return packed

    def __getstate__(self) -> dict[str, Any]:
        # Packed weights cannot be pickled, and can be made again. A copy draws from a generator of its own.
        return {**self.__dict__, "_packed": (None, None), "_draws": copy.deepcopy(self._draws)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._weights is not None:
            self._take(self._weights)  # makes them read-only again, which copied arrays are not

    def options(self, go_backwards: bool = False) -> Options:
        """The activations and the direction of time, as one value for the engines."""
        return Options(self.activation, self.recurrent_activation, go_backwards)

    def get_initial_state(self, batch_size: int) -> State:
        """The state (h, c) of zeros, each (B, H)."""
        return check_state("initial_state", None, check_size("batch_size", batch_size, 0), self.units, self.dtype)

    def __call__(self, x: Any, state: Any = None) -> tuple[Array, State]:
        """One step from `x: (B, I)` and `state: (h, c)`, each (B, H), or None for zeros. Returns h' and (h', c')."""
        if type(x) is np.ndarray and x.ndim == 2 and type(self) is LSTMCell:
            plain = run_plain(self, self.engine, False, False, x[:, None], state)
            if plain is not None:
                self.engine_used = "native"
                return plain[0], State(plain[1], plain[2])
        result = run(self._call(x, state), "state", self.engine)
        self.engine_used = result.engine
        return result.final.h.copy(), result.final  # copied: the caller may write into one without changing the other

    def gates(self, x: Any, state: Any = None) -> Gates:
        """The activated gates i, f, g, o, each (B, H), of the step that `cell(x, state)` computes."""
        result = run(self._call(x, state), "trace", self.engine)
        self.engine_used = result.engine
        return Gates(*(result.record.gates[:, 0, k] for k in range(4)))

    def _call(self, x: Any, state: Any) -> Call:
        weights, x = self.weights, read_array("x", x, "an array of shape (B, I)")
        if x.ndim != 2:
            _refuse("x", f"shape (B, I) = (B, {len(weights.kernel)})", x.shape)
        if state is not None:
            state = check_state("state", state, len(x), len(weights.recurrent_kernel), weights.kernel.dtype)
        return Call.checked(weights, self.options(), x[:, None], state, packed=self.packed(weights))

    def dropout_masks(self, batch_size: int, seed: int | None = None) -> dict[str, Array]:
        """Draw the masks of `dropout` and `recurrent_dropout` for one call in training: `rnn.vjp(x, **masks)`.

        An element is zero with the probability of the rate, else 1 / (1 - rate). As in Keras, one mask (B, I) serves
        all gates; with a `recurrent_dropout` or `implementation=1` each gate has its own: (4, B, I) and (4, B, H). The
        random numbers are NumPy's. Without a `seed` here, they come from the cell's own generator, which moves on with
        each call. Returns the masks by name; a rate that drops nothing gives none.
        """
        batch, inputs = check_size("batch_size", batch_size, 0), len(self.weights.kernel)
        if seed is None and self._draws is None:  # seeded otherwise than in `build`, so that masks and weights differ
            self._draws = np.random.default_rng(None if self.seed is None else [self.seed, 1])
        rng = self._draws if seed is None else generator(seed)
        gates = (4,) if self.implementation == 1 or self.recurrent_dropout else ()
        masks = {}
        for (name, rate), width in zip(self.rates().items(), (inputs, self.units), strict=True):
            if rate:
                masks[name] = ((rng.random((*gates, batch, width)) >= rate) / (1 - rate)).astype(self.dtype)
        return masks

    def rates(self) -> dict[str, float]:
        """The dropout rates by the names of their masks; a rate of 1 is given as 0, for Keras drops nothing then."""
        return {"dropout_mask": self.dropout % 1, "recurrent_dropout_mask": self.recurrent_dropout % 1}

    def get_config(self) -> dict[str, Any]:
        """The configuration, with Keras's keys: `keras.layers.LSTMCell.from_config` takes it.

        An activation that is a callable of your own is kept as the callable: its name could find another function.
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
        """Make a cell from the `get_config()` of a glasscell or a Keras LSTMCell.

        Raises: TypeError for unknown keys, such as those of a layer; ValueError for a dtype that NumPy does not have,
        such as bfloat16, and for quantized weights.
        """
        if "return_sequences" in check_config(config):
            raise TypeError("config: expected that of an LSTMCell, got that of a layer; take layer.cell.get_config()")
        return cls(**check_config(config, "units"))


def _named(activation: activations.Activation) -> str | activations.Activation:
    return activation.name if activation.is_built_in else activation


def _dtype(dtype: Any) -> np.dtype[Any]:
    if isinstance(dtype, dict):  # a serialised Keras policy; that of a quantized layer has no name
        config = dtype.get("config") or {}
        dtype = config.get("name") or f"{dtype.get('class_name')} {config.get('mode', '')}".strip()
    try:
        found: np.dtype[Any] = np.dtype({"mixed_float16": "float32", "mixed_bfloat16": "float32"}.get(dtype, dtype))
    except (TypeError, ValueError):
        found = np.dtype("V")
    if dtype is None or found.kind != "f" or not found.isnative:
        _refuse("dtype", "a NumPy float dtype, such as float32", dtype)
    return found


def _refuse(argument: str, expected: str, got: object) -> NoReturn:
    raise ValueError(f"{argument}: expected {expected}, got {described(got)}")


def generator(seed: Any) -> np.random.Generator:
    """Makes a random generator from a seed; returns a generator as it is. Raises: ValueError for any other value."""
    if isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(check_seed("seed", seed))
