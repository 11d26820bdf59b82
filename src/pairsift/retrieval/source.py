"""Pairs as they lie in files: read column by column and batch by batch, never whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairsift._base.checks import first_line
from pairsift.data import DataError
from pairsift.data.tables import DAMAGE
from pairsift.retrieval.columns import Columns, find_columns
from pairsift.retrieval.errors import PairsError

# Rows decoded at once: 50 MB of two columns of 384 dimensions.
BATCH_ROWS = 16_384


class PairsSource:
    """N rows of pairs in a parquet file, a folder of shards in the order of their names, or a table.

    Args:
        data: path or `pyarrow.Table`.
        anchor, positive, negatives: columns, see `PairsConfig`.

    Raises:
        DataError: not there, not readable, shards of different columns, no rows, or columns that are no pairs.
    """

    def __init__(
        self, data: Path | str | pa.Table, anchor: str | None = None, positive: str | None = None,
        negatives: str | None = None,
    ) -> None:  # fmt: skip
        self._table = data if isinstance(data, pa.Table) else None
        self._files: list[Path] = []
        self.name = "the table"
        if self._table is None:
            if not isinstance(data, (str, Path)):
                raise TypeError(f"pairs are a path or a pyarrow.Table, got {type(data).__name__}")
            self.name, self._files = str(data), _shards(Path(data))
        self.schema, self.rows = self._open()
        if self.rows == 0:
            raise DataError(f"{self.name} holds no rows")
        self.columns: Columns = find_columns(self.name, self.schema, anchor, positive, negatives)

    def batches(self, columns: list[str] | None = None) -> Iterator[tuple[int, pa.RecordBatch]]:
        """First row and at most `BATCH_ROWS` rows of some or all columns, in order."""
        start = 0
        if self._table is not None:
            table = self._table if columns is None else self._table.select(columns)
            for batch in table.to_batches(BATCH_ROWS):
                yield start, batch
                start += len(batch)
            return
        try:
            for file in self._files:
                with pq.ParquetFile(file, page_checksum_verification=True) as reader:
                    # Group by group: read in one go, groups that were read stay in memory until the last.
                    for group in range(reader.num_row_groups):
                        for batch in reader.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns):
                            yield start, batch
                            start += len(batch)
        except DAMAGE as error:
            raise DataError(f"{self.name} cannot be read as parquet: {first_line(error)}") from error

    def cells(self, column: str) -> Iterator[tuple[int, Any]]:
        """First row and values of one column, batch by batch, dictionaries resolved."""
        for start, batch in self.batches([column]):
            yield start, decoded(batch.column(0))

    def take(self, rows: NDArray[np.int64], columns: list[str]) -> dict[int, dict[str, Any]]:
        """The values of some rows, in one pass."""
        wanted = np.unique(rows)
        found: dict[int, dict[str, Any]] = {}
        for start, batch in self.batches(columns) if len(wanted) else ():
            low, high = np.searchsorted(wanted, (start, start + len(batch)))
            if low < high:
                some = batch.take(pa.array(wanted[low:high] - start)).to_pylist()
                found.update(zip(wanted[low:high].tolist(), some, strict=True))
            if high == len(wanted):
                break
        return found

    def _open(self) -> tuple[pa.Schema, int]:
        if self._table is not None:
            return self._table.schema, len(self._table)
        try:
            metadata = [pq.read_metadata(file) for file in self._files]
        except DAMAGE as error:
            raise DataError(f"{self.name} cannot be read as parquet: {first_line(error)}") from error
        schemas = [each.schema.to_arrow_schema() for each in metadata]
        for file, schema in zip(self._files, schemas, strict=True):
            if not schema.equals(schemas[0]):
                raise DataError(f"{file} has other columns or types than {self._files[0]}")
        return schemas[0], sum(each.num_rows for each in metadata)


def decoded(values: Any) -> Any:
    """An array whose dictionary, if it has one, is resolved."""
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def matrix(
    values: Any, name: str, start: int, width: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Lists of floats as rows (len(values), D), zero where a list is missing, and which are there.

    Raises:
        PairsError: lists of several lengths, or of another than `width`; the first such row is named.
    """
    there = np.asarray(values.is_valid())
    if pa.types.is_fixed_size_list(values.type):
        lengths = np.full(len(values), values.type.list_size)
    else:
        lengths = np.asarray(values.value_lengths().fill_null(0))
    known = lengths[there]
    if width is None:
        width = int(known[0]) if len(known) else 0
    other = np.flatnonzero(there & (lengths != width))
    if len(other):
        raise PairsError(
            f"{name}: row {start + other[0]:,} has {lengths[other[0]]} dimensions, rows before it {width}: embeddings "
            "of one encoder have as many each"
        )
    out = np.zeros((len(values), width), np.float32)
    # Flattened, missing lists leave nothing behind, of any kind of list.
    flat = values.filter(values.is_valid()).flatten().to_numpy(zero_copy_only=False)
    out[there] = flat.astype(np.float32, copy=False).reshape(int(there.sum()), width)
    return out, there


def _shards(path: Path) -> list[Path]:
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise DataError(f"no pairs at {path}: give a parquet file, or a folder of parquet shards")
    return files
