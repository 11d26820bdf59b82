"""Positions in a set become row numbers in the files of a scan, and back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairsift.neighbors import IntArray
from pairsift.scanning.reference import KEPT


def lists_of_positions(lists: pa.ChunkedArray, rows: IntArray) -> IntArray:
    """Positions (N, 4) of lists of row numbers, -1 past their ends."""
    counts = np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy())])
    flat = pa.table({"row": pc.list_flatten(lists)})
    positions = np.full((len(lists), KEPT), -1, np.int64)
    at = np.arange(KEPT) < np.diff(counts)[:, None]
    positions[at] = in_positions(flat, rows, "scores.parquet", "row").column("row").to_numpy()
    return positions


def in_positions(table: pa.Table, rows: IntArray, file: str, *names: str) -> pa.Table:
    """A table with positions where these columns hold row numbers; null becomes -1.

    Raises:
        ValueError: a row number that is not among `rows`; the message names the file.
    """
    order = np.argsort(rows, kind="stable")
    for name in names:
        column = table.column(name)
        absent = column.is_null().to_numpy()
        wanted = column.fill_null(rows[0]).to_numpy()
        positions = order[np.searchsorted(rows[order], wanted).clip(max=len(rows) - 1)]
        strange = wanted[rows[positions] != wanted]
        if len(strange):
            raise ValueError(f"{file} names row {strange[0]}, which scores.parquet lacks")
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(np.where(absent, -1, positions)))
    return table


def in_rows(table: pa.Table, rows: IntArray, *names: str) -> pa.Table:
    """A table with row numbers where these columns hold positions; -1 becomes null."""
    for name in names:
        positions = table.column(name).to_numpy()
        numbers = pa.array(rows[positions], mask=positions < 0)
        table = table.set_column(table.column_names.index(name), name, numbers)
    return table


def row_lists(positions: IntArray, rows: IntArray) -> pa.Array:
    """Lists of row numbers, shorter where positions (N, k) end in -1."""
    there = positions >= 0
    ends = np.concatenate([[0], np.cumsum(there.sum(axis=1))])
    return pa.LargeListArray.from_arrays(pa.array(ends), pa.array(rows[positions[there]]))
