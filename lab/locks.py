"""File locks so that several processes share one output folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Lock a run directory for this process until the block or the process ends.

    Args:
        path: the directory. The locked file is next to it.

    Yields:
        False if another process holds the lock, otherwise True.
    """
    import fcntl  # not on Windows, where studies are read but not run

    with path.with_name(f".{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
