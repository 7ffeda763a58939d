"""For which memory of this process large pages were asked, by the system's own account."""

import re
from pathlib import Path

import pytest

needed = pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="this system has no large pages to ask for"
)


def advised():
    """Ranges of addresses."""
    found, span = [], range(0)
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if start := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            span = range(int(start[1], 16), int(start[2], 16))
        elif line.startswith("VmFlags:") and "hg" in line.split():
            found.append(span)
    return found
