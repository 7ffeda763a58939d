"""`LSTM` on NumPy: a cell and its run over time, in one name."""

from __future__ import annotations

from typing import Any, Self

from glasscell._cells.arguments import check_choice, check_config, check_name, named_arguments
from glasscell._layers.lstm_cell import Activation, LSTMCell
from glasscell._layers.rnn import RNN
from glasscell._ops.call import Engine


class LSTM(RNN):
    """Runs an `LSTMCell` over time: `RNN(LSTMCell(units, ...), ...)` in one name, as `keras.layers.LSTM`.

    The arguments, their names and defaults are those of `LSTMCell` and of `RNN`, and Keras's.

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
        """A layer from `get_config()`, ours or that of a `keras.layers.LSTM` as it is.

        Raises: TypeError for unknown keys; ValueError for what NumPy has not, such as bfloat16.
        """
        return cls(**check_config(config, "units"))

    @classmethod
    def from_torch(
        cls, module: Any, return_sequences: bool = True, return_state: bool = False, stateful: bool = False
    ) -> Any:
        """The layer of a whole `torch.nn.LSTM` or `glasscell.torch.LSTM`, or of its `state_dict()`, with its weights.

        Returns an `LSTM` of one layer, an `RNN` over `StackedRNNCells` of several; of two directions a `Bidirectional`,
        and of several such layers a chain of them, with `layer(x)`, `layer.vjp(x)` and `layer.trace(x)` as these have.
        x is (B, T, I) whatever the module's `batch_first`, and of its parameters' dtype. With `lengths` the output is
        that of a packed sequence, padded with zeros. `dropout` between layers acts in PyTorch alone, and a warning says
        so. A `state_dict` does not say which activations it was trained with: they are tanh and sigmoid.

        Raises: TypeError for another kind of module; ValueError for `proj_size`, which the cell has not, and for arrays
        that do not fit.

            layer = glasscell.LSTM.from_torch(torch.nn.LSTM(12, 64, num_layers=2, bidirectional=True))
            y = layer(x)  # x: (B, T, 12) float32; y: (B, T, 128)
        """
        from glasscell._layers.torch_modules import layer_of

        return layer_of(module, return_sequences, return_state, stateful)
