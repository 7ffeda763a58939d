"""The shapes, named after who uses them, the modes they run in, and the least time their work can take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

L1_BYTES = 48 * 1024  # of the first-level data cache: the larger of those in use
TORCH_TRAINING = tuple(
    f"torch {mode}" for mode in ("padded-train", "packed-train", "lengths-train", "recurrent-dropout", "reset")
)
TORCH_MODES = ("torch padded", "torch packed", "torch lengths", *TORCH_TRAINING)  # of modules of PyTorch
TRAINING = ("train", "lengths-train", "recurrent-dropout", *TORCH_TRAINING)  # the modes with a backward pass


class Shape(NamedTuple):
    """B rows, T steps, I input features, H units."""

    B: int
    T: int
    I: int
    H: int

    def flops(self, train: bool) -> int:
        """Of the matrix products: 8BTH(I+H) forward, and twice that again backward."""
        return 8 * self.B * self.T * self.H * (self.I + self.H) * (3 if train else 1)

    def floor(self, train: bool, kept: float, limits: Limits) -> float:
        """Seconds of the roofline: the products at the peak rate, or reading the weights, whichever takes longer.

        The recurrent kernel, 16HH bytes, is read anew at each step, forward and backward, and the kernel, 16IH, at
        least once. They come from L2 unless each thread's part of the recurrent kernel fits its L1; then their time
        counts as nothing. kept: the share of the steps that run.
        """
        weight_bytes = 16 * self.H * (self.T * self.H + self.I) * (2 if train else 1)
        if 16 * self.H * self.H / limits.threads <= L1_BYTES:
            weight_bytes = 0
        return max(kept * self.flops(train) / limits.peak_flops, weight_bytes / limits.l2_bandwidth)


class Limits(NamedTuple):
    """What this machine was measured to do with these threads: flop/s, and bytes/s from L2."""

    peak_flops: float
    l2_bandwidth: float
    threads: int


SHAPES = {
    "vad-step": Shape(1, 1, 128, 128),
    "amp-step": Shape(1, 1, 1, 24),
    "policy-step": Shape(64, 1, 256, 256),
    "tiny": Shape(8, 32, 16, 32),
    "odd7": Shape(5, 100, 7, 7),
    "odd63": Shape(5, 100, 7, 63),
    "odd100": Shape(5, 63, 7, 100),
    "long": Shape(1, 1000, 64, 64),
    "single64": Shape(1, 100, 64, 64),
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
_QUICK = ["vad-step", "tiny", "odd100", "single", "classic64", "classic256", "wide-batch", "text"]
_VARIED = ["tiny", "odd63", "classic64", "classic256", "wide-batch", "speech"]

_NAMED = ["tiny", "long", "single", "forecast", "classic64", "classic256", "wide-batch", "speech", "basin", "policy",
          "text"]  # fmt: skip
_FEW = ["tiny", "classic64", "wide-batch"]
VARIANTS = ("plain", "masked", "recurrent-dropout", "bidirectional")  # of a Keras model


def family(mode: str) -> str:
    """What a mode is asked for by: one named *-train runs with the one it extends; Keras models and PyTorch
    modules all together."""
    return mode.removesuffix("-train").partition(" ")[0]


# The shapes of each mode.
GRIDS = {
    "quick": {
        "infer": _QUICK,
        "train": _QUICK,
        "step": ["vad-step", "amp-step"],
        "lengths": ["classic64"],
        "lengths-train": ["classic64"],
        "recurrent-dropout": ["classic64"],
        "trace": ["classic64", "classic256"],
        **{f"keras {variant}": _FEW for variant in VARIANTS},
        **dict.fromkeys(TORCH_MODES, _FEW),
        "torch reset": [*_FEW, "policy"],
    },
    "full": {
        "infer": list(SHAPES),
        "train": list(SHAPES),
        "step": ["vad-step", "amp-step", "policy-step"],
        "lengths": _VARIED,
        "lengths-train": _VARIED,
        "recurrent-dropout": _VARIED,
        "trace": _VARIED,
        **{f"keras {variant}": _NAMED for variant in VARIANTS},
        **dict.fromkeys(TORCH_MODES, _NAMED),
        "torch reset": ["tiny", "classic64", "classic256", "wide-batch", "policy"],
    },
}
MODES = list(dict.fromkeys(map(family, GRIDS["full"])))


def plan(grid: str = "quick", modes: Iterable[str] = ()) -> list[tuple[str, str]]:
    """The rows of a grid, (shape, mode) each; `modes`: only these of MODES, default all.

    Raises: ValueError for an unknown grid or mode.
    """
    wanted = list(modes) or MODES
    for argument, got, known in (("grid", [grid], list(GRIDS)), ("mode", wanted, MODES)):
        if unknown := [g for g in got if g not in known]:
            raise ValueError(f"{argument}: expected one of {', '.join(known)}; got {unknown[0]!r}")
    rows = GRIDS[grid].items()
    return [(shape, mode) for mode, shapes in rows if family(mode) in wanted for shape in shapes]
