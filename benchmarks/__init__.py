"""glasscell beside its peers, checked before timed, in turn in one run: `python -m benchmarks`, or `make bench`."""
