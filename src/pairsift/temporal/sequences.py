"""Sequences of frames from parquet: a row a sequence, its frames in a list, or a row a frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pairsift.data import columns
from pairsift.data.errors import DataError
from pairsift.data.images import ImageSet
from pairsift.data.loading import load_images
from pairsift.temporal import tables
from pairsift.temporal.pairs import TemporalPairs

# Names that are looked for, the first one that is there wins.
SEQUENCE_NAMES, TIME_NAMES = ("sequence", "sequence_id"), ("time", "step", "frame")


@dataclass(frozen=True)
class FrameSet(ImageSet):
    """Frames of sequences: an image set of N frames that knows which frame is of which sequence, and when it was.

    `images` are (N, D) float32 where frames are vectors, and images as elsewhere. Where a row of the file is a
    sequence, `rows` and `labels` are those of each frame's sequence.

    Attributes:
        sequences: (N,) the sequence of each frame, a number or a name.
        times: (N,) time of each frame; None where frames are in their order.
        whole: whether a row of the file is a sequence, not a frame.
        pairs: which frames are positives of which, where that has been decided.
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
    """Read sequences of frames, vectors or images, from a parquet file or a folder of parquet shards.

    With a sequence column a row is a frame: an image (as `load_images` reads them), a list of numbers, or a number in
    each floating-point column. Without one a row is a sequence: a list of frames, each a list of D numbers, or a flat
    list that is cut into frames of `frame_size`, and what is left at its end is left out.

    Args:
        spec: path.
        frame_column: the frames; None takes the first of frames, values, features, embedding, x that holds lists.
        frame_size: D numbers of a frame, where lists are flat.
        sequence_column: the sequence of every row; None takes "sequence" or "sequence_id" where there is one.
        time_column: when each row was taken; None takes "time", "step" or "frame" where there is one, or counts the
            rows of a sequence.
        label_column: the classes, of sequences or of frames as the rows are; None takes the usual one, "none" none.
        per_class: keep the first so many sequences of each class, where a row is a sequence.
        image_size: resize image frames to so many pixels square.
        memory: GB that frames may take; image frames beyond it are decoded batch by batch.

    Raises:
        DataError: no parquet, a column that is missing or of another kind, frames of different sizes, missing or not
            finite, or labels that are.

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
    files, schema = tables.open_files(spec)
    sequence = tables.named_column(spec, schema, "sequence_column", sequence_column, SEQUENCE_NAMES)
    label = columns.label_column(spec, schema.names, label_column, columns.FEATURE_LABELS)
    if sequence is None:
        return _row_a_sequence(spec, files, schema, frame_column, frame_size, label, per_class, memory)
    for name, given in (("per_class", per_class), ("frame_size", frame_size)):
        if given is not None:
            raise DataError(
                f"`{name}={given}` is for files with a row a sequence, and in {spec} the column {sequence!r} makes a "
                "row a frame: leave it out"
            )
    time = tables.named_column(spec, schema, "time_column", time_column, TIME_NAMES)
    known = tables.read_columns(spec, files, [sequence] if time is None else [sequence, time])
    tables.refuse_missing(spec, known)
    ids = known[sequence].to_numpy()
    times = None if time is None else known[time].to_numpy()
    if frame_column is None and any(name in schema.names for name in columns.IMAGE_COLUMNS):
        images = load_images(spec, label_column=label_column, image_size=image_size, memory=memory)
        facts = {name: getattr(images, name) for name in ("images", "labels", "class_names", "rows", "paths", "where")}
        return FrameSet(**facts, sequences=ids, times=times)
    vectors = pa.schema([each for each in schema if each.name not in (sequence, time)])
    names = columns.feature_columns(spec, vectors, label) if frame_column is None else [
        tables.named_column(spec, schema, "frame_column", frame_column, ()) or ""
    ]  # fmt: skip
    tables.check_memory(spec, files, names, memory)
    table = tables.read_columns(spec, files, names)
    tables.refuse_missing(spec, table)
    if columns.is_list(schema.field(names[0]).type):
        values = tables.matrix(spec, names[0], tables.joined(table[names[0]]))
    else:
        values = np.stack([table[name].to_numpy().astype(np.float32) for name in names], axis=1)
    rows = np.arange(len(values), dtype=np.int64)
    return _checked(spec, FrameSet(values, *tables.read_labels(spec, files, label), rows, sequences=ids, times=times))


def by_row(features: NDArray[np.float32], images: ImageSet) -> tuple[NDArray[np.float32], ImageSet]:
    """Features and what is known about them by rows of the file: means over sequences where rows are sequences.

    Args:
        features: (N, D) of the N images or frames.
        images: which these are.

    Returns:
        (R, D) features, and the first frames of the same rows; of frame sets whose rows are frames, and of image sets,
        what went in.
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
    spec: str, files: list[Any], schema: pa.Schema, frame_column: str | None, frame_size: int | None,
    label: str | None, per_class: int | None, memory: float,
) -> FrameSet:  # fmt: skip
    column = tables.frame_column(spec, schema, frame_column)
    nested = columns.is_list(schema.field(column).type.value_type)
    if nested != (frame_size is None):
        raise DataError(
            f"{spec}: column {column!r} holds lists of frames, so leave out `frame_size={frame_size}`" if nested else
            f"{spec}: column {column!r} holds flat lists: say how many of their numbers are a frame with `frame_size`, "
            "or name the column of the sequences with `sequence_column` if a row is a frame"
        )  # fmt: skip
    tables.check_memory(spec, files, [column], memory)
    labels, classes = tables.read_labels(spec, files, label)
    table = tables.read_columns(spec, files, [column])
    tables.refuse_missing(spec, table)
    chosen = np.arange(len(table), dtype=np.int64)
    if per_class is not None:
        if labels is None:
            raise DataError(f"`per_class` needs labels, and {spec} has none; name their column with `label_column`")
        chosen = np.sort(np.concatenate([np.flatnonzero(labels == each)[:per_class] for each in np.unique(labels)]))
    lists = tables.joined(table[column].take(pa.array(chosen)))
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    if frame_size is None:
        values = tables.matrix(spec, column, lists.flatten())
    else:
        values = tables.cut(spec, lists.flatten(), lengths, frame_size)
        lengths = lengths // frame_size
    rows = np.repeat(chosen, lengths)
    frame_labels = None if labels is None else labels[rows]
    return _checked(spec, FrameSet(values, frame_labels, classes, rows, sequences=rows, whole=True))


def _checked(spec: str, frames: FrameSet) -> FrameSet:
    """The frames, described, unless there are none or one is not finite."""
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
