"""Checks before a scan: its arguments, the memory it needs, the folder it writes to, and every row, in one pass."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pairsift._base.checks import label_array, real_array
from pairsift._base.files import remove_unfinished, write_json
from pairsift._base.version import __version__
from pairsift._base.words import counted
from pairsift.data import ArrayFeatures, DataError, FeatureSource, open_features
from pairsift.data.columns import NO_LABELS
from pairsift.data.features import is_shareable
from pairsift.scanning.config import FEWEST_REFERENCE, ScanConfig, ScanError
from pairsift.scanning.maps import check_map
from pairsift.scanning.reference import BLOCK_ROWS, NEIGHBOURS, Graph
from pairsift.scanning.result import FILES, OWN_COLUMNS


@dataclass(frozen=True)
class Plan:
    """A scan that may start.

    Attributes:
        source: the features.
        known: what the source says of every row, see `Scan.known`.
        config: the settings.
        graph: neighbours of the user's own, or None.
        threads: CPU threads.
        checked: what one pass over the features found.
        guide: another encoder's features of the same rows, or None.
        size: reference rows that the memory_gb allows.
        identity: everything that decides the scores: a stopped scan continues only where it is the same.
        parts: folder of part files; None without an output folder.
        against: another set to seek copies in, or None.
    """

    source: FeatureSource
    known: pa.Table
    config: ScanConfig
    graph: Graph | None
    threads: int
    checked: Checked
    guide: Guide | None
    size: int
    identity: dict[str, Any]
    parts: Path | None
    against: FeatureSource | None

    @property
    def good(self) -> int:
        """Rows that are not skipped."""
        return self.source.shape[0] - len(self.checked.bad)


def prepare(
    source: FeatureSource, config: ScanConfig, graph: tuple[NDArray[Any], NDArray[Any]] | None
) -> Plan:  # fmt: skip
    """Check the arguments, the memory, the folder and then, in one pass, every row.

    Raises:
        ScanError, DataError: see `pairsift.scan`.
    """
    arrays = None if graph is None else (np.asarray(graph[0]), np.asarray(graph[1]))
    threads = config.threads or os.cpu_count() or 1
    check_arguments(source, config, arrays)
    check_map(config.map)
    opened = None if config.guide_features is None else open_guide(config.guide_features, source)
    against = None if config.against is None else open_against(config.against, source, config.column)
    size = reference_size(source, config, threads, whole=graph is not None, guide=opened)
    if config.output is not None:
        check_folder(config.output, config.overwrite)
    known = known_columns(source, config)
    checked = check_features(source, config.skip_bad)
    guide = None if opened is None else check_guide(opened, checked)
    identity = _identity(source, config, arrays, checked, size)
    identity["guide"] = None if guide is None else [guide.source.name, guide.checksum]
    parts = None if config.output is None else parts_folder(config.output, identity)
    own = None
    if arrays is not None:
        own = Graph(np.asarray(arrays[0], np.int64), np.asarray(arrays[1], np.float32))
    return Plan(source, known, config, own, threads, checked, guide, size, identity, parts, against)


def _identity(
    source: FeatureSource, config: ScanConfig, graph: tuple[NDArray[Any], NDArray[Any]] | None, checked: Checked,
    size: int,
) -> dict[str, Any]:  # fmt: skip
    (n, dimensions), band = source.shape, config.band()
    return {
        "features": source.name, "n": n, "dimensions": dimensions, "checksum": checked.checksum,
        "n_classes": config.n_classes, "band": None if band is None else asdict(band),
        "graph": None if graph is None else [zlib.crc32(each.tobytes()) for each in graph],
        "reference": min(size, n - len(checked.bad)), "max_pairs": config.max_pairs,
        "within": config.within, "seed": config.seed,
        "labels": None if source.labels is None else zlib.crc32(np.ascontiguousarray(source.labels).tobytes()),
        "skip_bad": config.skip_bad, "pairsift": __version__,
        "faiss": importlib.metadata.version("faiss-cpu"), "numpy": np.__version__,
    }  # fmt: skip


_FEWEST_ROWS = 10
# Bad rows that an error names.
_NAMED = 10


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


def open_any(features: Any, labels: Any, config: ScanConfig) -> FeatureSource:
    """The features of `pairsift.scan` as a source, with labels that were given as an array.

    Raises:
        TypeError: features of another kind.
        DataError: they cannot be read.
        ScanError: labels in two places, or a column of an array.
    """
    if isinstance(features, torch.Tensor):
        features = real_array(features, "features", DataError)
        features = features.astype(np.float32) if features.dtype == np.float16 else features
    if isinstance(features, np.ndarray):
        if config.label_column not in (None, NO_LABELS) or config.column is not None:
            raise ScanError(
                f"`label_column={config.label_column!r}` and `column={config.column!r}` name columns of a file: give "
                "an array's labels as one"
            )
        return ArrayFeatures(features, "features", None if labels is None else label_array(labels, "labels", DataError))
    own = all(hasattr(features, name) for name in ("shape", "blocks", "take"))
    source = features if own else open_features(features, config.labels_from(), config.column)
    if labels is not None:
        raise ScanError(f"labels and {source.name}: name their `label_column`, or give features as an array")
    return source


def known_columns(source: FeatureSource, config: ScanConfig) -> pa.Table:
    """What a source says of its rows (N rows), to find them again: see `Scan.known`.

    Raises:
        DataError: there is no such column.
        ScanError: the source has no columns, a kept column has the name of an output's own, or there is one split only.
    """
    columns = _named_columns(source, config)
    if source.paths is not None:
        columns["path"] = pa.array([path or None for path in source.paths], pa.string())
    if source.labels is not None:
        columns["label"] = pa.array(source.labels)
        names = getattr(source, "class_names", None)
        if names is not None:
            known = pa.array(np.maximum(source.labels, 0), mask=source.labels < 0)
            columns["class"] = pa.array([str(name) for name in names], pa.string()).take(known)
    files = getattr(source, "files", ())
    if len(files) > 1:
        which, row = source.locate(np.arange(source.shape[0]))  # type: ignore[attr-defined]
        columns["file"] = pa.array([str(file) for file in files], pa.string()).take(pa.array(which))
        columns["file_row"] = pa.array(row)
    taken = {*columns, *OWN_COLUMNS}
    for name in config.keep:
        if name in taken:
            raise ScanError(f"`keep` names {name!r}, which is a column of the outputs already: rename it in the file")
    if config.keep:
        kept = _reader(source, "keep", config.keep[0])(list(config.keep))
        columns |= dict(zip(config.keep, kept.columns, strict=True))
    return pa.table(columns)


def _named_columns(source: FeatureSource, config: ScanConfig) -> dict[str, Any]:
    """The columns of ids and of splits."""
    columns: dict[str, Any] = {}
    if config.id_column is not None:
        columns["id"] = _reader(source, "id_column", config.id_column)([config.id_column]).column(0)
    elif hasattr(source, "table"):
        with suppress(DataError):
            columns["id"] = source.table(["id"]).column(0)
    if config.split_column is not None:
        read = _reader(source, "split_column", config.split_column)
        columns["split"] = read([config.split_column]).column(0).cast(pa.string())
        if len(columns["split"].unique()) < 2:
            raise ScanError(f"`split_column={config.split_column!r}` has one value only: leaks need two splits")
    return columns


def _reader(source: FeatureSource, setting: str, column: str) -> Callable[[list[str]], pa.Table]:
    reader: Callable[[list[str]], pa.Table] | None = getattr(source, "table", None)
    if reader is None:
        raise ScanError(f"`{setting}={column!r}` names a column of a table, {source.name} has none")
    return reader


def check_arguments(source: FeatureSource, config: ScanConfig, graph: Sequence[NDArray[Any]] | None) -> None:
    """Refuse settings that do not fit the features."""
    n = source.shape[0]
    if n < _FEWEST_ROWS:
        raise ScanError(
            f"{source.name} has {counted(n, 'row')}: a scan compares neighbourhoods and needs at least {_FEWEST_ROWS}"
        )
    if config.n_classes is not None and not 2 <= config.n_classes <= n // 4:
        raise ScanError(
            f"n_classes must lie in 2 ... {n // 4} (a quarter of the rows), got {config.n_classes}: bridges need two "
            "clusters"
        )
    if config.engine == "ray" and not is_shareable(source):
        raise ScanError(f"engine 'ray' reads parquet on its workers, got {source.name}: write parquet, or use 'local'")
    if config.against is not None and config.split_column is not None:
        raise ScanError("`against` and `split_column` both name where leaks are sought: give one of them")
    if graph is None:
        return
    if config.against is not None:
        raise ScanError("`against` needs a search of its own: leave out the graph")
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
            f"the guide {guide.name} has {counted(guide.shape[0], 'row')}, {source.name} has {n:,}: give another "
            "encoder's features of the same rows, in the same order"
        )
    if any(np.array_equal(each.rows, np.arange(n)) for each in (guide, source)):
        return guide
    other = np.flatnonzero(guide.rows != source.rows)
    if len(other):
        at = int(other[0])
        raise ScanError(
            f"the guide {guide.name} holds row {guide.rows[at]:,} where {source.name} holds row {source.rows[at]:,}: "
            "give features of the same rows, in the same order"
        )
    return guide


def open_against(path: Path, source: FeatureSource, column: str | None) -> FeatureSource:
    """Open a set to seek copies in.

    Raises:
        DataError: it cannot be read.
        ScanError: features of another width.
    """
    other = open_features(path, "none", column)
    if other.shape[1] != source.shape[1]:
        raise ScanError(
            f"{other.name} has features of {counted(other.shape[1], 'dimension')}, {source.name} of "
            f"{source.shape[1]}: `against` takes features by the same encoder"
        )
    return other


def check_guide(guide: FeatureSource, checked: Checked) -> Guide:
    """One pass over a guide: every row that is scanned must be finite in it.

    Raises:
        DataError: a row is not finite, and not one that is left out.
        ScanError: all rows are equal.
    """
    found = check_features(guide, True)
    bad = np.setdiff1d(found.bad, checked.bad)
    if len(bad):
        raise DataError(
            f"the guide {guide.name}: the norm of row {bad[0]:,} is not finite in float32 "
            f"({counted(len(bad), 'scanned row')}: {_named(bad)}): mend the encoder's output, or scan without them"
        )
    return Guide(guide, found.checksum)


def _named(rows: NDArray[np.int64]) -> str:
    """The first of the rows."""
    return ", ".join(f"{row:,}" for row in rows[:_NAMED]) + (", ..." if len(rows) > _NAMED else "")


def check_features(source: FeatureSource, skip_bad: bool) -> Checked:
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
            f"{source.name}: the norm of row {found[0]:,} is not finite in float32, or its features are missing "
            f"({len(found):,} of {n:,} rows: {_named(found)}): "
            "mend the encoder's output, or leave such rows out with `skip_bad=True`"
        )
    if n - len(found) < _FEWEST_ROWS:
        left = counted(n - len(found), "finite row is", "finite rows are")
        raise ScanError(f"{source.name}: {left} left, a scan needs {_FEWEST_ROWS}")
    if constant:
        raise ScanError(f"{source.name}: all rows are equal, there is nothing to tell apart: the encoder has collapsed")
    return Checked(found, zeros, checksum)


# Copies of the sample that fitting needs at once: itself, centred, unit, whitened, index; an affinity is fitted when
# three of them are gone. Copies of a guide's sample: itself, unit, index.
_COPIES, _GUIDE_COPIES = 5, 3


def reference_size(
    source: FeatureSource, config: ScanConfig, threads: int, whole: bool, guide: FeatureSource | None = None
) -> int:
    """Reference rows that the memory_gb allows, or an error before anything is read.

    Args:
        source: the features.
        config: says how many rows are wanted and how much memory the scan may take. What the process holds already
            (libraries, a model, the features) is not the scan's: a notebook with a large encoder may scan, too.
        threads: scoring at once, each with blocks of its own.
        whole: every row is needed.
        guide: another encoder's features, or None.

    Raises:
        ScanError: too little memory, or fewer rows wanted than needed.
    """
    n, dimensions = source.shape
    wanted = min(n, config.reference)
    work = threads * BLOCK_ROWS * (8 * dimensions + 8 * NEIGHBOURS + 200) * 4 + 2 * dimensions**2 * 8 + 100 * n
    budget = config.memory_gb * 1e9 - work
    row = 12 * NEIGHBOURS + 4 * (_COPIES * dimensions + (0 if guide is None else _GUIDE_COPIES * guide.shape[1]))
    rows = max(0, int(budget / row))
    if whole and wanted < n:
        raise ScanError(
            f"a graph needs all rows in the reference: set reference to at least {n:,}, got {config.reference:,}"
        )
    least = wanted if whole else min(wanted, FEWEST_REFERENCE)
    if rows < least:
        need = (work + least * row) / 1e9
        raise ScanError(
            f"a scan of {n:,} x {dimensions} features needs at least {need:.1f} GB, memory_gb allows "
            f"{config.memory_gb:g}: raise it" + (", or lower threads" if threads > 1 else "")
        )
    return min(wanted, rows)


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
