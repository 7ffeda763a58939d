"""The benchmark: glasscell beside its peers, checked before timed, in turn in one run."""

from glasscell.bench.measure import Row, run
from glasscell.bench.shapes import GRIDS
from glasscell.bench.table import as_json, table

__all__ = ["GRIDS", "Row", "as_json", "run", "table"]
