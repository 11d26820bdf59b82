"""The folder that an inspection writes to, and features while it works."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pairsift.retrieval.errors import PairsError
from pairsift.retrieval.result import FILES

# Features of a killed inspection may be left here.
_SCRATCH = ".features"


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something; with `overwrite`, remove an earlier inspection from it.

    Raises:
        PairsError: it is a file, or not empty.
    """
    if folder.exists() and not folder.is_dir():
        raise PairsError(f"{folder} is a file: name a folder")
    held = {each.name for each in folder.iterdir()} - {_SCRATCH} if folder.exists() else set()
    if held and not overwrite:
        what = "holds a finished inspection" if "pairs.json" in held else "exists and is not empty"
        raise PairsError(f"{folder} {what}: use `overwrite=True`, or another folder")
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


@contextmanager
def scratch(folder: Path | None) -> Iterator[Path]:
    """A folder for features, beside the output where there is one: they may be larger than the system's own place."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="pairsift-pairs-") as temporary:
            yield Path(temporary)
        return
    place = folder / _SCRATCH
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()
