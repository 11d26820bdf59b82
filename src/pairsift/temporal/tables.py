"""Columns of parquet files of sequences: found, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairsift._base.checks import first_line
from pairsift.data import columns
from pairsift.data.errors import DataError
from pairsift.data.labels import labels_of
from pairsift.data.tables import DAMAGE, read_table

# Names that are looked for, the first one that is there wins.
FRAME_NAMES = ("frames", "values", *columns.FEATURE_NAMES)


def open_files(spec: str) -> tuple[list[Path], pa.Schema]:
    """The files that a name stands for, and the schema of the first.

    Raises:
        DataError: none, not parquet, or not readable.
    """
    path = Path(spec)
    if path.suffix == ".parquet" and not path.exists():
        raise DataError(f"no data at {spec!r}")
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path] if path.suffix == ".parquet" else []
    if not files:
        raise DataError(
            f"positives from time need sequences, a parquet file or a folder of parquet shards, and {spec!r} is none: "
            "a row is a sequence with a list of frames, or a frame with the column of its sequence"
        )
    try:
        return files, pq.read_schema(files[0])
    except DAMAGE as error:
        raise DataError(f"{spec} cannot be read as parquet: {first_line(error)}") from error


def read_columns(spec: str, files: list[Path], names: list[str]) -> pa.Table:
    """Some columns of all files."""
    try:
        return pa.concat_tables([read_table(file, names) for file in files])
    except DAMAGE as error:
        raise DataError(f"{spec} cannot be read as parquet: {first_line(error)}") from error


def named_column(spec: str, schema: pa.Schema, what: str, wanted: str | None, usual: tuple[str, ...]) -> str | None:
    """The column that was asked for, or a usual one where there is one."""
    if wanted is None:
        return next((each for each in usual if each in schema.names), None)
    if wanted not in schema.names:
        raise DataError(f"{spec} has no column {wanted!r} (`{what}`); its columns: {', '.join(schema.names)}")
    return wanted


def frame_column(spec: str, schema: pa.Schema, wanted: str | None) -> str:
    """The column of lists that holds the frames of a sequence."""
    listed = [each for each in FRAME_NAMES if each in schema.names and columns.is_list(schema.field(each).type)]
    column = named_column(spec, schema, "frame_column", wanted, tuple(listed))
    if column is None or not columns.is_list(schema.field(column).type):
        raise DataError(
            f"{spec} holds no sequences: name the column that says which sequence a row's frame is of with "
            f"`sequence_column`, or a column of lists of frames with `frame_column`; its columns: "
            f"{', '.join(f'{each.name} ({each.type})' for each in schema)}"
        )
    return column


def read_labels(
    spec: str, files: list[Path], label: str | None
) -> tuple[NDArray[np.int64] | None, Sequence[str] | None]:
    """Class of every row and names of the classes; None twice without a label column."""
    return (None, None) if label is None else labels_of(read_columns(spec, files, [label]), label, spec)


def joined(column: pa.ChunkedArray) -> Any:
    """A column in one piece."""
    return pa.concat_arrays(column.chunks)


def matrix(spec: str, column: str, lists: Any) -> NDArray[np.float32]:
    """(N, D) values of N lists of D numbers; what is missing is nan."""
    sizes = np.unique(pc.list_value_length(lists).to_numpy(zero_copy_only=False))
    if len(sizes) != 1 or lists.null_count or not pa.types.is_primitive(lists.type.value_type):
        found = f"{sizes[0]:g} to {sizes[-1]:g}" if len(sizes) > 1 else f"some or no lists of {lists.type.value_type}"
        raise DataError(f"{spec}: the frames of column {column!r} must be lists of as many numbers each, got {found}")
    flat = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    values: NDArray[np.float32] = flat.reshape(len(lists), -1)
    return values


def cut(spec: str, flat: Any, lengths: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """(N, size) frames of flat lists of so many numbers, one after the other, without the rest at the end of each."""
    if not pa.types.is_primitive(flat.type):
        raise DataError(f"{spec}: frames must be numbers, got lists of {flat.type}")
    place = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    values = flat.to_numpy(zero_copy_only=False).astype(np.float32)
    frames: NDArray[np.float32] = values[place < np.repeat(lengths - lengths % size, lengths)].reshape(-1, size)
    return frames


def check_memory(spec: str, files: list[Path], names: list[str], memory: float) -> None:
    """Refuse columns whose numbers do not fit, as metadata count them."""
    count = 0
    for file in files:
        metadata = pq.read_metadata(file)
        for group in range(metadata.num_row_groups):
            parts = (metadata.row_group(group).column(i) for i in range(metadata.num_columns))
            count += sum(part.num_values for part in parts if part.path_in_schema.split(".")[0] in names)
    if 4 * count > memory * 1e9:
        raise DataError(
            f"the frames of {spec} take {4 * count / 1e9:.2g} GB, and memory={memory:g} GB are allowed: raise `memory`"
        )


def refuse_missing(spec: str, table: pa.Table) -> None:
    """Refuse rows without a value, the first one by its number."""
    for name in table.column_names:
        missing = np.flatnonzero(table[name].is_null().to_numpy())
        if len(missing):
            raise DataError(f"{spec} row {missing[0]} has nothing in column {name!r} ({len(missing)} such rows)")
