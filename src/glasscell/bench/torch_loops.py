"""An LSTM with recurrent dropout as PyTorch users write it: a loop over the steps, in operators that autograd knows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Loop = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def step(xw: Tensor, h: Tensor, c: Tensor, masks: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
    """The next h and c, (B, H). xw: x W + b, and masks, (4, B, H). R: (4, H, H)."""
    i, f, g, o = torch.baddbmm(xw, h * masks, R).unbind(0)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def over_time(step: Step) -> Loop:
    """The whole sequence, by this step: a function that torch.jit.script can take.

    Its arguments: x: (B, T, I), weight_ih: (4H, I), weight_hh: (4H, H), the sum of the biases: (4H,), and the masks.
    It gives h at all steps, (B, T, H). Tensors are unbound, never indexed: the gradient of an index is a whole tensor
    of zeros, at each step.
    """

    def loop(x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, masks: Tensor) -> Tensor:
        B, T, H = x.shape[0], x.shape[1], weight_hh.shape[1]
        xw = torch.nn.functional.linear(x, weight_ih, bias).view(B, T, 4, H).permute(1, 2, 0, 3)
        R = weight_hh.view(4, H, H).transpose(1, 2)
        h = x.new_zeros(B, H)
        c = h
        hs = []
        for xt in xw.unbind(0):
            h, c = step(xt, h, c, masks, R)
            hs.append(h)
        return torch.stack(hs, 1)

    return loop
