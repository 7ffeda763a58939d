"""What a trace tells: where a memory comes from, why a gate is open, how long a unit remembers, how gradients flow.

Every function takes a `glasscell.Trace`, which NumPy, Keras and PyTorch layers give alike (of `Traces`, take one), and
computes in float64 what the rows, steps and units that are asked for need. Time is in processing order.
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
