"""Draws a trace for papers: the views of `trace.report(path)` as matplotlib figures.

Every function takes a `glasscell.Trace`, or a result of `glasscell.insight`, and returns a new figure that is not
registered with pyplot: `figure.savefig("gates.pdf")` writes it. Needs matplotlib.
"""

try:
    from glasscell.report._heat_maps import gates_and_states
    from glasscell.report._sums import gate_terms, memory_sources
    from glasscell.report._time import gradient_flow, half_lives, saturation
except ModuleNotFoundError as error:
    from glasscell import _doors

    raise _doors.missing("glasscell.report", error) from None

__all__ = ["gate_terms", "gates_and_states", "gradient_flow", "half_lives", "memory_sources", "saturation"]
