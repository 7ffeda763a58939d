"""Writes files that appear whole or not at all: one file (`write_whole`), or all files of a run (`staged`).

A run writes into a folder of its own inside the output, `.unfinished-*`, and locks it while it lives. The run ends with
one rename of that folder, to `.finished`. Then the files are published: older files of the same names are removed
first, so that files of two runs never stand side by side. The next run cleans up after a killed process: it publishes a
finished folder and removes an unfinished one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNFINISHED, FINISHED = ".unfinished-", ".finished"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, of text or of bytes, in one step, over an existing one: no reader ever sees a part of it.

    Raises: OSError naming `path` where it cannot be written; an existing file then stays.
    """
    _check_place(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    except OSError as error:  # named by the path that the caller knows
        raise type(error)(error.errno, error.strerror, str(path)) from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def _check_place(path: Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"path: expected a file in a folder that exists, got {str(path)!r}: make {str(path.parent)!r} first"
        )
    if path.is_dir():
        raise IsADirectoryError(f"path: expected the name of a file, got the folder {str(path)!r}")


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """Yields a folder whose files move into `output` together at the end; after an error it is removed.

    Raises: OSError where `output` cannot be made or written.
    """
    missing = [path for path in (output, *output.parents) if not path.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
        with _locked(output):
            _recover(output)
            stage = Path(tempfile.mkdtemp(dir=output, prefix=UNFINISHED))
            lock = _lock(stage)
        try:
            yield stage
            with _locked(output):
                _recover(output)
                _finish(stage, output)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
            _unlock(lock)
    finally:
        for path in missing:
            with suppress(OSError):  # not empty
                path.rmdir()


def _recover(output: Path) -> None:
    """Publish the finished folders of dead runs, and remove their unfinished ones."""
    _publish(output)
    for stage in output.glob(f"{UNFINISHED}*"):
        if (lock := _lock(stage)) is not None:  # no process holds the lock: its run is dead
            shutil.rmtree(stage, ignore_errors=True)
            _unlock(lock)


def _finish(stage: Path, output: Path) -> None:
    """Rename the stage and publish its files. Ctrl-C stops a run only before the rename."""
    try:
        os.rename(stage, output / FINISHED)
        _publish(output)
    except KeyboardInterrupt:
        if stage.exists():
            raise
        _publish(output)


def _publish(output: Path) -> None:
    """Remove the older files, and put those of a finished run in their place."""
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
def _locked(output: Path) -> Iterator[None]:
    """Lock the folder against other runs, after waiting for the present one."""
    lock = _lock(output, wait=True)
    try:
        yield
    finally:
        _unlock(lock)


def _lock(folder: Path, wait: bool = False) -> int | None:
    """Lock a folder until `_unlock` or the end of this process.

    Returns: None where another process holds the lock, and where the system or the disk has no locks.
    """
    try:
        import fcntl  # missing on Windows

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)
