"""Files that are either whole or not there: written beside their place and to the disk, then renamed into it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends without an error.

    Its content is on the disk before it takes the place, and the change of place is when the block is left: a crash of
    the machine, too, leaves the old file or the new one.

    Raises:
        OSError: what was written could not be, on a full disk say; it names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _to_disk(temporary, os.O_RDWR)
        os.replace(temporary, path)
        with suppress(OSError):  # not every system can open a folder, nor every file system sync one
            _to_disk(path.parent, os.O_RDONLY)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files in a folder, and those below it, that killed processes left there."""
    for file in folder.rglob(".*.tmp"):
        if is_unfinished(file):
            file.unlink(missing_ok=True)


def is_unfinished(file: Path) -> bool:
    """Whether a file is a temporary one of `replacing`."""
    return _TEMPORARY.fullmatch(file.name) is not None and file.is_file()


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n")


def _to_disk(path: Path, mode: int) -> None:
    """Wait until a file, or the names in a folder, are where a power cut leaves them."""
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
