"""Answers PyTorch's tools that look for `torch.nn.LSTM` by its class.

Ours cannot be a subclass, for torch.compile stops at `torch.nn.LSTM` and its subclasses. torch.jit.trace, torch.export,
ONNX and torch.compile need nothing from here.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import fx

from glasscell._ops.torch_compat import is_hooked

RESTORE = "glasscell.torch.restore(module) before it makes the LSTM torch's own, and accelerate goes back"


class Tools(torch.nn.RNNBase):  # type: ignore[misc]
    """The part of `LSTM` that is for torch.fx, TorchScript and torch.ao.quantization."""

    def _node(self, input: fx.Proxy, hx: Any, extras: dict[str, Any], forward: Any) -> Any:
        """This module as one node of the graph that torch.fx traces, which `torch.nn.LSTM` is too.

        Raises: TraceError for the whole of what is traced; and where something of this module's has run already, on its
        way to `forward`: it would run once more with the node.
        """
        tracer, given = input.tracer, {name: value for name, value in extras.items() if value is not None}
        if tracer.root is self or type(self).forward is not forward or is_hooked(self):
            what = "an LSTM by itself, nor one with hooks or a forward of its own"
            raise fx.proxy.TraceError(f"torch.fx cannot trace {what}; {RESTORE}")
        return tracer.create_proxy("call_module", tracer.path_of_module(self), (input, hx), given)

    def __prepare_scriptable__(self) -> Any:
        """Refuses torch.jit.script, which asks here for a module to compile in place of this one.

        Torch's LSTM in its place would stand in the user's model too.

        Raises: RuntimeError.
        """
        raise RuntimeError(f"torch.jit.script compiles PyTorch's own layers; {RESTORE}; torch.jit.trace works as it is")

    @property
    def qconfig(self) -> Any:
        """The note that torch.ao.quantization leaves at each module before it looks for its class."""
        try:
            return self.__dict__["qconfig"]
        except KeyError:
            raise AttributeError("qconfig") from None

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        self.__dict__["qconfig"] = value
        warnings.warn(f"torch.ao.quantization leaves a glasscell.torch.LSTM in float; {RESTORE}", stacklevel=2)

    @qconfig.deleter
    def qconfig(self) -> None:
        self.__dict__.pop("qconfig", None)
