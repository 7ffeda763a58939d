"""Defines `StackedRNNCells` on NumPy: cells that run one after another at each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glasscell._cells.arguments import check_config, check_flag, check_name, described, kind_of, named_arguments
from glasscell._cells.checks import Array, State, check_arrays
from glasscell._cells.layouts import LSTMWeights
from glasscell._layers.lstm_cell import LSTMCell, generator
from glasscell._layers.serialized import deserialized, serialized


class StackedRNNCells:
    """Runs cells one after another at each step, as in `keras.layers`: each cell's h is the next cell's input.

    cells: a list of `LSTMCell`s, first to last. Inside `RNN`, each cell runs over the whole sequence in one native
    call.
    Raises: TypeError for cells of another kind, ValueError for an empty list.

        rnn = glasscell.RNN(glasscell.StackedRNNCells([glasscell.LSTMCell(64), glasscell.LSTMCell(32)]))
    """

    @named_arguments
    def __init__(self, cells: Sequence[LSTMCell], *, name: str = "stacked_rnn_cells", trainable: bool = True) -> None:
        if not isinstance(cells, (list, tuple)):
            raise TypeError(f"cells: expected a list of glasscell.LSTMCell, got {kind_of(cells)}")
        for cell in cells:
            if not isinstance(cell, LSTMCell):
                raise TypeError(f"cells: expected a list of glasscell.LSTMCell, got one with {kind_of(cell)}")
        if not cells:
            raise ValueError("cells: expected at least one cell, got none")
        self.cells, self.name = list(cells), check_name(name, "stacked_rnn_cells")
        self.trainable = check_flag("trainable", trainable)

    def __repr__(self) -> str:
        return f"StackedRNNCells({self.cells!r})"

    def build(self, input_dim: int, seed: int | None = None, dtype: Any = None) -> StackedRNNCells:
        """Draw the weights of all cells; the first has I = `input_dim` input features. Returns the stack.

        One generator seeds all cells: with a `seed`, no two cells start with the same weights.
        """
        draws = generator(seed)
        for cell in self.cells:
            cell.build(input_dim, int(draws.integers(2**32)) if cell.seed is None else None, dtype)
            input_dim = cell.units
        return self

    @property
    def built(self) -> bool:
        """Whether the weights of all cells exist."""
        return all(cell.built for cell in self.cells)

    @property
    def weights(self) -> list[LSTMWeights]:
        """The weights of each cell, read-only. Raises: ValueError before `build`."""
        return [cell.weights for cell in self.cells]

    def get_weights(self) -> list[Array]:
        """Copies of the weights in Keras's order: `[kernel, recurrent_kernel, bias]` of each cell in turn."""
        return [array for cell in self.cells for array in cell.get_weights()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the weights to copies of the given ones, in the order of `get_weights`; builds cells that are not built.

        Raises: as `LSTMCell.set_weights`. After an error, all weights are as before.
        """
        self._take(self._checked_weights(weights))

    def _checked_weights(self, weights: Sequence[Any]) -> list[LSTMWeights]:
        weights = check_arrays("weights", weights)
        counts = [3 if cell.use_bias else 2 for cell in self.cells]
        if len(weights) != sum(counts):
            raise ValueError(f"weights: expected {sum(counts)} arrays for {len(counts)} cells, got {len(weights)}")
        ends = np.cumsum(counts)
        parts = [weights[end - count : end] for end, count in zip(ends, counts, strict=True)]
        return [cell._checked_weights(part) for cell, part in zip(self.cells, parts, strict=True)]

    def _take(self, weights: list[LSTMWeights]) -> None:
        for cell, own in zip(self.cells, weights, strict=True):
            cell._take(own)

    def get_initial_state(self, batch_size: int) -> list[State]:
        """The states (h, c) of zeros, one for each cell."""
        return [cell.get_initial_state(batch_size) for cell in self.cells]

    def __call__(self, x: Any, states: Any = None) -> tuple[Array, list[State]]:
        """One step from `x: (B, I)` and a list of states (h, c), None for zeros. Returns the last h' and the states."""
        states = [None] * len(self.cells) if states is None else states
        if not isinstance(states, (list, tuple)) or len(states) != len(self.cells):
            raise ValueError(f"states: expected a list of {len(self.cells)} pairs (h, c), got {described(states)}")
        new = []
        for cell, state in zip(self.cells, states, strict=True):
            x, state = cell(x, state)
            new.append(state)
        return x, new

    def get_config(self) -> dict[str, Any]:
        """The configuration, with Keras's keys: `keras.layers.StackedRNNCells.from_config` takes it."""
        cells = [serialized(cell, "LSTMCell") for cell in self.cells]
        return {"name": self.name, "trainable": self.trainable, "dtype": self.cells[0].dtype.name, "cells": cells}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> StackedRNNCells:
        """Make a stack from the `get_config()` of glasscell or Keras. Raises: TypeError for cells of another kind."""
        config = {key: value for key, value in check_config(config, "cells").items() if key != "dtype"}
        cells = config.pop("cells")
        if isinstance(cells, (list, tuple)):
            cells = [deserialized(cell, {"LSTMCell": LSTMCell}, "cells") for cell in cells]
        return cls(cells, **config)
