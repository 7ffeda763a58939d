"""Python in a fresh process, for what is decided once in a process or may end it."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run_python(*arguments, **environment):
    """Run with these arguments, beside these tests' own modules, and only the GLASSCELL_ variables given here."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GLASSCELL_")}
    path = os.pathsep.join(filter(None, [str(HERE), clean.get("PYTHONPATH")]))
    command = [sys.executable, *map(str, arguments)]
    everything = {**clean, "PYTHONPATH": path, **environment}
    return subprocess.run(command, env=everything, capture_output=True, text=True, timeout=600)
