"""The command line in this process."""

import pytest

from glasscell._cli.main import main


def stopped(capsys, *arguments):
    """Run `glasscell`, which ends the process. Returns: the exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return stop.value.code, *capsys.readouterr()
