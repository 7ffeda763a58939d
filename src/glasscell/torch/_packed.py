"""Converts packed sequences to padded batches and back, with one copy each way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from glasscell._ops.torch_eligibility import at_hand, why_in_torch


class Packing:
    """Holds the index of each step of a packed sequence in a batch (B, T), whose rows are in their unsorted order.

    lengths: (B,), the length of each row.
    """

    def __init__(self, packed: PackedSequence) -> None:
        self._packed, sizes = packed, packed.batch_sizes
        self.T, self.B = len(sizes), int(sizes[0])
        inside, device = torch.arange(self.B, device="cpu") < sizes[:, None], packed.data.device
        step, row = (t.to(device) for t in inside.nonzero(as_tuple=True))  # in the order of the packed data
        self.lengths = inside.sum(0).to(device)
        if packed.sorted_indices is not None:
            there, back = packed.sorted_indices.to(device), packed.unsorted_indices.to(device)
            row, self.lengths = there[row], self.lengths[back]
        self._place = row * self.T + step

    def padded(self, data: Tensor) -> Tensor:
        """Returns packed data as (B, T, ...), undefined beyond a row's length."""
        if self.B == 1:
            return data[None]
        batch: Tensor = data.new_empty(self.B * self.T, *data.shape[1:]).index_copy_(0, self._place, data)
        return batch.view(self.B, self.T, *data.shape[1:])

    def data(self, y: Tensor) -> Tensor:
        """Returns `y: (B, T, ...)` as packed data, (sum of lengths, ...)."""
        if self.B == 1:
            return y[0].clone()  # a copy, for the reason in `_ops.torch.run`
        rows = y.reshape(self.B * self.T, *y.shape[2:])
        plain = at_hand(rows) and why_in_torch(rows) is None
        taken: Tensor = _Take.apply(rows, self._place) if plain else rows.index_select(0, self._place)
        return taken

    def packed(self, y: Tensor) -> PackedSequence:
        """Packs `y: (B, T, ...)` in the same way as the original sequence."""
        like = self._packed
        return PackedSequence(self.data(y), like.batch_sizes, like.sorted_indices, like.unsorted_indices)


class _Take(torch.autograd.Function):  # type: ignore[misc]
    """Takes rows at distinct indices, so that the gradient can copy rows, where that of `index_select` adds them."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, places: Tensor) -> Tensor:
        ctx.rows = len(source)
        ctx.save_for_backward(places)
        return source.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        rows = gradient.new_zeros(ctx.rows, *gradient.shape[1:])
        if at_hand(gradient):
            return rows.index_copy_(0, places, gradient), None
        return rows.index_put_((places,), gradient), None  # the same result; `vmap` supports only this one
