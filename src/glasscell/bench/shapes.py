"""The shapes, named after who uses them, and the work in them."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """B rows, T steps, I input features, H units."""

    B: int
    T: int
    I: int
    H: int

    def flops(self, train: bool) -> int:
        """Of the matrix products: 8BTH(I+H) forward, and twice that again backward."""
        return 8 * self.B * self.T * self.H * (self.I + self.H) * (3 if train else 1)


SHAPES = {
    "vad-step": Shape(1, 1, 128, 128),
    "amp-step": Shape(1, 1, 1, 24),
    "policy-step": Shape(64, 1, 256, 256),
    "tiny": Shape(8, 32, 16, 32),
    "odd": Shape(5, 63, 7, 100),
    "long": Shape(1, 1000, 64, 64),
    "single": Shape(1, 100, 256, 256),
    "forecast": Shape(32, 48, 8, 128),
    "classic64": Shape(32, 100, 64, 64),
    "classic256": Shape(32, 100, 256, 256),
    "wide-batch": Shape(128, 100, 128, 128),
    "speech": Shape(16, 300, 40, 256),
    "basin": Shape(256, 365, 32, 128),
    "policy": Shape(64, 16, 256, 256),
    "text": Shape(64, 50, 512, 512),
    "basecall": Shape(96, 100, 1024, 1024),
}
GRIDS = {
    "quick": ["vad-step", "tiny", "odd", "single", "classic64", "classic256", "wide-batch", "text"],
    "full": list(SHAPES),
}
