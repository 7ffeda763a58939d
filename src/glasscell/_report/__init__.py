"""Pages that show what a cell did: one HTML file each, readable offline. Needs matplotlib and jinja2."""

from glasscell._report.trace_page import trace_report
from glasscell._report.training_page import Example, training_report

__all__ = ["Example", "trace_report", "training_report"]
