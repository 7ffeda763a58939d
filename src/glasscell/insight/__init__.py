"""Explains a trace: where a memory comes from, why a gate is open, how long a unit remembers, how gradients flow.

Every function takes a `glasscell.Trace`, whether it comes from a NumPy, Keras or PyTorch layer (of `Traces`, take one).
It computes in float64, and only for the rows, steps and units that are asked for. Time is in processing order.
"""

from glasscell.insight._gates import GateTerms, gate_terms
from glasscell.insight._gradient import GradientFlow, gradient_flow
from glasscell.insight._memory import MemorySources, OutputSources, memory_sources, output_sources
from glasscell.insight._time import Saturation, half_life, saturation

__all__ = [
    "GateTerms",
    "GradientFlow",
    "MemorySources",
    "OutputSources",
    "Saturation",
    "gate_terms",
    "gradient_flow",
    "half_life",
    "memory_sources",
    "output_sources",
    "saturation",
]
