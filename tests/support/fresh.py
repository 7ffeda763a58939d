"""Python in a fresh process, for what is decided once in a process or may end it."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).parent
NATIVE = HERE.parent / "native"


def _fresh(arguments, environment):
    """The command and all its environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GLASSCELL_")}
    path = os.pathsep.join(filter(None, [str(HERE), str(NATIVE), clean.get("PYTHONPATH")]))
    command = [sys.executable, *map(str, arguments)]
    return command, {**clean, "PYTHONPATH": path, **environment}


def run_python(*arguments, **environment):
    """Run beside the modules of tests/support and tests/native, with only the GLASSCELL_ variables given here."""
    command, everything = _fresh(arguments, environment)
    return subprocess.run(command, env=everything, capture_output=True, text=True, timeout=600)


def output_of(*arguments, **environment):
    """Runs as `run_python` does, and returns what is printed by a process that has to succeed."""
    done = run_python(*arguments, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.contextmanager
def running_python(*arguments, seconds=120, **environment):
    """The process while it runs, so many seconds at most: what outlives its time, or the block, is killed."""
    command, everything = _fresh(arguments, environment)
    with subprocess.Popen(command, env=everything, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        timer = threading.Timer(seconds, child.kill)
        timer.start()
        try:
            yield child
        finally:
            timer.cancel()
            child.kill()
