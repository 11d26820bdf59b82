"""The folder that a scan writes to: refused where something else is in it, continued where it was stopped."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from pairsift._base.files import remove_unfinished, write_json
from pairsift.scanning.errors import ScanError
from pairsift.scanning.result import FILES

_PARTS = "parts"


def check_folder(folder: Path, overwrite: bool) -> None:
    """Make the folder, or refuse it where it holds something that is not an unfinished scan."""
    if folder.exists() and not folder.is_dir():
        raise ScanError(f"{folder} is a file: name a folder")
    if (folder / "scan.json").exists() and not (folder / _PARTS).exists() and not overwrite:
        raise ScanError(f"{folder} holds a finished scan: use `overwrite=True`, or another folder")
    if folder.exists() and any(folder.iterdir()) and not (folder / _PARTS).exists() and not overwrite:
        raise ScanError(f"{folder} exists and is not empty: use `overwrite=True`, or another folder")
    if overwrite and folder.exists():
        shutil.rmtree(folder / _PARTS, ignore_errors=True)
        for name in (*FILES, "report.html"):
            (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise ScanError(f"{folder} is not writable")
    if (folder / _PARTS).exists():
        remove_unfinished(folder)


def parts_folder(folder: Path, identity: dict[str, Any]) -> Path:
    """The folder of part files, of this very scan.

    Args:
        folder: that the scan writes to.
        identity: everything that decides the scores.

    Raises:
        ScanError: the parts there are of another scan.
    """
    parts = folder / _PARTS
    parts.mkdir(exist_ok=True)
    begun = parts / "settings.json"
    if not begun.exists():
        write_json(begun, identity)
        return parts
    try:
        earlier = json.loads(begun.read_text())
    except ValueError:
        earlier = {}
    earlier = earlier if isinstance(earlier, dict) else {}
    other = [name for name, value in identity.items() if earlier.get(name) != value]
    if other:
        raise ScanError(
            f"{folder} holds an unfinished scan with another {', '.join(other)} "
            f"({other[0]} was {earlier.get(other[0])}): use `overwrite=True`, or another folder"
        )
    return parts
