"""What a scan refuses before any long work starts, and the folder it works in."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from pairsift.curate.reference import BLOCK_ROWS, NEIGHBOURS
from pairsift.curate.result import FILES
from pairsift.data import DataError, FeatureSource
from pairsift.data.features import is_shareable
from pairsift.files import write_json

_FEWEST_ROWS, _FEWEST_REFERENCE = 10, 1000
# Copies of the sample that fitting needs at once: itself, centred, unit, whitened, index.
_COPIES = 5
_PARTS = "parts"


class ScanError(ValueError):
    """A scan that cannot be done as asked; the message says why and the remedy."""


@dataclass(frozen=True)
class Checked:
    """What one pass over the features finds: rows to skip, all-zero rows, and a checksum."""

    bad: NDArray[np.int64]
    zeros: int
    checksum: int


def check_arguments(
    source: FeatureSource, n_classes: int | None, graph: Any, reference: int, max_pairs: int, memory: float,
    fraction: float, threads: int, engine: str,
) -> None:  # fmt: skip
    n = source.shape[0]
    if n < _FEWEST_ROWS:
        raise ScanError(f"{source.name} has {n} rows: a scan compares neighbourhoods and needs at least {_FEWEST_ROWS}")
    if n_classes is not None and not 2 <= n_classes <= n // 4:
        raise ScanError(
            f"n_classes must lie in 2 ... {n // 4} (a quarter of the rows), got {n_classes}: bridges need two clusters"
        )
    if reference < _FEWEST_REFERENCE:
        raise ScanError(
            f"reference must be at least {_FEWEST_REFERENCE:,} rows, got {reference}: clusters and scales come from it"
        )
    if max_pairs < 1 or threads < 1:
        raise ScanError(f"max_pairs and threads must be positive, got {max_pairs} and {threads}")
    if not memory > 0:
        raise ScanError(f"memory must be positive (GB), got {memory}")
    if not 0 <= fraction < 1:
        raise ScanError(f"the share to drop must lie in [0, 1), got {fraction}")
    if engine not in ("local", "ray"):
        raise ScanError(f"engine must be 'local' or 'ray', got {engine!r}")
    if engine == "ray" and not is_shareable(source):
        raise ScanError(f"engine 'ray' reads parquet on its workers, got {source.name}: write parquet, or use 'local'")
    if graph is not None:
        neighbours, cosines = (np.asarray(each) for each in graph)
        if neighbours.shape != cosines.shape or neighbours.ndim != 2 or len(neighbours) != n:
            raise ScanError(
                f"a graph for {n:,} rows is neighbours ({n}, k) and cosines ({n}, k), got {neighbours.shape} and "
                f"{cosines.shape}"
            )
        if neighbours.dtype.kind not in "iu" or neighbours.min() < 0 or neighbours.max() >= n:
            raise ScanError(
                f"neighbours of a graph must be positions 0 ... {n - 1}, got {neighbours.dtype} values out of it"
            )
        if engine == "ray":
            raise ScanError("a graph is given to the local engine only")


def reference_size(source: FeatureSource, reference: int, memory: float, threads: int, whole: bool) -> int:
    """Reference rows that the memory allows, or an error before anything is read."""
    n, dimensions = source.shape
    wanted = min(n, reference)
    base = psutil.Process().memory_info().rss
    work = threads * BLOCK_ROWS * (8 * dimensions + 8 * NEIGHBOURS + 200) * 4 + 2 * dimensions**2 * 8 + 100 * n
    budget = memory * 1e9 - base - work
    rows = max(0, int(budget / (_COPIES * dimensions * 4)))
    if whole and wanted < n:
        raise ScanError(f"a graph needs all rows in the reference: set reference to at least {n:,}, got {reference:,}")
    least = wanted if whole else min(wanted, _FEWEST_REFERENCE)
    if rows < least:
        need = (base + work + least * _COPIES * dimensions * 4) / 1e9
        raise ScanError(
            f"a scan of {n:,} x {dimensions} features needs at least {need:.1f} GB, memory allows {memory:g}: raise it"
            + (", or lower threads" if threads > 1 else "")
        )
    return min(wanted, rows)


def check_folder(folder: Path, overwrite: bool) -> None:
    """Make the folder, or refuse it where it holds something that is not an unfinished scan."""
    if folder.exists() and not folder.is_dir():
        raise ScanError(f"{folder} is a file: name a folder")
    if (folder / "scan.json").exists() and not overwrite:
        raise ScanError(f"{folder} holds a finished scan: use --overwrite (overwrite=True), or another folder")
    if folder.exists() and any(folder.iterdir()) and not (folder / _PARTS).exists() and not overwrite:
        raise ScanError(f"{folder} exists and is not empty: use --overwrite (overwrite=True), or another folder")
    if overwrite and folder.exists():
        shutil.rmtree(folder / _PARTS, ignore_errors=True)
        for name in (*FILES, "report.html"):
            (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise ScanError(f"{folder} is not writable")


def parts_folder(folder: Path | None, engine: str, settings: dict[str, Any]) -> Path | None:
    """The folder of part files, of this very scan."""
    if folder is None:
        return None
    parts = folder / _PARTS
    parts.mkdir(exist_ok=True)
    begun = parts / "settings.json"
    if begun.exists():
        try:
            earlier = json.loads(begun.read_text())
        except json.JSONDecodeError:
            earlier = {}
        other = [name for name, value in settings.items() if earlier.get(name) != value]
        if other:
            raise ScanError(
                f"{folder} holds an unfinished scan with another {', '.join(other)} "
                f"({other[0]} was {earlier.get(other[0])}): use --overwrite (overwrite=True), or another folder"
            )
    else:
        write_json(begun, settings)
    return parts


def check_features(source: FeatureSource, skip_bad: bool, say: Callable[[str], None]) -> Checked:
    bad, zeros, checksum, constant = [], 0, 0, True
    first_row: NDArray[np.float32] | None = None
    for start, block in source.blocks(8 * BLOCK_ROWS):
        block = np.ascontiguousarray(block)
        checksum = zlib.crc32(block.data, checksum)
        # Entries above 1e19 are finite and their squares are not: no cosine can be had of such a row either.
        with np.errstate(over="ignore", invalid="ignore"):
            suspect = ~np.isfinite(np.einsum("ij,ij->i", block, block))
        if suspect.any():
            bad.append(start + np.flatnonzero(suspect))
        zeros += int((~block.any(axis=1)).sum())
        if constant:
            good = block[~suspect]
            if len(good):
                first_row = good[0] if first_row is None else first_row
                constant = bool((good == first_row).all())
    found = np.concatenate(bad) if bad else np.zeros(0, np.int64)
    n = source.shape[0]
    if len(found) and not skip_bad:
        raise DataError(
            f"{source.name}: the norm of row {found[0]:,} is not finite in float32 ({len(found):,} of {n:,} rows): "
            "mend the encoder's output, or leave such rows out with --skip-bad (skip_bad=True)"
        )
    if n - len(found) < _FEWEST_ROWS:
        raise ScanError(f"{source.name}: {n - len(found)} finite rows are left, a scan needs {_FEWEST_ROWS}")
    if constant:
        raise ScanError(f"{source.name}: all rows are equal, there is nothing to tell apart: the encoder has collapsed")
    if len(found):
        say(f"skipping {len(found):,} rows that are not finite, the first is {found[0]:,}")
    if zeros:
        say(f"{zeros:,} rows are all zero: failed embeddings? They are scored like any other")
    return Checked(found, zeros, checksum)
