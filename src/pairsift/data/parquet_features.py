"""Features of parquet files, read by row groups."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairsift._base.checks import first_line
from pairsift.data.columns import FEATURE_LABELS, feature_columns, is_list, label_column, only_field
from pairsift.data.errors import DataError
from pairsift.data.labels import labels_of, texts_of
from pairsift.data.tables import DAMAGE, read_table

FloatArray = NDArray[np.float32]

# Rows decoded at once where single ones are wanted.
_TAKE_ROWS = 8192


class ParquetFeatures:
    """Features of parquet files with the same columns, in the order of their names.

    Raises:
        DataError: not readable, different columns, no features, rows without them or of different lengths, bad labels.
    """

    shareable = True

    def __init__(self, files: Sequence[Path], name: str, labels: str | None = None) -> None:
        self.name = name
        try:
            self._metadata = [pq.read_metadata(file) for file in files]
        except DAMAGE as error:
            raise DataError(f"{name} cannot be read as parquet: {first_line(error)}") from error
        self._files = list(files)
        schema = self._metadata[0].schema.to_arrow_schema()
        for file, metadata in zip(files, self._metadata, strict=True):
            if not metadata.schema.to_arrow_schema().equals(schema):
                raise DataError(f"{file} has other columns or types than {files[0]}")
        self._label = label_column(name, schema.names, labels, FEATURE_LABELS)
        self._columns = feature_columns(name, schema, self._label)
        fields = [only_field(name, schema, each) for each in self._columns]
        self._listed = is_list(fields[0].type)
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
            self.labels, self.class_names = labels_of(extra, self._label, name)
        known = extra.column_names
        self.paths: Sequence[str] | None = texts_of(extra, "path", name) if "path" in known else None
        self.rows = np.arange(self.shape[0], dtype=np.int64)
        # Shards that each count their rows from 0 name no row: then positions do.
        if "row" in known and pc.count_distinct(extra.column("row")).as_py() == self.shape[0]:
            self.rows = extra.column("row").to_numpy().astype(np.int64)
        self.mixed: NDArray[np.bool_] | None = extra.column("mixed").to_numpy() if "mixed" in known else None

    def blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, FloatArray]]:
        """First row and (at most `rows`, D) float32 features, block by block, in order, from `start` to `stop`."""
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
        """(len(rows), D) float32 features of some rows, given in ascending order."""
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
            reader = pq.ParquetFile(self._files[file], metadata=self._metadata[file], page_checksum_verification=True)
            for batch in reader.iter_batches(rows, row_groups=[number], columns=self._columns):
                yield self._matrix(batch, int(self.starts[group]))
        except DAMAGE as error:
            raise DataError(f"{self.name} cannot be read as parquet: {first_line(error)}") from error

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
        wanted = [name for name in kinds if schema.names.count(name) == 1 and kinds[name](schema.field(name).type)]
        if self._label is not None:
            wanted.append(self._label)
        try:
            return pa.concat_tables([read_table(file, wanted) for file in self._files])
        except DAMAGE as error:
            raise DataError(f"{self.name} cannot be read as parquet: {first_line(error)}") from error


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
