"""Feature sets: embeddings of any encoder, read block by block, with labels and paths where the files know them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pairsift._base.checks import first_line, real_array
from pairsift.data import arrow
from pairsift.data.arrays import ARRAY_SUFFIXES, ArrayFile, Stacked, open_arrays, open_npy
from pairsift.data.columns import (
    FEATURE_LABELS,
    NO_LABELS,
    PATH_COLUMNS,
    Undescribed,
    class_numbers,
    column_labels,
    feature_columns,
    find_label_column,
    usable_labels,
)
from pairsift.data.errors import DataError
from pairsift.data.tables import TableRows, find_files, format_of, open_table

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

# Rows decoded at once where single ones are wanted.
_TAKE_ROWS = 8192


class FeatureSource(Protocol):
    """N embeddings of D dimensions; nothing but their count and type is read until asked.

    `labels` is (N,) int64 or None, -1 where a row has no label; `class_names` are their names; `paths` say where the
    examples come from; `rows` (N,) are their rows in the set they were computed from (counted from 0 where the file
    does not say); `mixed` (N,) bool says which were planted by `mix`, or is None. A row whose features are missing is
    nan. A source of your own may leave out `shareable` and `bare`: then it is not shareable, and is handed around as
    it is.
    """

    name: str
    shape: tuple[int, int]
    rows: NDArray[np.int64]
    mixed: NDArray[np.bool_] | None
    labels: NDArray[np.int64] | None
    class_names: Sequence[str] | None
    paths: Sequence[str] | None
    shareable: bool
    """Whether another process, on another machine that sees the same files, can read it after unpickling."""

    def bare(self) -> FeatureSource:
        """The same features without labels, paths and row numbers: small to send to another process."""

    def blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, FloatArray]]:
        """First row and features of one block of at most `rows` after the other, in order, from `start` to `stop`."""

    def take(self, rows: NDArray[np.int64]) -> FloatArray:
        """Features of some rows, given in ascending order: (len(rows), D)."""


def open_features(
    source: Any, label_column: str | None = None, column: str | Sequence[str] | None = None
) -> FeatureSource:
    """Open embeddings: files, arrays, tables or lists.

    Files: parquet, Arrow, CSV, TSV and JSON lines (the last three compressed, too); ``.npy`` (memory-mapped),
    ``.npz``, ``.pt``, ``.safetensors`` and indexes of faiss; folders of shards of one of the first five formats or of
    ``.npy``, data sets that `datasets` saved to disk, ``key=value`` folders, and patterns (``part-*.parquet``). Shards
    are read in natural order: part-2 before part-10.

    Objects: an (N, D) array, tensor or list of rows; a DataFrame of pandas or polars, a Series, a `pyarrow.Table`, a
    `datasets.Dataset`, a list of dicts, a dict of columns.

    A table holds features as a column of lists or one-dimensional tensors of any name, or as one floating-point column
    per dimension. Where several columns could be meant, none is guessed.

    Args:
        source: path, pattern or object; a `FeatureSource` is given back as it is.
        label_column: column or array that holds the classes; None takes the usual one where there is one; "none"
            ignores labels.
        column: column or array that holds the features; or the columns of the dimensions, as a pattern (``emb_*``),
            a list, or names with commas. None finds them.

    Raises:
        DataError: nothing there, not readable, no features in it, several that could be meant, or a `label_column`
            of the wrong type.
        TypeError: an object of another kind.

    Example:
        >>> import numpy as np
        >>> from pairsift.data import open_features
        >>> np.save("features.npy", np.random.default_rng(0).standard_normal((100, 16)))
        >>> open_features("features.npy").shape
        (100, 16)
    """
    if isinstance(source, (str, Path)):
        return _open_path(source, label_column, column)
    if all(hasattr(source, name) for name in ("shape", "blocks", "take")):
        if column is not None or label_column not in (None, NO_LABELS):
            raise DataError("a feature source has no columns to name: leave `column` and `label_column` out")
        found: FeatureSource = source
        return found
    columns = isinstance(source, dict) and not hasattr(source, "save_to_disk")  # a DatasetDict is no dict of columns
    table = _columns_table(source) if columns else as_table(source)
    if table is not None:
        return TableFeatures(TableRows(table, f"the {type(source).__name__}"), label_column, column)
    if column is not None or label_column not in (None, NO_LABELS):
        raise DataError(
            f"an array has no columns: leave `column` and `label_column` out, got {column or label_column!r}"
        )
    if isinstance(source, (list, tuple)):
        source = _stacked_rows(source)
    if not hasattr(source, "__array__"):
        raise TypeError(
            f"features must be an (N, D) array, tensor, table or path, got {type(source).__name__}: np.asarray makes "
            "an array of lists"
        )
    return ArrayFeatures(real_array(source, "features", DataError), "features")


def as_table(source: Any) -> pa.Table | None:
    """The `pyarrow.Table` of a table or of a list of dicts; None for another object.

    Raises:
        DataError: a data set of several splits, or a table that Arrow cannot hold.
    """
    module = type(source).__module__.partition(".")[0]
    if module == "datasets" and hasattr(source, "keys"):
        raise DataError(f"a data set of several splits: give one of them, {', '.join(map(repr, source))}")
    try:
        if isinstance(source, (list, tuple)):
            dicts = bool(source) and all(isinstance(each, dict) for each in source)
            return arrow.table_of(source) if dicts else None
        if module == "pandas":
            return _pandas_table(source)
        if module == "datasets" and not hasattr(source, "__len__"):
            raise DataError(
                "a data set that is read as a stream: give `datasets.Dataset.from_generator(...)` of its rows"
            )
        if module == "datasets" and hasattr(source, "with_format"):
            table = source.with_format("arrow")[:]
            return table.replace_schema_metadata(source.features.arrow_schema.metadata)
        if module == "polars":  # a lazy frame is collected, a series is a frame of one column
            source = source.collect() if hasattr(source, "collect") else source
            source = source.to_frame() if hasattr(source, "to_frame") else source
        return pa.table(source) if hasattr(source, "__arrow_c_stream__") else None
    except DataError:
        raise
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"a {type(source).__name__} that Arrow cannot hold: {first_line(error)}") from error


def _columns_table(source: dict[Any, Any]) -> pa.Table:
    """The `pyarrow.Table` of a dict of columns; a matrix is a column of lists.

    Raises:
        DataError: columns that Arrow cannot hold.
    """
    columns = {
        str(name): list(np.asarray(each)) if getattr(each, "ndim", 1) == 2 else each for name, each in source.items()
    }
    try:
        return pa.table(columns)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"a dict of columns that Arrow cannot hold: {first_line(error)}") from error


def _pandas_table(source: Any) -> pa.Table | None:
    """A DataFrame, or a Series of vectors; None for a Series of numbers."""
    if hasattr(source, "columns"):
        try:
            return pa.Table.from_pandas(source)
        except (pa.ArrowException, TypeError, ValueError):
            held = [_fits_arrow(source.iloc[:, at]) for at in range(source.shape[1])]
            if all(held) or not any(held):
                raise
        left = ", ".join(repr(str(name)) for name, fits in zip(source.columns, held, strict=True) if not fits)
        warnings.warn(f"a DataFrame has columns of mixed types, which are not read: {left}", stacklevel=4)
        return pa.Table.from_pandas(source.loc[:, held])
    values = pa.array(list(source))
    return pa.table({str(source.name or "features"): values}) if arrow.is_list(values.type) else None


def _fits_arrow(values: Any) -> bool:
    """Whether Arrow can hold a column of pandas."""
    try:
        pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        return False
    return True


def is_shareable(source: FeatureSource) -> bool:
    """Whether workers on other machines can read the source; one that does not say so is not."""
    return bool(getattr(source, "shareable", False))


def bare_features(source: FeatureSource) -> FeatureSource:
    """The source without labels, paths and row numbers, if it can be had without them."""
    return source.bare() if hasattr(source, "bare") else source


class ArrayFeatures(Undescribed):
    """Features of an array or a memory map.

    Args:
        features: (N, D) floating point; masked entries become nan.
        name: of them, for errors.
        labels: (N,) whole numbers or names, None or -1 where a row has none.
        files: the files they come from, and the rows of each.

    Raises:
        DataError: another shape than (N, D), no rows, not floating point, or labels of another length.
    """

    shareable = False
    mixed: NDArray[np.bool_] | None = None

    def __init__(
        self, features: Any, name: str, labels: NDArray[Any] | None = None, files: Sequence[tuple[Path, int]] = ()
    ) -> None:
        if features.ndim != 2 or 0 in features.shape:
            raise DataError(f"{name}: features must be a non-empty (N, D) matrix, got shape {tuple(features.shape)}")
        if features.dtype.kind != "f":
            raise DataError(f"{name}: features must be floating point, got {features.dtype}")
        if labels is not None and labels.shape[:1] != features.shape[:1]:
            raise DataError(f"{name}: {len(features)} features but labels of shape {labels.shape}")
        if isinstance(features, np.ma.MaskedArray):
            features = features.filled(np.nan)
        self._features, self.name = features, name
        self.shape: tuple[int, int] = (features.shape[0], features.shape[1])
        if labels is not None:
            self.labels, self.class_names = usable_labels(lambda: class_numbers(np.asanyarray(labels), name), True)
        self.rows = np.arange(len(features), dtype=np.int64)
        self.files = [file for file, _ in files]
        self._file_starts = np.concatenate([[0], np.cumsum([count for _, count in files] or [len(features)])])

    def bare(self) -> ArrayFeatures:
        """The same features without labels."""
        return ArrayFeatures(self._features, self.name)

    def blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, FloatArray]]:
        """First row and (at most `rows`, D) float32 features, block by block, in order, from `start` to `stop`."""
        end = self.shape[0] if stop is None else stop
        for first in range(start, end, rows):
            yield first, np.asarray(self._features[first : min(first + rows, end)], dtype=np.float32)

    def take(self, rows: NDArray[np.int64]) -> FloatArray:
        """(len(rows), D) float32 features of some rows, given in ascending order."""
        return np.asarray(self._features[rows], dtype=np.float32)

    def locate(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Where rows lie: the number of the file of each in `files`, and its row in that file, both from 0."""
        file = np.searchsorted(self._file_starts, rows, side="right") - 1
        return file.astype(np.int64), rows - self._file_starts[file]


