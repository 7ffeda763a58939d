"""The benchmark: glasscell beside its peers, checked before timed, in turn in one run."""

from glasscell.bench.main import main
from glasscell.bench.measure import Row, run
from glasscell.bench.shapes import GRIDS, MODES, plan
from glasscell.bench.table import as_json, summary, table

__all__ = ["GRIDS", "MODES", "Row", "as_json", "main", "plan", "run", "summary", "table"]
