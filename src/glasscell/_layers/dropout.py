"""Draws the dropout masks that the caller of a training step did not give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glasscell._cells.checks import read_array
from glasscell._layers.lstm_cell import LSTMCell

MASKS = ("dropout_mask", "recurrent_dropout_mask")


def draw_missing(cells: Sequence[LSTMCell], masks: dict[str, list[Any]], x: Any, training: bool | None) -> bool:
    """Fills `masks`, lists by mask name with an entry for each cell, where a cell has a rate and its entry is None.

    Returns whether it drew any. Raises: ValueError where `training` is None and a mask is missing.
    """
    wanted = [(cell, n, name) for n, cell in enumerate(cells) for name, rate in cell.rates().items()
              if rate and masks[name][n] is None]  # fmt: skip
    if not wanted:
        return False
    if training is None:
        cell, _, name = wanted[0]
        raise ValueError(
            f"training: expected True to draw the masks of {name.removesuffix('_mask')}={cell.rates()[name]}, or "
            f"False for a gradient without, got neither this nor {name}"
        )
    batch = len(np.atleast_1d(read_array("x", x)))
    drawn = [cell.dropout_masks(batch) for cell in cells]
    for _, n, name in wanted:
        masks[name][n] = drawn[n][name]
    return True
