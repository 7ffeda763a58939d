"""Torch's LSTM and ours side by side: twins with the same parameters, and the comparison of what they give."""

import io

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence

from compare import assert_close, assert_same_bits
from glasscell.torch import LSTM

# Of the scale, between torch's results and ours: the roundings of both, grown over layers and steps.
RELATIVE = {torch.float32: 4e-6, torch.float64: 1e-12}


def normal(rng, shape, dtype):
    """Draws by NumPy: torch's own draws depend on the instruction set, and so would what is lost to rounding."""
    return torch.from_numpy(rng.standard_normal(shape, np.float32)).to(dtype)


def twins(*sizes, kinds=(torch.nn.LSTM, LSTM), **options):
    """Torch's module and ours with the same parameters."""
    theirs, mine = (kind(*sizes, **options) for kind in kinds)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, mine


def pair(seed, **fixed):
    """torch's module and ours with the same parameters, an input and an initial state or None."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    options = {
        "num_layers": int(rng.integers(1, 4)),
        "bidirectional": bool(rng.random() < 0.5),
        "bias": bool(rng.random() < 0.8),
        "batch_first": bool(rng.random() < 0.5),
        "dtype": torch.float64 if rng.random() < 0.3 else torch.float32,
    } | fixed
    B, T, features, H = (int(rng.integers(1, high)) for high in (7, 12, 20, 20))
    theirs, mine = twins(features, H, **options)
    mine.engine = "native"
    x = normal(rng, (B, T, features), options["dtype"])
    states = None
    if rng.random() < 0.5:
        shape = options["num_layers"] * (1 + options["bidirectional"]), B, H
        states = tuple(normal(rng, shape, options["dtype"]) for _ in "hc")
    return theirs, mine, x if options["batch_first"] else x.transpose(0, 1), states


def saved(module):
    """The module after a file."""
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def flat(values):
    """The tensors, and None, in nested tuples, dictionaries and packed sequences."""
    if values is None or isinstance(values, torch.Tensor):
        return [values]
    if isinstance(values, PackedSequence):
        return [values.data]
    return [t for value in (values.values() if isinstance(values, dict) else values) for t in flat(value)]


def agree(got, expected, relative=None, times=1):
    """Each tensor within `relative` of its scale; else of the dtype expected and within `times` its `RELATIVE`."""
    expected = flat(expected)
    assert expected
    for k, (g, e) in enumerate(zip(flat(got), expected, strict=True)):
        assert (g is None) == (e is None), f"result {k}"
        if e is not None:
            assert relative or g.dtype == e.dtype
            assert_close(g.detach().double(), e.detach().double(), relative or times * RELATIVE.get(e.dtype, 0), k)


def agree_in_bits(got, expected):
    for g, e in zip(flat(got), flat(expected), strict=True):
        assert_same_bits(g.detach(), e.detach())
