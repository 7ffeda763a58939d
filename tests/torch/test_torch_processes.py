"""`glasscell.torch` in several processes: a DataLoader's workers, and parameters in shared memory."""

import pytest

from fresh import HERE, run_python


@pytest.mark.parametrize("arguments", [("loader", "fork"), ("shared", "spawn")], ids=" ".join)
def test_workers_have_the_same_bits(arguments):
    done = run_python("-W", "ignore::DeprecationWarning", HERE / "torch_workers.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