class TableFeatures(Undescribed):
    """Features of a table, with labels, paths and row numbers where it has them.

    Args:
        rows: of the table.
        label_column, column: see `open_features`.

    Attributes:
        columns: the columns that hold the features.
        files: the files that the rows come from; empty for a table in memory.

    Raises:
        DataError: no features, several that could be meant, rows of different lengths, or bad labels that were asked
            for.
    """

    def __init__(
        self, rows: TableRows, label_column: str | None = None, column: str | Sequence[str] | None = None
    ) -> None:
        self.name, self._rows, self.shareable, self.files = rows.name, rows, rows.shareable, rows.files
        schema = rows.schema
        label = find_label_column(self.name, schema.names, label_column, FEATURE_LABELS)
        self.columns = feature_columns(self.name, schema, label, column, rows.typed)
        self._listed = arrow.element_type(schema.field(self.columns[0]).type) is not None
        if not len(rows):
            raise DataError(f"{self.name} holds no rows")
        self.shape: tuple[int, int] = (len(rows), self._width())
        if label is not None and label not in self.columns:
            self.labels, self.class_names = self._read_labels(label, label_column is not None)
        self.paths = self._read_paths()
        self.rows = self._read_numbers()
        self.mixed: NDArray[np.bool_] | None = None
        if self._has("mixed", arrow.is_boolean):
            self.mixed = arrow.plain_values(rows.read(["mixed"]).column(0).fill_null(False)).to_numpy()

    def blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, FloatArray]]:
        """First row and (at most `rows`, D) float32 features, block by block, in order, from `start` to `stop`."""
        end, starts = self.shape[0] if stop is None else stop, self._rows.starts
        for piece in range(len(starts) - 1):
            first = int(starts[piece])
            if first >= end or starts[piece + 1] <= start:
                continue
            for features in self._read_piece(piece, rows):
                low, high = max(start - first, 0), min(end - first, len(features))
                if low < high:
                    yield first + low, features[low:high]
                first += len(features)
                if first >= end:
                    break

    def bare(self) -> TableFeatures:
        """The same features without labels, paths and row numbers: small to send to another process."""
        out = copy.copy(self)
        out.labels = out.class_names = out.paths = out.mixed = None
        out.rows = np.empty(0, np.int64)
        return out

    def take(self, rows: NDArray[np.int64]) -> FloatArray:
        """(len(rows), D) float32 features of some rows, given in ascending order."""
        out = np.empty((len(rows), self.shape[1]), np.float32)
        starts = self._rows.starts
        for piece, (low, high) in enumerate(pairwise(np.searchsorted(rows, starts).tolist())):
            first, done = int(starts[piece]), low
            for features in self._read_piece(piece, _TAKE_ROWS) if high > low else ():
                until = low + int(np.searchsorted(rows[low:high], first + len(features)))
                out[done:until] = features[rows[done:until] - first]
                first, done = first + len(features), until
                if done == high:
                    break
        return out

    def locate(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Where rows lie: the number of the file of each in `files`, and its row in that file, both from 0."""
        return self._rows.locate(rows)

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Other columns of all rows, such as ids, texts and addresses.

        Raises:
            DataError: there is no such column, or there are two.
        """
        missing = [each for each in columns if each not in self._rows.schema.names]
        if missing:
            raise DataError(
                f"{self.name} has no column {missing[0]!r}; its columns: {', '.join(self._rows.schema.names)}"
            )
        for column in columns:
            arrow.only_field(self.name, self._rows.schema, column)
        return self._rows.read(list(columns))

    def _read_piece(self, piece: int, rows: int, width: int | None = None) -> Iterator[FloatArray]:
        """Features of a piece, at most `rows` at once, because groups of a million rows are common."""
        width = self.shape[1] if width is None else width
        first = int(self._rows.starts[piece])
        for batch in self._rows.piece(piece, rows, self.columns):
            if self._listed:
                yield arrow.vectors(batch.column(0), self.name, first, width or None)
            else:
                yield np.stack([arrow.numbers(batch.column(name)) for name in self.columns], axis=1)
            first += len(batch)

    def _width(self) -> int:
        """D of the first row that has features."""
        if not self._listed:
            return len(self.columns)
        for piece in range(len(self._rows.starts) - 1):
            # The first row is enough, unless it is missing.
            for rows in (1, _TAKE_ROWS):
                for features in self._read_piece(piece, rows, 0):
                    if features.shape[1]:
                        return int(features.shape[1])
                    if rows == 1:
                        break
        raise DataError(f"{self.name}: column {self.columns[0]!r} holds no numbers in any row")

    def _has(self, name: str, test: Any) -> bool:
        """Whether there is one column of a name, of a type, that is no dimension."""
        names = self._rows.schema.names
        return names.count(name) == 1 and name not in self.columns and test(self._rows.schema.field(name).type)

    def _read_labels(self, label: str, asked: bool) -> tuple[IntArray | None, Sequence[str] | None]:
        """Class numbers and names of a column."""
        schema = self._rows.schema
        return usable_labels(
            lambda: column_labels(self._rows.read([label]).column(0), schema.field(label), schema, self.name), asked
        )

    def _read_paths(self) -> Sequence[str] | None:
        for name in PATH_COLUMNS:
            if self._has(name, arrow.is_text):
                found = arrow.texts(self._rows.read([name]).column(0), f"{self.name}, column {name!r}")
                return found if any(found) else None
        if self._has("image", pa.types.is_struct) and "path" in [f.name for f in self._rows.schema.field("image").type]:
            found = pc.struct_field(self._rows.read(["image"]).column(0), "path").to_pylist()
            return [each or "" for each in found] if any(found) else None
        return None

    def _read_numbers(self) -> IntArray:
        """The row of each example in its source: the number in the column `row`, or its position."""
        if self._has("row", arrow.is_integer):
            column = self._rows.read(["row"]).column(0)
            # Shards that each count their rows from 0 name no row: then positions do.
            if not column.null_count and pc.count_distinct(arrow.plain_values(column)).as_py() == self.shape[0]:
                return arrow.integers(column, f"{self.name}, column 'row'")
        return np.arange(self.shape[0], dtype=np.int64)


def _open_path(spec: str | Path, labels: str | None, column: str | Sequence[str] | None) -> FeatureSource:
    path = Path(spec)
    if path.suffix.lower() in ARRAY_SUFFIXES[1:] and path.is_file():
        return _open_arrays(path, labels, column)
    if path.is_file() and format_of(path) is None:
        raise DataError(
            f"{path} is not a kind of feature file known here: use .parquet, .arrow, .csv, .jsonl, "
            f"{', '.join(ARRAY_SUFFIXES)} or a folder"
        )
    files = find_files(spec, "features")
    if format_of(files[0]) != "npy":
        return TableFeatures(open_table(spec, "features"), labels, column)
    if column is not None or labels not in (None, NO_LABELS):
        raise DataError(f"{spec} is a bare array without labels or columns: put features and labels into one .npz")
    arrays = [open_npy(file) for file in files]
    if len(arrays) == 1:
        return ArrayFeatures(arrays[0], str(spec))
    counts = [(file, len(array) if array.ndim else 0) for file, array in zip(files, arrays, strict=True)]
    return ArrayFeatures(Stacked(arrays, [str(file) for file in files]), str(spec), files=counts)


def _open_arrays(path: Path, labels: str | None, column: str | Sequence[str] | None) -> ArrayFeatures:
    """Features and labels of a file of named arrays."""
    name = str(path)
    file = open_arrays(path)
    try:
        wanted = find_label_column(name, file.names, labels, FEATURE_LABELS)
        key = _feature_array(name, file, wanted, column)
        features = file.read(key)
    except DataError:
        raise
    except Exception as error:  # zip, pickle, header: a damaged file has many ways to fail
        raise DataError(f"{name} cannot be read as a file of arrays: {first_line(error)}") from error
    found = ArrayFeatures(features, name)
    try:
        if wanted is not None and wanted != key:
            found = ArrayFeatures(features, name, _read_array(file, wanted, name))
    except DataError as error:
        if labels is not None:
            raise
        warnings.warn(f"labels are not used: {error}", stacklevel=4)
    if "row" in file.names and file.header("row") == ((len(features),), "i"):
        rows = file.read("row").astype(np.int64)
        found.rows = rows if len(np.unique(rows)) == len(rows) else found.rows
    return found


def _read_array(file: ArrayFile, wanted: str, name: str) -> NDArray[Any]:
    """An array of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return file.read(wanted)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{name}: {wanted!r} cannot be read: {first_line(error)}") from error


def _feature_array(name: str, file: ArrayFile, label: str | None, column: str | Sequence[str] | None) -> str:
    """The one matrix of floating-point numbers in a file of arrays."""
    listed = ", ".join(file.names)
    if column is not None:
        if not isinstance(column, str) or column not in file.names:
            raise DataError(f"{name} has no array {column!r} (`column`); it holds: {listed}")
        return column
    headers = {each: file.header(each) for each in file.names if each != label}
    found = [each for each, header in headers.items() if len(header.shape) == 2 and header.kind == "f"]
    if not found:
        held = ", ".join(f"{each} {header.shape}" for each, header in headers.items())
        raise DataError(
            f"{name} has no (N, D) array of floating-point numbers; it holds: {held or listed or 'nothing'}"
        )
    if len(found) > 1:
        raise DataError(
            f"{name} has {len(found)} arrays of features, {', '.join(found)}: name the one to read with `column`"
        )
    return found[0]


def _stacked_rows(rows: Sequence[Any]) -> NDArray[Any]:
    """Lists, arrays or tensors of one length as one array; a row that is None or empty is nan."""
    arrays = {
        i: real_array(each, f"row {i} of features", DataError) for i, each in enumerate(rows)
        if each is not None and not (hasattr(each, "__len__") and len(each) == 0)
    }  # fmt: skip
    if not arrays:
        return np.zeros((len(rows), 0))
    first = next(iter(arrays.values()))
    other = next((i for i, each in arrays.items() if each.shape != first.shape), None)
    if other is not None:
        raise DataError(f"features: row {other} has shape {arrays[other].shape}, the rows before it {first.shape}")
    if len(arrays) == len(rows):
        stacked: NDArray[Any] = np.stack(list(arrays.values()))
        return stacked
    missing = np.full(first.shape, np.nan, first.dtype if first.dtype.kind == "f" else np.float64)
    return np.stack([arrays.get(i, missing) for i in range(len(rows))])
