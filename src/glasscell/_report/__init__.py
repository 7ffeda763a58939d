"""Pages that show what a cell did: one HTML file each, which opens offline and can be taken hold of. Needs NumPy alone.

`data.py` says what of a trace goes onto a page, `size.py` how much of it, `write.py` makes the file. What a reader
sees and does is in `page/`: data/ reads and adds up numbers, drawing/ draws them, views/ puts the drawings together,
text/ has the words, control/ answers keys and clicks, style/ says how it looks.

The drawing is our own, on canvas and SVG. Of the libraries, uPlot (51 kB minified) draws lines alone; Plot with d3
(490 kB), ECharts (1.1 MB) and Plotly (4.8 MB) draw heat maps too. All of them would leave the diagram of the cell, the
crosshair over all views and the sums to us, in a page that may hold 3 MB with its data. All scripts and styles here
are 0.1 MB.
"""

from glasscell._report.data import Answer, answer_of
from glasscell._report.notebook import summary
from glasscell._report.trace_page import trace_report
from glasscell._report.training_page import training_report

__all__ = ["Answer", "answer_of", "summary", "trace_report", "training_report"]
