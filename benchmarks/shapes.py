"""The shapes, named after who uses them, the modes they run in, and the least time their work can take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from glasscell import _native
from glasscell._cli.contestants import Shape

L1_BYTES = 48 * 1024  # of the first-level data cache: the larger of those in use
SEQUENCES = ("infer", "train", "lengths", "lengths-train")
LAYERS = (*SEQUENCES, "recurrent-dropout")  # modes in which Keras's layer runs alone
PADDED, PACKED = ("torch padded", "torch padded-train"), ("torch packed", "torch packed-train")
LENGTHS, DROPOUT = ("torch lengths", "torch lengths-train"), ("torch recurrent-dropout",)
RESET = ("torch reset",)
TORCH = (*PADDED, *PACKED, *LENGTHS, *DROPOUT, *RESET)  # of modules of PyTorch
BACKENDS = {"TensorFlow": "tensorflow", "JAX": "jax", "torch": "torch"}  # of Keras
VARIANTS = ("plain", "masked", "recurrent-dropout", "bidirectional")  # of a Keras model


def models_on(backend: str) -> tuple[str, ...]:
    """The modes of Keras models: train_on_batch and predict_on_batch of each variant."""
    return tuple(f"keras {backend} {variant}{call}" for variant in VARIANTS for call in ("-train", ""))


MODELS = tuple(mode for backend in BACKENDS for mode in models_on(backend))


@dataclass
class Limits:
    """What this machine was measured to do with these threads: flop/s, and bytes/s from L2."""

    threads: int
    peak_flops: float = 0.0
    l2_bandwidth: float = 0.0

    def measure(self) -> None:
        """Once more: the best of all times counts, for a busy moment shows less than the machine."""
        self.peak_flops = max(self.peak_flops, _native.peak_flops(self.threads))
        self.l2_bandwidth = max(self.l2_bandwidth, _native.l2_bandwidth(self.threads))

    def floor(self, shape: Shape, train: bool, kept: float = 1.0) -> float:
        """Seconds of the roofline: the products at the peak rate, or reading the weights, whichever takes longer.

        The recurrent kernel, 16HH bytes, is read anew at each step, forward and backward, and the kernel, 16IH, at
        least once. They come from L2 unless each thread's part of the recurrent kernel fits its L1; then their time
        counts as nothing. kept: the share of the steps that run.
        """
        weight_bytes = 16 * shape.H * (shape.T * shape.H + shape.I) * (2 if train else 1)
        if 16 * shape.H * shape.H / self.threads <= L1_BYTES:
            weight_bytes = 0
        return max(kept * shape.flops(train) / self.peak_flops, weight_bytes / self.l2_bandwidth)


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

GRIDS = {  # the shapes of each mode
    "quick": {
        "infer": _QUICK,
        "train": _QUICK,
        "step": ["vad-step", "amp-step"],
        "lengths": ["classic64"],
        "lengths-train": ["classic64"],
        "recurrent-dropout": ["classic64"],
        "trace": ["classic64", "classic256"],
        **dict.fromkeys(MODELS, _FEW),
        **dict.fromkeys(TORCH, _FEW),
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
        **dict.fromkeys(MODELS, _NAMED),
        **dict.fromkeys(TORCH, _NAMED),
        "torch reset": ["tiny", "classic64", "classic256", "wide-batch", "policy"],
    },
}


def trains(mode: str) -> bool:
    """Whether a mode has a backward pass."""
    return mode.endswith("train") or mode in ("recurrent-dropout", *DROPOUT, *RESET)


def family(mode: str) -> str:
    """The name that asks for a mode: *-train runs with the mode it extends; Keras models and PyTorch modules run all
    together."""
    return mode.removesuffix("-train").partition(" ")[0]


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
