"""clean.parquet: the input without the rows that are left out, and without negatives that look like positives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairsift._base.files import replacing
from pairsift.retrieval.source import PairsSource

# Bytes of a row group before they are packed.
_GROUP_BYTES = 2**26


class Cleaning:
    """What is taken out of a table.

    Args:
        source: the table.
        kept: (N,) bool rows that stay.
        bad: of each column of negatives, ascending numbers of the cells that go: rows, or elements of its lists.
    """

    def __init__(self, source: PairsSource, kept: NDArray[np.bool_], bad: list[NDArray[np.int64]]) -> None:
        self._source, self._kept, self._bad = source, kept, bad

    def write(self, path: Path) -> int:
        """Write what stays, every column of the input; how many rows that is.

        Raises:
            OSError: not writable.
        """
        schema = self._source.schema
        for column in self._source.columns.negatives:
            at = schema.get_field_index(column.name)
            schema = schema.set(at, schema.field(at).with_nullable(True))
        waiting: list[pa.RecordBatch] = []
        rows, seen = 0, [0] * len(self._bad)
        with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            for start, batch in self._source.batches():
                cleaned = self._without_bad(batch, start, seen, schema)
                cleaned = cleaned.filter(pa.array(self._kept[start : start + len(batch)]))
                waiting.append(cleaned)
                rows += len(cleaned)
                if sum(each.nbytes for each in waiting) >= _GROUP_BYTES:
                    writer.write_table(pa.Table.from_batches(waiting, schema))
                    waiting = []
            writer.write_table(pa.Table.from_batches(waiting, schema))
        return rows

    def _without_bad(self, batch: pa.RecordBatch, start: int, seen: list[int], schema: pa.Schema) -> pa.RecordBatch:
        """The batch without bad negatives; `seen` counts the cells of each column so far."""
        arrays = list(batch.columns)
        for i, column in enumerate(self._source.columns.negatives):
            at = schema.get_field_index(column.name)
            first = seen[i] if column.listed else start
            cells = int(np.asarray(arrays[at].value_lengths().fill_null(0)).sum()) if column.listed else len(batch)
            low, high = np.searchsorted(self._bad[i], (first, first + cells))
            gone = np.zeros(cells, bool)
            gone[self._bad[i][low:high] - first] = True
            seen[i] += cells
            if gone.any():
                arrays[at] = _shorter(arrays[at], gone) if column.listed else _emptied(arrays[at], gone)
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _emptied(values: Any, gone: NDArray[np.bool_]) -> Any:
    """The array with nulls where cells are gone."""
    return values.take(pa.array(np.arange(len(values)), mask=gone))


def _shorter(values: Any, gone: NDArray[np.bool_]) -> Any:
    """Lists without the elements that are gone."""
    lengths = np.asarray(values.value_lengths().fill_null(0))
    places = np.repeat(np.arange(len(values)), lengths)
    left = np.bincount(places[~gone], minlength=len(values))
    flat = values.filter(values.is_valid()).flatten().filter(pa.array(~gone))
    offsets = pa.array(np.concatenate([[0], np.cumsum(left)]), pa.int64())
    kind = pa.LargeListArray.from_arrays(offsets, flat, mask=values.is_null())
    return kind.cast(values.type)
