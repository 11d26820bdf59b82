"""File locks so that several processes share one output folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Claim a run directory for this process; the claim ends with the block, or with the process however it ends.

    Args:
        path: the directory; the claim is the lock of a file beside it.

    Yields:
        Whether it is claimed: False where another process has it.
    """
    import fcntl  # not on Windows, where studies are read but not run

    with path.with_name(f".{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
