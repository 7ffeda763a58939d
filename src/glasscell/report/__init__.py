"""Figures of what a cell did, for papers: the views of `trace.report(path)` as matplotlib figures.

Every function takes a `glasscell.Trace`, or what `glasscell.insight` makes of one, and returns a figure of its own,
which pyplot does not know: `figure.savefig("gates.pdf")`. Needs matplotlib.
"""

try:
    from glasscell.report._heat_maps import gates_and_states
    from glasscell.report._sums import gate_terms, memory_sources
    from glasscell.report._time import gradient_flow, half_lives, saturation
except ModuleNotFoundError as error:
    from glasscell import _doors

    raise _doors.missing("glasscell.report", error) from None

__all__ = ["gate_terms", "gates_and_states", "gradient_flow", "half_lives", "memory_sources", "saturation"]
