"""The benchmark: glasscell beside its peers, checked before timed, in turn in one run."""

from glasscell.bench.run import Row, run

__all__ = ["Row", "run"]
