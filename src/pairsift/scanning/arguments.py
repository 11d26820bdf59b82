"""What a scan refuses: arguments before anything is read, then rows, in one pass over the features."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pairsift._base.checks import real_array
from pairsift.data import ArrayFeatures, DataError, FeatureSource, open_features
from pairsift.data.features import is_shareable
from pairsift.scanning.config import ScanConfig
from pairsift.scanning.errors import ScanError
from pairsift.scanning.reference import BLOCK_ROWS

_FEWEST_ROWS = 10


@dataclass(frozen=True)
class Guide:
    """Another encoder's features of the same rows, opened and checked.

    Attributes:
        source: the features.
        checksum: of all of them.
    """

    source: FeatureSource
    checksum: int


@dataclass(frozen=True)
class Checked:
    """What one pass over the features finds: rows to skip, all-zero rows, and a checksum."""

    bad: NDArray[np.int64]
    zeros: int
    checksum: int


def open_any(features: Any, labels: Any, label_column: str | None) -> FeatureSource:
    """An array, a tensor, a path, or a source as it is.

    Raises:
        TypeError: none of these.
        ScanError: labels in two places, or a column of what has no columns.
    """
    if isinstance(features, torch.Tensor):
        features = real_array(features, "features", DataError)
        features = features.astype(np.float32) if features.dtype == np.float16 else features
    if isinstance(features, np.ndarray):
        if label_column not in (None, "none"):
            raise ScanError(f"`label_column={label_column!r}` names a column of a file: give an array's labels as one")
        return ArrayFeatures(features, "features", None if labels is None else np.asarray(labels))
    if isinstance(features, (str, Path)):
        source = open_features(features, label_column)
    elif all(hasattr(features, name) for name in ("shape", "blocks", "take")):
        source = features
    else:
        raise TypeError(
            f"features must be an (N, D) array or tensor, a path or a source, got {type(features).__name__}: "
            "np.asarray makes an array of lists"
        )
    if labels is not None:
        raise ScanError(f"labels beside {source.name}: name their `label_column`, or give features as an array")
    return source


def check_arguments(source: FeatureSource, config: ScanConfig, graph: Sequence[NDArray[Any]] | None) -> None:
    """Refuse settings that do not fit the features."""
    n = source.shape[0]
    if n < _FEWEST_ROWS:
        raise ScanError(f"{source.name} has {n} rows: a scan compares neighbourhoods and needs at least {_FEWEST_ROWS}")
    if config.n_classes is not None and not 2 <= config.n_classes <= n // 4:
        raise ScanError(
            f"n_classes must lie in 2 ... {n // 4} (a quarter of the rows), got {config.n_classes}: bridges need two "
            "clusters"
        )
    if config.engine == "ray" and not is_shareable(source):
        raise ScanError(f"engine 'ray' reads parquet on its workers, got {source.name}: write parquet, or use 'local'")
    if graph is None:
        return
    neighbours, cosines = graph
    if neighbours.shape != cosines.shape or neighbours.ndim != 2 or len(neighbours) != n:
        raise ScanError(
            f"a graph for {n:,} rows is neighbours ({n}, k) and cosines ({n}, k), got {neighbours.shape} and "
            f"{cosines.shape}"
        )
    if neighbours.dtype.kind not in "iu" or neighbours.min() < 0 or neighbours.max() >= n:
        raise ScanError(
            f"neighbours of a graph must be positions 0 ... {n - 1}, got {neighbours.dtype} values out of it"
        )
    if config.engine == "ray":
        raise ScanError("a graph is given to the local engine only")


def open_guide(path: Path, source: FeatureSource) -> FeatureSource:
    """Open a guide, and refuse one that is not of the same rows.

    Raises:
        DataError: it cannot be read.
        ScanError: another number of rows, or rows of other numbers where both files number theirs.
    """
    guide = open_features(path, "none")
    n = source.shape[0]
    if guide.shape[0] != n:
        raise ScanError(
            f"the guide {guide.name} has {guide.shape[0]:,} rows, {source.name} has {n:,}: give another encoder's "
            "features of the same rows, in the same order"
        )
    counted = np.arange(n)
    if any(np.array_equal(each.rows, counted) for each in (guide, source)):
        return guide
    other = np.flatnonzero(guide.rows != source.rows)
    if len(other):
        at = int(other[0])
        raise ScanError(
            f"the guide {guide.name} holds row {guide.rows[at]:,} where {source.name} holds row {source.rows[at]:,}: "
            "give features of the same rows, in the same order"
        )
    return guide


def check_guide(guide: FeatureSource, checked: Checked) -> Guide:
    """One pass over a guide: every row that is scanned must be finite in it.

    Raises:
        DataError: a row is not finite, and not one that is left out.
        ScanError: all rows are equal.
    """
    found = check_features(guide, True, lambda line: None)
    bad = np.setdiff1d(found.bad, checked.bad)
    if len(bad):
        raise DataError(
            f"the guide {guide.name}: the norm of row {bad[0]:,} is not finite in float32 ({len(bad):,} rows that are "
            "scanned): mend the encoder's output, or scan without these rows"
        )
    return Guide(guide, found.checksum)


def check_features(source: FeatureSource, skip_bad: bool, say: Callable[[str], None]) -> Checked:
    """Find the rows that cannot be compared.

    Raises:
        DataError: there are such rows, and they are not to be skipped.
        ScanError: too few other rows are left, or all are equal.
    """
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
            "mend the encoder's output, or leave such rows out with `skip_bad=True`"
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
