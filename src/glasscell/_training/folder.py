"""Files that appear in a folder together: those of one run, whatever ends a process, and however many runs there are.

A run writes into a folder of its own inside the output, `.unfinished-*`, which it holds while it lives. It ends with
one rename, to `.finished`; from then on it counts, and its files are put in place, after the older ones of those names
have gone: at no moment do files of two runs stand side by side. What a killed process leaves, the next run takes up: it
puts in place what was finished, and removes what was not.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED, FINISHED = ".unfinished-", ".finished"


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A folder whose files are put into `output` at the end, or vanish with it if anything goes wrong.

    Raises: OSError where `output` cannot be made or written.
    """
    missing = [path for path in (output, *output.parents) if not path.exists()]
    output.mkdir(parents=True, exist_ok=True)
    try:
        with _alone_in(output):
            _take_up(output)
            stage = Path(tempfile.mkdtemp(dir=output, prefix=UNFINISHED))
            held = _hold(stage)
        try:
            yield stage
            with _alone_in(output):
                _take_up(output)
                try:
                    os.rename(stage, output / FINISHED)
                    _put_in_place(output)
                except KeyboardInterrupt:
                    if stage.exists():
                        raise
                    _put_in_place(output)  # too late to stop: the run is over
        finally:
            shutil.rmtree(stage, ignore_errors=True)
            _let_go(held)
    finally:
        for path in missing:
            with suppress(OSError):  # there is something in it
                path.rmdir()


def _take_up(output: Path) -> None:
    """Bring to its end what runs left that are no more."""
    _put_in_place(output)
    for stage in output.glob(f"{UNFINISHED}*"):
        if (held := _hold(stage)) is not None:  # its run does not: it is dead
            shutil.rmtree(stage, ignore_errors=True)
            _let_go(held)


def _put_in_place(output: Path) -> None:
    finished = output / FINISHED
    if not finished.is_dir():
        return
    names = sorted(file.name for file in finished.iterdir())
    for name in names:
        (output / name).unlink(missing_ok=True)
    for name in names:
        os.replace(finished / name, output / name)
    finished.rmdir()


@contextmanager
def _alone_in(output: Path) -> Iterator[None]:
    """Wait until no other run is in here."""
    held = _hold(output, wait=True)
    try:
        yield
    finally:
        _let_go(held)


def _hold(folder: Path, wait: bool = False) -> int | None:
    """Hold a folder while this process lives. None where another one does, or where a system or disk cannot tell."""
    try:
        import fcntl  # not on Windows

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _let_go(held: int | None) -> None:
    if held is not None:
        os.close(held)
