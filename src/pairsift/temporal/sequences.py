"""Reads sequences of frames from tables, in which a row is a frame or a whole sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pairsift.data import arrow, columns
from pairsift.data.errors import DataError
from pairsift.data.images import ImageSet, load_images
from pairsift.data.tables import TableRows, format_of, open_table
from pairsift.temporal.pairs import TemporalPairs

Labels = tuple[NDArray[np.int64] | None, Sequence[str] | None]

# Usual names of columns. The first one that a table has is taken.
SEQUENCE_NAMES, TIME_NAMES = ("sequence", "sequence_id"), ("time", "step", "frame")


@dataclass(frozen=True)
class FrameSet(ImageSet):
    """An image set of N frames with the sequence and the time of each frame.

    Frames that are vectors are `images` of shape (N, D), float32. Where a row of the file is a sequence, each frame has
    the row and the label of its sequence.

    Attributes:
        sequences: (N,) number or name of the sequence of each frame.
        times: (N,) time of each frame. None for frames in their order.
        whole: whether a row of the file is a whole sequence.
        pairs: the positive pairs, or None before `temporal_pairs` was called.
    """

    sequences: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int64))
    times: NDArray[Any] | None = None
    whole: bool = False
    pairs: TemporalPairs | None = field(default=None, repr=False)


def load_sequences(
    spec: str,
    *,
    frame_column: str | None = None,
    frame_size: int | None = None,
    sequence_column: str | None = None,
    time_column: str | None = None,
    label_column: str | None = None,
    per_class: int | None = None,
    image_size: int | None = None,
    memory: float = 4.0,
) -> FrameSet:
    """Read sequences of frames, which are vectors or images, from a table.

    With a sequence column a row is a frame: an image (as `load_images` reads them), a list of numbers, or a number in
    each floating-point column. Without a sequence column a row is a sequence: a list of frames of D numbers each, or a
    flat list that is cut into frames of `frame_size` numbers. The rest at the end of a flat list is left out.

    Args:
        spec: file or folder of a table that `pairsift.data.open_features` reads.
        frame_column: column of the frames. None takes the only column of lists, or the columns of numbers where a row
            is a frame.
        frame_size: D, numbers of a frame, for flat lists.
        sequence_column: column of the sequence of every row. None takes "sequence" or "sequence_id".
        time_column: column of the time of every row. None takes "time", "step" or "frame", or else the order of rows.
        label_column: column of the class of every row. None takes the usual name, "none" reads no labels.
        per_class: keep only this many sequences of each class, where a row is a sequence.
        image_size: width and height to resize image frames to, in pixels.
        memory: GB that frames may take. Image frames above it are decoded batch by batch.

    Raises:
        DataError: not a table, a column that is missing or of another kind, frames of different sizes, or frames that
            are missing or not finite.

    Example:
        >>> import tempfile, pyarrow as pa, pyarrow.parquet as pq
        >>> from pairsift.temporal import load_sequences
        >>> table = pa.table({"frames": [[[0.0, 1.0], [0.5, 1.5], [1.0, 1.0]], [[2.0, 0.0]]], "label": ["a", "b"]})
        >>> with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        ...     pq.write_table(table, file.name)
        ...     frames = load_sequences(file.name)
        >>> frames.images.shape, frames.sequences.tolist(), frames.labels.tolist()
        ((4, 2), [0, 0, 0, 1], [0, 0, 0, 1])
    """
    table = _open(spec)
    names = table.schema.names
    sequence = _named_column(table, "sequence_column", sequence_column, SEQUENCE_NAMES)
    label = columns.find_label_column(spec, names, label_column, columns.FEATURE_LABELS)
    labels = _read_labels(table, label, label_column is not None)
    if sequence is None:
        return _row_a_sequence(table, frame_column, frame_size, label, labels, per_class, memory)
    for name, given in (("per_class", per_class), ("frame_size", frame_size)):
        if given is not None:
            raise DataError(
                f"`{name}={given}` is for files with a row a sequence, and in {spec} the column {sequence!r} makes a "
                "row a frame: leave it out"
            )
    time = _named_column(table, "time_column", time_column, TIME_NAMES)
    ids = _whole_column(table, sequence)
    times = None if time is None else _whole_column(table, time)
    if frame_column is None and any(name in names for name in columns.IMAGE_COLUMNS):
        images = load_images(spec, label_column=label_column, image_size=image_size, memory=memory)
        facts = {name: getattr(images, name) for name in ("images", "labels", "class_names", "rows", "paths", "where")}
        return FrameSet(**facts, sequences=ids, times=times)
    if frame_column is not None:
        _named_column(table, "frame_column", frame_column, ())
    vectors = pa.schema([each for each in table.schema if each.name not in (sequence, time)])
    frames = columns.feature_columns(spec, vectors, label, frame_column, table.typed)
    _check_memory(table, frames, memory)
    held = table.read(frames)
    _refuse_missing(spec, held)
    if arrow.element_type(table.schema.field(frames[0]).type) is not None:
        values = _matrix(spec, frames[0], _joined(held[frames[0]]))
    else:
        values = np.stack([arrow.numbers(held[name]) for name in frames], axis=1)
    rows = np.arange(len(values), dtype=np.int64)
    return _checked(spec, FrameSet(values, *labels, rows, sequences=ids, times=times))


def by_row(features: NDArray[np.float32], images: ImageSet) -> tuple[NDArray[np.float32], ImageSet]:
    """Average the features of frames over sequences, where a row of the file is a sequence.

    Args:
        features: (N, D) of the N images or frames.
        images: the images or frames of these features.

    Returns:
        (R, D) means and the first frames of the R rows. Both arguments are returned unchanged where a row is an image
        or a frame.
    """
    if not (isinstance(images, FrameSet) and images.whole):
        return features, images
    rows, first, number = np.unique(images.rows, return_index=True, return_inverse=True)
    sums = np.zeros((len(rows), features.shape[1]))
    np.add.at(sums, number, features)
    labels = None if images.labels is None else images.labels[first]
    means: NDArray[np.float32] = (sums / np.bincount(number)[:, None]).astype(np.float32)
    return means, ImageSet(images.images[first], labels, images.class_names, rows)


def _row_a_sequence(
    table: TableRows, frame_column: str | None, frame_size: int | None, label: str | None, classes: Labels,
    per_class: int | None, memory: float,
) -> FrameSet:  # fmt: skip
    spec = table.name
    column = _frame_column(table, frame_column, label)
    nested = arrow.is_list(arrow.plain_type(table.schema.field(column).type).value_type)
    if nested != (frame_size is None):
        raise DataError(
            f"{spec}: column {column!r} holds lists of frames, so leave out `frame_size={frame_size}`" if nested else
            f"{spec}: column {column!r} holds flat lists: say how many of their numbers are a frame with `frame_size`, "
            "or name the column of the sequences with `sequence_column` if a row is a frame"
        )  # fmt: skip
    _check_memory(table, [column], memory)
    labels, names = classes
    held = table.read([column])
    _refuse_missing(spec, held)
    chosen = np.arange(len(held), dtype=np.int64)
    if per_class is not None:
        if labels is None:
            raise DataError(f"`per_class` needs labels, and {spec} has none; name their column with `label_column`")
        known = np.unique(labels[labels != columns.UNLABELLED])
        chosen = np.sort(np.concatenate([np.flatnonzero(labels == each)[:per_class] for each in known]))
    lists = arrow.plain_values(_joined(held[column].take(pa.array(chosen))))
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    if frame_size is None:
        values = _matrix(spec, column, lists.flatten())
    else:
        values = _cut(spec, lists.flatten(), lengths, frame_size)
        lengths = lengths // frame_size
    rows = np.repeat(chosen, lengths)
    frame_labels = None if labels is None else labels[rows]
    return _checked(spec, FrameSet(values, frame_labels, names, rows, sequences=rows, whole=True))


def _checked(spec: str, frames: FrameSet) -> FrameSet:
    """Refuse frames that are missing or not finite, and add a description."""
    values = np.asarray(frames.images)
    if not values.size:
        raise DataError(f"{spec} holds no frames")
    wrong = ~np.isfinite(values).all(axis=1)
    if wrong.any():
        first, what = int(wrong.argmax()), "row" if not frames.whole else "sequence of row"
        raise DataError(
            f"{spec}: a frame of the {what} {frames.rows[first]} is missing numbers or not finite ({wrong.sum():,} "
            "such frames): mend it or leave it out"
        )
    n, width = values.shape
    where = f"{n:,} frames of {width} numbers in {len(np.unique(frames.sequences)):,} sequences"
    return replace(frames, where=where)


def _open(spec: str) -> TableRows:
    """Open the table with this name."""
    path = Path(spec)
    if format_of(path) is not None and not path.exists() and not any(each in spec for each in "*?["):
        raise DataError(f"no data at {spec!r}")
    if not path.is_dir() and format_of(path) in (None, "npy"):
        raise DataError(
            f"positives from time need sequences, a parquet file or a folder of parquet shards, and {spec!r} is none: "
            "a row is a sequence with a list of frames, or a frame with the column of its sequence"
        )
    return open_table(spec, "sequences")


def _named_column(table: TableRows, option: str, wanted: str | None, usual: tuple[str, ...]) -> str | None:
    """The wanted column, or the first usual one that the table has, or None."""
    names = table.schema.names
    if wanted is None:
        return next((each for each in usual if each in names), None)
    if wanted not in names:
        raise DataError(f"{table.name} has no column {wanted!r} (`{option}`); its columns: {', '.join(names)}")
    return wanted


def _whole_column(table: TableRows, name: str) -> NDArray[Any]:
    """The values of a column, names or numbers, (N,). Every row must have one."""
    held = table.read([name])
    _refuse_missing(table.name, held)
    if arrow.is_text(held.schema.field(0).type):
        return np.array(arrow.texts(held.column(0), f"{table.name}, column {name!r}"))
    values: NDArray[Any] = arrow.plain_values(held.column(0)).to_numpy()
    return values


def _frame_column(table: TableRows, wanted: str | None, label: str | None) -> str:
    """The column of lists that holds the frames of a sequence."""
    listed = [each.name for each in table.schema if arrow.is_list(arrow.plain_type(each.type)) and each.name != label]
    column = _named_column(table, "frame_column", wanted, ())
    if column is None and len(listed) > 1:
        raise DataError(
            f"{table.name} has {len(listed)} columns of lists, {', '.join(listed)}: name that of the frames with "
            "`frame_column`"
        )
    column = next(iter(listed), None) if column is None else column
    if column is None or column not in listed:
        raise DataError(
            f"{table.name} holds no sequences: name the column that says which sequence a row's frame is of with "
            f"`sequence_column`, or a column of lists of frames with `frame_column`; its columns: "
            f"{', '.join(f'{each.name} ({each.type})' for each in table.schema)}"
        )
    return column


def _read_labels(table: TableRows, label: str | None, asked: bool) -> Labels:
    """Class of every row and names of the classes, or two times None without a label column."""
    if label is None:
        return None, None
    field = arrow.only_field(table.name, table.schema, label)
    return columns.usable_labels(
        lambda: columns.column_labels(table.read([label]).column(0), field, table.schema, table.name), asked
    )


def _joined(column: pa.ChunkedArray) -> Any:
    """A column as one array."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _matrix(spec: str, column: str, lists: Any) -> NDArray[np.float32]:
    """N lists of D numbers as an (N, D) array, with nan for missing numbers."""
    lists = arrow.plain_values(lists)
    inner = arrow.element_type(lists.type)
    sizes = np.unique(pc.list_value_length(lists).to_numpy(zero_copy_only=False))
    if len(sizes) != 1 or lists.null_count or inner is None or not arrow.is_number(inner):
        found = f"{sizes[0]:g} to {sizes[-1]:g}" if len(sizes) > 1 else f"some or no lists of {lists.type.value_type}"
        raise DataError(f"{spec}: the frames of column {column!r} must be lists of as many numbers each, got {found}")
    return arrow.vectors(lists, spec)


def _cut(spec: str, flat: Any, lengths: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    """Cut lists of the given lengths, which stand one after the other in `flat`, into (N, size) frames."""
    if not arrow.is_number(flat.type):
        raise DataError(f"{spec}: frames must be numbers, got lists of {flat.type}")
    place = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    frames: NDArray[np.float32] = arrow.numbers(flat)[place < np.repeat(lengths - lengths % size, lengths)]
    return frames.reshape(-1, size)


def _check_memory(table: TableRows, names: list[str], memory: float) -> None:
    """Refuse columns whose numbers take more than `memory` GB."""
    need = 4 * table.count(names)
    if need > memory * 1e9:
        raise DataError(
            f"the frames of {table.name} take {need / 1e9:.2g} GB, and memory={memory:g} GB are allowed: raise `memory`"
        )


def _refuse_missing(spec: str, table: pa.Table) -> None:
    """Refuse rows without a value. The message names the first one."""
    for name in table.column_names:
        missing = np.flatnonzero(table[name].is_null().to_numpy())
        if len(missing):
            raise DataError(f"{spec} row {missing[0]} has nothing in column {name!r} ({len(missing)} such rows)")
