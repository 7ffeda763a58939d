"""Writes interactive pages that show a trace: one HTML file each, which opens offline. Needs only NumPy.

`data.py` chooses which parts of a trace go onto a page, `size.py` how much of them, and `write.py` makes the file. The
scripts and styles are in `page/`: data/ reads numbers and makes sums, drawing/ draws them, views/ combines the
drawings, text/ has the words, control/ handles keys and clicks, style/ has the styles.

The page draws on canvas and SVG without a library, for a page with its data should stay below 3 MB. uPlot (51 kB
minified) draws only lines; Plot with d3 (490 kB), ECharts (1.1 MB) and Plotly (4.8 MB) draw heat maps too. None of them
draws the diagram of the cell, the crosshair over all views or the sums. All scripts and styles here are 0.1 MB.
"""

from glasscell._report.data import Answer, answer_of
from glasscell._report.notebook import summary
from glasscell._report.trace_page import trace_report
from glasscell._report.training_page import training_report

__all__ = ["Answer", "answer_of", "summary", "trace_report", "training_report"]
