"""Pages that show what a cell did: one HTML file each, which opens offline and can be taken hold of. Needs NumPy alone.

`data.py` says what of a trace goes onto a page, `size.py` how much of it, `write.py` makes the file. What a reader sees
and does is in `page/`: data/ reads and adds up numbers, drawing/ draws them, text/ says them, control/ answers keys and
clicks, style/ says how it looks.
"""

from glasscell._report.data import Answer, answer_of
from glasscell._report.notebook import summary
from glasscell._report.trace_page import trace_report
from glasscell._report.training_page import training_report

__all__ = ["Answer", "answer_of", "summary", "trace_report", "training_report"]
