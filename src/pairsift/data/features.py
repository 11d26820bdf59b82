"""Feature sets: embeddings of any encoder, read block by block, with labels and paths where the files know them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairsift.data.sources import DataError, class_numbers, missing_column

FEATURE_NAMES = ("features", "embedding", "embeddings", "x")
_LABEL_NAMES = ("label", "labels", "y")
# Columns that are about a row and never a dimension of it.
_OTHER_NAMES = ("row", "path", "mixed", "image", "text")

FloatArray = NDArray[np.float32]

# Rows decoded at once where single ones are wanted.
_TAKE_ROWS = 8192


class FeatureSource(Protocol):
    """N embeddings of D dimensions; nothing but their count and type is read until asked.

    `labels` is (N,) int64 or None, `class_names` their names, `paths` where the examples come from, `rows` (N,) their
    row in the set they were computed from (counted from 0 where the file does not say), `mixed` (N,) bool which were
    planted by `mix`, or None.
    """

    name: str
    shape: tuple[int, int]
    rows: NDArray[np.int64]
    mixed: NDArray[np.bool_] | None
    labels: NDArray[np.int64] | None
    class_names: Sequence[str] | None
    paths: Sequence[str] | None

    def blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, FloatArray]]:
        """First row and features of one block of at most `rows` after the other, in order, from `start` to `stop`."""

    def take(self, rows: NDArray[np.int64]) -> FloatArray:
        """Features of some rows, given in ascending order: (len(rows), D)."""


def open_features(source: Any, label_column: str | None = None) -> FeatureSource:
    """Open embeddings: an (N, D) array, ``.npy`` (memory-mapped), ``.npz``, parquet, or a folder of parquet shards.

    Parquet holds them as a list column called features, embedding, embeddings or x, or as one floating-point column
    per dimension; it is read by row groups.

    Args:
        source: array or path.
        label_column: column or array that holds the classes; None takes the usual one where there is one; "none"
            ignores labels.

    Raises:
        DataError: nothing there, not readable, no features in it, or labels that are missing or of the wrong type.
    """
    if isinstance(source, np.ndarray):
        return ArrayFeatures(source, "features")
    path = Path(source)
    shards = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if path.is_dir() and not shards:
        raise DataError(f"the folder {path} holds no parquet files")
    if not path.exists():
        raise DataError(f"no features at {path}: give parquet, .npy or .npz, as `pairsift embed` writes")
    if shards[0].suffix == ".parquet":
        return ParquetFeatures(shards, str(path), label_column)
    if path.suffix not in (".npy", ".npz"):
        raise DataError(f"{path} is not a kind of feature file known here: use .parquet, .npy, .npz or a folder")
    return _open_numpy(path, label_column)


class ArrayFeatures:
    """Features of an array or a memory map.

    Raises:
        DataError: another shape than (N, D), no rows, not floating point, or labels of another length.
    """

    def __init__(self, features: NDArray[Any], name: str, labels: NDArray[Any] | None = None) -> None:
        if features.ndim != 2 or 0 in features.shape:
            raise DataError(f"{name}: features must be a non-empty (N, D) matrix, got shape {features.shape}")
        if features.dtype.kind != "f":
            raise DataError(f"{name}: features must be floating point, got {features.dtype}")
        if labels is not None and len(labels) != len(features):
            raise DataError(f"{name}: {len(features)} features but {len(labels)} labels")
        self._features, self.name = features, name
        self.shape: tuple[int, int] = (features.shape[0], features.shape[1])
        self.labels: NDArray[np.int64] | None = None
        self.class_names: Sequence[str] | None = None
        if labels is not None:
            self.labels, self.class_names = class_numbers(np.asarray(labels), name)
        self.paths: Sequence[str] | None = None
        self.rows = np.arange(len(features), dtype=np.int64)
        self.mixed: NDArray[np.bool_] | None = None

    def blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, FloatArray]]:
        end = self.shape[0] if stop is None else stop
        for first in range(start, end, rows):
            yield first, np.asarray(self._features[first : min(first + rows, end)], dtype=np.float32)

    def take(self, rows: NDArray[np.int64]) -> FloatArray:
        return np.asarray(self._features[rows], dtype=np.float32)


class ParquetFeatures:
    """Features of parquet files with the same columns, in the order of their names.

    Raises:
        DataError: not readable, different columns, no features, rows without them or of different lengths, bad labels.
    """

    def __init__(self, files: Sequence[Path], name: str, label_column: str | None = None) -> None:
        self.name = name
        try:
            self._metadata = [pq.read_metadata(file) for file in files]
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{name} cannot be read as parquet: {error}") from error
        self._files = list(files)
        schema = self._metadata[0].schema.to_arrow_schema()
        for file, metadata in zip(files, self._metadata, strict=True):
            if not metadata.schema.to_arrow_schema().equals(schema):
                raise DataError(f"{file} has other columns or types than {files[0]}")
        self._label = _label_name(name, schema.names, label_column)
        self._columns = _feature_columns(schema, self._label, name)
        self._listed = _is_list(schema.field(self._columns[0]).type)
        self.groups = [(f, g) for f, metadata in enumerate(self._metadata) for g in range(metadata.num_row_groups)]
        counts = [self._metadata[f].row_group(g).num_rows for f, g in self.groups]
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        if self.starts[-1] == 0:
            raise DataError(f"{name} holds no rows")
        first = next(i for i, count in enumerate(counts) if count)
        self.shape: tuple[int, int] = (int(self.starts[-1]), next(self._read_group(first, 1)).shape[1])
        extra = self._read_extra()
        self.labels: NDArray[np.int64] | None = None
        self.class_names: Sequence[str] | None = None
        if self._label is not None:
            column = extra.column(self._label)
            if column.null_count:
                raise DataError(f"{name}: column {self._label!r} has {column.null_count} missing labels")
            self.labels, self.class_names = class_numbers(column.to_numpy(), f"{name}, column {self._label!r}")
        known = extra.column_names
        self.paths: Sequence[str] | None = extra.column("path").to_pylist() if "path" in known else None
        self.rows = np.arange(self.shape[0], dtype=np.int64)
        # Shards that each count their rows from 0 name no row: then positions do.
        if "row" in known and pc.count_distinct(extra.column("row")).as_py() == self.shape[0]:
            self.rows = extra.column("row").to_numpy().astype(np.int64)
        self.mixed: NDArray[np.bool_] | None = extra.column("mixed").to_numpy() if "mixed" in known else None

    def blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, FloatArray]]:
        end = self.shape[0] if stop is None else stop
        for group in range(len(self.groups)):
            first = int(self.starts[group])
            if first >= end or self.starts[group + 1] <= start:
                continue
            for features in self._read_group(group, rows):
                low, high = max(start - first, 0), min(end - first, len(features))
                if low < high:
                    yield first + low, features[low:high]
                first += len(features)
                if first >= end:
                    break

    def bare(self) -> ParquetFeatures:
        """The same features without what is known about the rows: small to send to another process."""
        out = copy.copy(self)
        out.labels = out.class_names = out.paths = out.mixed = None
        out.rows = np.empty(0, np.int64)
        return out

    def take(self, rows: NDArray[np.int64]) -> FloatArray:
        out = np.empty((len(rows), self.shape[1]), np.float32)
        for group, (low, high) in enumerate(pairwise(np.searchsorted(rows, self.starts).tolist())):
            first, done = int(self.starts[group]), low
            for features in self._read_group(group, _TAKE_ROWS) if high > low else ():
                until = low + int(np.searchsorted(rows[low:high], first + len(features)))
                out[done:until] = features[rows[done:until] - first]
                first, done = first + len(features), until
        return out

    def _read_group(self, group: int, rows: int) -> Iterator[FloatArray]:
        """Features of a row group, at most so many rows at once: groups of a million rows are common."""
        file, number = self.groups[group]
        try:
            # A reader of its own: features may be read from several threads, and shards be more than open files may.
            reader = pq.ParquetFile(self._files[file], metadata=self._metadata[file])
            for batch in reader.iter_batches(rows, row_groups=[number], columns=self._columns):
                yield self._matrix(batch, int(self.starts[group]))
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{self.name} cannot be read as parquet: {error}") from error

    def _matrix(self, batch: pa.RecordBatch, start: int) -> FloatArray:
        if not self._listed:
            if any(column.null_count for column in batch.columns):
                raise DataError(f"{self.name}: rows from {start:,} on have missing features")
            return np.stack([column.to_numpy().astype(np.float32) for column in batch.columns], axis=1)
        features = _from_lists(batch.column(0), self.name)
        if hasattr(self, "shape") and features.shape[1] != self.shape[1]:
            raise DataError(
                f"{self.name}: rows have {self.shape[1]} and {features.shape[1]} dimensions; they must agree"
            )
        return features

    def _read_extra(self) -> pa.Table:
        schema = self._metadata[0].schema.to_arrow_schema()
        kinds = {"row": pa.types.is_integer, "mixed": pa.types.is_boolean, "path": pa.types.is_string}
        wanted = [name for name, is_kind in kinds.items() if name in schema.names and is_kind(schema.field(name).type)]
        if self._label is not None:
            wanted.append(self._label)
        try:
            return pa.concat_tables([pq.read_table(file, columns=wanted) for file in self._files])
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{self.name} cannot be read as parquet: {error}") from error


def _open_numpy(path: Path, label_column: str | None) -> ArrayFeatures:
    name = str(path)
    try:
        if path.suffix == ".npy":
            if label_column not in (None, "none"):
                raise DataError(f"{name} is a bare array without labels: put features and labels into one .npz")
            return ArrayFeatures(np.load(path, mmap_mode="r"), name)
        with np.load(path) as arrays:
            keys = list(arrays)
            key = next((each for each in FEATURE_NAMES if each in keys), None)
            if key is None:
                raise DataError(f"{name} has no array called {' or '.join(FEATURE_NAMES)}; it holds: {', '.join(keys)}")
            wanted = _label_name(name, keys, label_column)
            return ArrayFeatures(arrays[key], name, None if wanted is None else arrays[wanted])
    except DataError:
        raise
    except Exception as error:  # zip, pickle, header: a damaged file has many ways to fail
        raise DataError(f"{name} cannot be read as a numpy file: {error}") from error


def _feature_columns(schema: pa.Schema, label: str | None, name: str) -> list[str]:
    listed = [each for each in FEATURE_NAMES if each in schema.names and _is_list(schema.field(each).type)]
    if listed:
        return listed[:1]
    other = {label, *_LABEL_NAMES, *_OTHER_NAMES}
    columns = [field.name for field in schema if field.name not in other and pa.types.is_floating(field.type)]
    if not columns:
        raise DataError(f"{name} has no feature columns; its columns: {', '.join(schema.names)}")
    return columns


def _from_lists(column: Any, name: str) -> FloatArray:
    if column.null_count:
        raise DataError(f"{name}: {column.null_count} rows have no features")
    if not pa.types.is_fixed_size_list(column.type):
        lengths = np.diff(column.offsets.to_numpy())
        if len(np.unique(lengths)) > 1:
            raise DataError(f"{name}: rows have {lengths.min()} to {lengths.max()} dimensions; they must agree")
    if not pa.types.is_floating(column.type.value_type):
        raise DataError(f"{name}: features must be floating point, got {column.type.value_type}")
    flat: FloatArray = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    if not flat.size:
        raise DataError(f"{name}: its rows have no dimensions")
    return flat.reshape(len(column), -1)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _label_name(name: str, names: Sequence[str], label_column: str | None) -> str | None:
    if label_column == "none":
        return None
    if label_column is None:
        return next((each for each in _LABEL_NAMES if each in names), None)
    if label_column not in names:
        raise missing_column(name, label_column, names)
    return label_column
