"""Defines `LSTM` on NumPy: an `RNN` that makes its own `LSTMCell`."""

from __future__ import annotations

from typing import Any, Self

from glasscell._cells.arguments import check_choice, check_config, check_name, named_arguments
from glasscell._layers.lstm_cell import Activation, LSTMCell
from glasscell._layers.rnn import RNN
from glasscell._ops.call import Engine


class LSTM(RNN):
    """Runs an `LSTMCell` over time, as `keras.layers.LSTM` does: short for `RNN(LSTMCell(units, ...), ...)`.

    `LSTMCell` and `RNN` explain the arguments. Their names and defaults are Keras's.

        lstm = glasscell.LSTM(64, return_sequences=True).build(12, seed=0)
        y = lstm(x)  # x: (B, T, 12) float32; y: (B, T, 64)
    """

    cell: LSTMCell

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
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        use_cudnn: Any = "auto",
        zero_output_for_mask: bool = False,
        *,
        name: str = "lstm",
        trainable: bool = True,
        dtype: Any = "float32",
        implementation: int = 2,
        engine: Engine = "auto",
    ) -> None:
        cell = LSTMCell(
            units, activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer,
            bias_initializer, unit_forget_bias, kernel_regularizer, recurrent_regularizer, bias_regularizer,
            kernel_constraint, recurrent_constraint, bias_constraint, dropout, recurrent_dropout, seed,
            trainable=trainable, dtype=dtype, implementation=implementation, engine=engine,
        )  # fmt: skip
        super().__init__(
            cell, return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask,
            name=check_name(name, "lstm"), trainable=trainable, engine=engine,
        )  # fmt: skip
        self.activity_regularizer = activity_regularizer
        self.use_cudnn = use_cudnn if isinstance(use_cudnn, bool) else check_choice("use_cudnn", use_cudnn, ("auto",))

    def get_config(self) -> dict[str, Any]:
        """The configuration, with Keras's keys: `keras.layers.LSTM.from_config` takes it."""
        return {**self.cell.get_config(), **self._own_config(), "activity_regularizer": self.activity_regularizer}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a layer from the `get_config()` of a glasscell or a Keras LSTM layer.

        Raises: TypeError for unknown keys; ValueError for a dtype that NumPy does not have, such as bfloat16.
        """
        return cls(**check_config(config, "units"))

    @classmethod
    def from_torch(
        cls, module: Any, return_sequences: bool = True, return_state: bool = False, stateful: bool = False
    ) -> Any:
        """Make a layer with the weights of a `torch.nn.LSTM` or `glasscell.torch.LSTM`, or of its `state_dict()`.

        Returns an `LSTM` for one layer, and an `RNN` over `StackedRNNCells` for several. For two directions it returns
        a `Bidirectional`, and for several layers of two directions a chain of them, which has `layer(x)`,
        `layer.vjp(x)` and `layer.trace(x)` too. x is (B, T, I) whatever the module's `batch_first`, and has the dtype
        of its parameters. With `lengths` the output is that of a packed sequence, padded with zeros. The module's
        `dropout` between layers is not carried over, and a warning says so. The activations of a `state_dict` are
        taken to be tanh and sigmoid, for it does not name them.

        Raises: TypeError for another kind of module; ValueError for a module with `proj_size`, for which the cell has
        no equation, and for arrays that do not fit.

            layer = glasscell.LSTM.from_torch(torch.nn.LSTM(12, 64, num_layers=2, bidirectional=True))
            y = layer(x)  # x: (B, T, 12) float32; y: (B, T, 128)
        """
        from glasscell._layers.torch_modules import layer_of

        return layer_of(module, return_sequences, return_state, stateful)
