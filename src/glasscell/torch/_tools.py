"""Serves the tools of PyTorch that look for the class `torch.nn.LSTM`.

`glasscell.torch.LSTM` cannot be a subclass of it, for torch.compile stops at such subclasses. torch.jit.trace,
torch.export, ONNX and torch.compile do not need this file.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import fx

from glasscell._ops.torch_compat import is_hooked

RESTORE = "glasscell.torch.restore(module) before it makes the LSTM torch's own, and accelerate goes back"


class Tools(torch.nn.RNNBase):  # type: ignore[misc]
    """The base of `LSTM` with its methods for torch.fx, TorchScript and torch.ao.quantization."""

    def _node(self, input: fx.Proxy, hx: Any, extras: dict[str, Any], forward: Any) -> Any:
        """Makes this module one node of the graph that torch.fx traces, as `torch.nn.LSTM` is.

        Raises: TraceError where this module itself is the traced root; and where it has hooks or its own `forward`,
        which have already run here and would run again with the node.
        """
        tracer, given = input.tracer, {name: value for name, value in extras.items() if value is not None}
        if tracer.root is self or type(self).forward is not forward or is_hooked(self):
            what = "an LSTM by itself, nor one with hooks or a forward of its own"
            raise fx.proxy.TraceError(f"torch.fx cannot trace {what}; {RESTORE}")
        return tracer.create_proxy("call_module", tracer.path_of_module(self), (input, hx), given)

    def __prepare_scriptable__(self) -> Any:
        """Refuses torch.jit.script, which asks here for a module to compile in place of this one.

        Giving it a `torch.nn.LSTM` would also replace this module in the user's model.

        Raises: RuntimeError.
        """
        raise RuntimeError(f"torch.jit.script compiles PyTorch's own layers; {RESTORE}; torch.jit.trace works as it is")

    @property
    def qconfig(self) -> Any:
        """The configuration that torch.ao.quantization sets on each module before it looks at the class."""
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
