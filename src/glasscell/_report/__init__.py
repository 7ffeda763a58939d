"""Pages that show what a cell did: one HTML file each, readable offline. Needs `pip install "glasscell[report]"`."""

from glasscell._report.page import Example, trace_report, training_report

__all__ = ["Example", "trace_report", "training_report"]
