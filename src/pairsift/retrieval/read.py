"""Tables of pairs as they lie in files: their splits, columns, labels and cells, read batch by batch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairsift.data import DataError, arrow
from pairsift.data.columns import NO_LABELS, only_field, written_class_names
from pairsift.data.features import as_table
from pairsift.data.tables import (
    FORMATS,
    ParquetRows,
    TableRows,
    format_of,
    is_hidden,
    natural_order,
    open_table,
)
from pairsift.pairs import text_keys
from pairsift.retrieval.config import PairsConfig, PairsError
from pairsift.retrieval.layouts import Beir, Nested, is_nested

Kind = Literal["texts", "embeddings"]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

# Rows decoded at once: 50 MB of two columns of 384 dimensions.
BATCH_ROWS = 16_384
# The key of a cell that holds nothing to compare. No other key is negative.
NO_KEY = -1
# As text_keys: 53 bits are exact in float64 too.
_BITS = 53

# Usual names of columns; the first that is there is taken.
ANCHORS = ("anchor", "query", "question", "sentence1", "sentence_0")
POSITIVES = ("positive", "pos", "answer", "document", "passage", "sentence2", "sentence_1", "positive_passages")
LABELS = ("label", "labels", "score", "scores", "similarity_score", "relevance", "is_duplicate", "gold_label")
_NEGATIVES = re.compile(r"(hard_)?neg(ative)?s?(_passages)?(_?\d+)?")

# What stands for a split in a file's path, as the Hugging Face hub reads it.
_SPLIT_WORDS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_SPLIT = re.compile(rf"(?:^|[-._= 0-9/])({'|'.join(_SPLIT_WORDS)})(?=$|[-._ 0-9/])", re.IGNORECASE)
# The name of a class 0 that plainly means "no pair". Elsewhere 0 can be "entailment".
_NEGATED = re.compile(r"(?i)(not?|non|un|ir|dis|0|false|neg)")
# Values of a column of labels that an error lists.
_LISTED = 8


class PairsSource:
    """N rows of pairs in files or in memory.

    Args:
        data: a path or pattern of table files, or a table of pyarrow, pandas, polars or `datasets`, or a mapping of
            splits to tables.
        config: names the split and the columns.

    Attributes:
        name: of the data, for messages.
        split: which one is read; None where there are none.
        others: the splits that are not read.
        schema, rows, columns: of the table.
        path: where the data was opened; None for a table in memory.
        files, file_starts: the files that it was read from, and the first row (or record) of each.
        nested: the records, where one has several positives; None where a row is a pair.
        beir: the folder of BEIR and the file of judgements that was read; None for anything else.
        further: by role, texts that are no pairs and are compared with them.

    Raises:
        TypeError: data of another type.
        DataError: not there, not readable, shards of different columns, no rows, or columns that are no pairs.
    """

    _what = "pairs"

    def __init__(self, data: Any, config: PairsConfig | None = None) -> None:
        config = PairsConfig() if config is None else config
        self.split: str | None = None
        self.others: list[str] = []
        self.path: Path | None = None
        self.beir: tuple[Beir, Path] | None = None
        if isinstance(data, (str, Path)):
            self.name, self.path = str(data), Path(data)
            self._rows = self._open(Path(data), config.split)
        else:
            self.name = "the table"
            self._rows = TableRows(self._table(data, config.split), self.name)
        self.files, self.file_starts = self._rows.files, self._rows.file_starts
        self.nested = self._nested(config)
        if self.nested is not None:
            self._rows = TableRows(self.nested.pairs, self.name)
        self.schema, self.rows = self._rows.schema, len(self._rows)
        if self.rows == 0:
            raise DataError(f"{self.name} holds no rows")
        self.columns = find_columns(self.name, self.schema, config)
        self.further: dict[str, TextsSource] = {}

    @property
    def kind(self) -> Kind:
        """Whether cells hold texts or embeddings."""
        return self.columns.kind

    def streams(self) -> list[tuple[PairsSource | TextsSource, Column]]:
        """Every column of cells, with the source that holds it, in the order in which cells are counted."""
        more = [(each, each.column) for each in self.further.values()]
        return [*((self, column) for column in self.columns.all), *more]

    def batches(self, columns: list[str] | None = None) -> Iterator[tuple[int, pa.RecordBatch]]:
        """First row and at most `BATCH_ROWS` rows of some or all columns, in order."""
        start = 0
        for piece in range(len(self._rows.starts) - 1):
            for batch in self._rows.piece(piece, BATCH_ROWS, self.schema.names if columns is None else columns):
                yield start, batch
                start += len(batch)

    def cells(self, column: str) -> Iterator[tuple[int, Any]]:
        """First row and values of one column, batch by batch, dictionaries resolved."""
        for start, batch in self.batches([column]):
            yield start, arrow.plain_values(batch.column(0))

    def take(self, rows: IntArray, columns: list[str]) -> dict[int, dict[str, Any]]:
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

    def _nested(self, config: PairsConfig) -> Nested | None:
        """The records, where a cell of positives holds several."""
        schema = self._rows.schema
        usual = (each for each in POSITIVES if each in schema.names)
        positive = config.positive if config.positive in schema.names else next(usual, None)
        if positive is None or not len(self._rows) or not is_nested(schema.field(positive).type):
            return None
        negatives = [each for each in _negative_columns(schema, config) if each in schema.names and each != positive]
        return Nested(self.name, self._rows.read(schema.names), positive, negatives)

    def _open(self, path: Path, split: str | None) -> TableRows:
        if path.is_dir() and Beir.holds(path):
            beir = Beir(path)
            self.beir = beir, self._chosen(beir.splits, split)
            return TableRows(beir.pairs(self.beir[1]), self.name)
        if (path / "dataset_dict.json").exists():
            return open_table(
                self._chosen({each.parent.name: each.parent for each in path.glob("*/state.json")}, split)
            )
        if path.is_dir() and not (path / "state.json").exists():
            files = self._chosen(_splits(path, _folder_files(path)), split)
            if format_of(files[0]) == "parquet":
                return ParquetRows(files, self.name)
            tables = [open_table(file) for file in files]
            held = [(file, len(table)) for file, table in zip(files, tables, strict=True)]
            return TableRows(pa.concat_tables([each.read(each.schema.names) for each in tables]), self.name, held)
        if split is not None:
            raise DataError(f"{path} has no splits: leave `split` out, got {split!r}")
        return open_table(path, self._what)

    def _table(self, data: Any, split: str | None) -> pa.Table:
        if isinstance(data, Mapping):
            data = self._chosen({str(name): table for name, table in data.items()}, split)
        elif split is not None:
            raise DataError(f"the table has no splits: leave `split` out, got {split!r}")
        table = data if isinstance(data, pa.Table) else as_table(data)
        if table is None:
            raise TypeError(
                f"pairs are a path, or a table of pyarrow, pandas, polars or datasets, got {type(data).__name__}"
            )
        return table

    def _chosen(self, splits: Mapping[str, Any], wanted: str | None) -> Any:
        """What there is of the wanted split; `split` and `others` say which that is.

        Raises:
            DataError: there is no such split, or several and none is wanted or called train.
        """
        if wanted is None:
            wanted = next(iter(splits)) if len(splits) == 1 else "train"
            if wanted not in splits:
                raise DataError(f"{self.name} has the splits {', '.join(splits)}: name one with `split`")
        if wanted not in splits:
            names = ", ".join(each for each in splits if each) or "none"
            raise DataError(f"{self.name} has no split {wanted!r}; its splits: {names}")
        self.split, self.others = wanted or None, [each for each in splits if each != wanted]
        return splits[wanted]


class TextsSource:
    """N rows of texts, or embeddings, that are no pairs: an evaluation set, or a corpus.

    Args:
        data: see `PairsSource`; also a folder of BEIR, of which one file is read.
        pairs: that they are compared with.
        wanted: the column; None takes the usual one of anchors, `text`, or the only one.
        role: the setting that names the data.
        file: of a folder of BEIR.

    Attributes:
        name, schema, rows, kind: of the table.
        column: that is read.

    Raises:
        TypeError, DataError: see `PairsSource`; or no such column, or one of another kind than the pairs.
    """

    def __init__(self, data: Any, pairs: PairsSource, wanted: str | None, role: str, file: str) -> None:
        opened = PairsSource.__new__(PairsSource)
        opened.split, opened.others, opened._what = None, [], f"`{role}`"
        if isinstance(data, (str, Path)):
            opened.name = self.name = str(data)
            path = next((each for each in sorted(Path(data).glob(f"{file}.jsonl*"))), Path(data))
            rows = opened._open(path, None)
        else:
            opened.name = self.name = f"`{role}`"
            rows = TableRows(opened._table(data, None), self.name)
        opened._rows, opened.schema = rows, rows.schema
        self._opened, self.schema, self.rows, self.kind = opened, rows.schema, len(rows), pairs.kind
        if self.rows == 0:
            raise DataError(f"{self.name} holds no rows")
        fits = [each for each in self.schema.names if _kind_of(self.schema, each) == pairs.kind]
        usual = next((each for each in (pairs.columns.anchor.name, *ANCHORS, "text") if each in fits), None)
        chosen = wanted or usual or (fits[0] if len(fits) == 1 else None)
        if chosen not in fits:
            named = f"column {wanted!r} holds no {pairs.kind}" if wanted else f"which column of {pairs.kind} is meant?"
            names = ", ".join(self.schema.names)
            raise DataError(f"{self.name}: {named}; its columns: {names}: name one with `{role}_column`")
        self.column = Column(str(chosen))

    def cells(self, column: str) -> Iterator[tuple[int, Any]]:
        """First row and values of one column, batch by batch, dictionaries resolved."""
        return self._opened.cells(column)

    def take(self, rows: IntArray, columns: list[str]) -> dict[int, dict[str, Any]]:
        """The values of some rows, in one pass."""
        return self._opened.take(rows, columns)


def _kind_of(schema: pa.Schema, column: str) -> Kind | None:
    """What a column holds, one text or embedding a row; None for anything else."""
    kind = only_field("the table", schema, column).type
    return "texts" if arrow.is_text(kind) else "embeddings" if arrow.is_vector(kind) else None


def _folder_files(folder: Path) -> list[Path]:
    """The table files of one format in and below a folder, in natural order; hidden ones are left out.

    Raises:
        DataError: there are none.
    """
    files = [file for file in folder.rglob("*") if file.is_file() and not is_hidden(file.relative_to(folder))]
    kinds = {file: format_of(file) for file in files}
    kind = next((name for name in FORMATS if name in kinds.values() and name != "npy"), None)
    if kind is None:
        held = sorted(each.name for each in folder.iterdir())
        what = "is empty" if not held else "holds " + ", ".join(held[:5]) + (" and more" if len(held) > 5 else "")
        raise DataError(f"no pairs at {folder}: the folder {what}; give a folder of parquet shards, or a file")
    return sorted((file for file in files if kinds[file] == kind), key=lambda file: natural_order(file.name))


def _splits(folder: Path, files: list[Path]) -> dict[str, list[Path]]:
    """The files of each split; all under "" where no file names one.

    Raises:
        DataError: files that name a split together with files that name none, or a split in several folders.
    """
    found: dict[str, list[Path]] = {}
    for file in files:
        words: list[str] = _SPLIT.findall(file.relative_to(folder).with_suffix("").as_posix())
        found.setdefault(_SPLIT_WORDS[words[-1].lower()] if words else "", []).append(file)
    if len(found) > 1 and "" in found:
        named = next(file for split, of_split in found.items() if split for file in of_split)
        raise DataError(
            f"{folder}: {named.relative_to(folder)} names a split and {found[''][0].relative_to(folder)} none: give "
            "files of one split, or name the file"
        )
    for split, of_split in found.items():
        places = sorted({file.parent for file in of_split})
        if len(places) > 1:
            raise DataError(
                f"{folder}: the files{' of split ' + repr(split) if split else ''} lie in {places[0]} and {places[1]}: "
                "give one of these folders"
            )
    return found


# Columns


class Column(NamedTuple):
    """A column; `listed` where a cell holds several texts."""

    name: str
    listed: bool = False


class Columns(NamedTuple):
    """The columns of pairs, what their cells hold, and the column of labels."""

    anchor: Column
    positive: Column
    negatives: tuple[Column, ...]
    kind: Kind
    label: str | None = None

    @property
    def all(self) -> tuple[Column, ...]:
        """Anchors, positives, then the columns of negatives."""
        return (self.anchor, self.positive, *self.negatives)


def find_columns(name: str, schema: pa.Schema, config: PairsConfig) -> Columns:
    """The columns of pairs.

    Args:
        name: of the data, for errors.
        schema: of the table.
        config: names columns.

    Raises:
        DataError: a column is not there, holds neither texts nor embeddings, or not what the others hold.
    """
    first = _one(name, schema, "anchor", config.anchor, ANCHORS)
    second = _one(name, schema, "positive", config.positive, POSITIVES)
    if first == second:
        raise DataError(f"{name}: anchors and positives are both column {first!r}: name two")
    third = [each for each in _negative_columns(schema, config) if config.negatives or each not in (first, second)]
    missing = [each for each in third if each not in schema.names]
    if missing:
        raise _missing(name, "negatives", missing[0], schema)
    kind = _kind(name, schema, first)
    for each in (second, *third):
        other = _kind(name, schema, each)
        if other != kind:
            raise DataError(
                f"{name}: column {first!r} holds {kind} and column {each!r} {other}: inspect one kind at a time"
            )
    columns = [
        Column(each, kind == "texts" and arrow.is_list(schema.field(each).type)) for each in (first, second, *third)
    ]
    if any(column.listed for column in columns[:2]):
        raise DataError(f"{name}: a row needs one anchor and one positive, not a list: write a row for each pair")
    label = _label_column(name, schema, config.label, {column.name for column in columns})
    return Columns(columns[0], columns[1], tuple(columns[2:]), kind, label)


def _negative_columns(schema: pa.Schema, config: PairsConfig) -> list[str]:
    """Names of the columns of negatives, as they are configured or usual."""
    if config.negatives is None:
        return [each for each in schema.names if _NEGATIVES.fullmatch(each)]
    return [] if config.negatives == NO_LABELS else [each.strip() for each in config.negatives.split(",")]


def _one(name: str, schema: pa.Schema, role: str, wanted: str | None, usual: Sequence[str]) -> str:
    if wanted is not None:
        if wanted not in schema.names:
            raise _missing(name, role, wanted, schema)
        return wanted
    found = next((each for each in usual if each in schema.names), None)
    if found is None:
        raise DataError(
            f"{name} has no column of {role}s ({', '.join(usual)}); its columns: {', '.join(schema.names)}: name one "
            f"with `{role}`"
        )
    return found


def _missing(name: str, role: str, wanted: str, schema: pa.Schema) -> DataError:
    return DataError(f"{name} has no column {wanted!r}; its columns: {', '.join(schema.names)}: see `{role}`")


def _kind(name: str, schema: pa.Schema, column: str) -> Kind:
    kind = only_field(name, schema, column).type
    if arrow.is_text(kind.value_type if arrow.is_list(kind) else kind):
        return "texts"
    if arrow.is_vector(kind):
        return "embeddings"
    raise DataError(
        f"{name}: column {column!r} is {kind}: anchors, positives and negatives are texts or lists of floats"
    )


def _label_column(name: str, schema: pa.Schema, wanted: str | None, taken: set[str]) -> str | None:
    if wanted == NO_LABELS:
        return None
    if wanted is None:
        usual = [each for each in LABELS if each in schema.names and each not in taken]
        return next((each for each in usual if _is_label(only_field(name, schema, each).type)), None)
    if wanted not in schema.names:
        raise _missing(name, "label", wanted, schema)
    kind = only_field(name, schema, wanted).type
    if not _is_label(kind):
        raise DataError(f"{name}: column {wanted!r} is {kind}: labels of pairs are numbers, booleans or words")
    return wanted


def _is_label(kind: pa.DataType) -> bool:
    return arrow.is_number(kind) or arrow.is_boolean(kind) or arrow.is_text(kind)


# Labels


@dataclass(frozen=True)
class PairLabels:
    """Which rows are labelled as positive pairs.

    Attributes:
        column: of the labels.
        positive: (N,) rows of positive pairs.
        missing: (N,) rows without a label.
        numbers: (N,) equal where the labels are.
        rule: what makes a row positive, in words.
    """

    column: str
    positive: NDArray[np.bool_]
    missing: NDArray[np.bool_]
    numbers: IntArray
    rule: str

    @property
    def negative(self) -> NDArray[np.bool_]:
        """(N,) rows that are labelled as no pair."""
        return ~self.positive & ~self.missing


def read_labels(source: PairsSource, config: PairsConfig) -> PairLabels | None:
    """The labels of the rows; None where there is no column of labels.

    0 and 1, -1 and 1, and false and true are read as they are; scores in [0, 1] are positive from 0.5 on. Anything else
    has no meaning that could be known, and the error asks for it.

    Raises:
        PairsError: labels whose meaning is not known, or settings that do not fit them.
    """
    column = source.columns.label
    if column is None:
        if config.positive_label is not None or config.min_score is not None:
            raise PairsError(f"{source.name} has no column of labels or scores: name one with `label`")
        return None
    parts = [values for _, values in source.cells(column)]
    values: Any = pa.chunked_array(parts).combine_chunks()
    names = written_class_names(source.schema, column)
    if names is not None and arrow.is_integer(values.type):
        if config.positive_label is not None:
            known = [None if each is None or not 0 <= each < len(names) else names[each] for each in values.to_pylist()]
            values = pa.array(known, pa.string())
        elif config.min_score is None and not (len(names) == 2 and _NEGATED.match(names[0])):
            raise _unclear(source.name, column, names)
    if arrow.is_text(values.type) or config.positive_label is not None:
        return _by_word(source.name, column, values, config.positive_label, config.min_score)
    numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return _by_number(source.name, column, numbers, config.min_score)


def _by_word(name: str, column: str, values: Any, wanted: str | None, min_score: float | None) -> PairLabels:
    texts = np.array(["" if each is None else str(each).strip() for each in values.to_pylist()], dtype=object)
    missing = texts == ""
    distinct, numbers = np.unique(texts.astype(str), return_inverse=True)
    there = [each for each in distinct.tolist() if each]
    if wanted is None:
        if min_score is not None or not {each.lower() for each in there} <= {"0", "1", "true", "false"}:
            raise _unclear(name, column, there)
        positive = np.isin(np.char.lower(texts.astype(str)), ("1", "true"))
        return PairLabels(column, positive, missing, numbers.astype(np.int64), "labels 1 and true are positive")
    chosen = [each.strip() for each in wanted.split(",")]
    absent = [each for each in chosen if each not in there]
    if absent:
        raise PairsError(f"{name}: column {column!r} holds no label {absent[0]!r}; its labels: {_some(there)}")
    rule = f"labels {', '.join(chosen)} are positive"
    return PairLabels(column, np.isin(texts.astype(str), chosen), missing, numbers.astype(np.int64), rule)


def _by_number(name: str, column: str, values: NDArray[np.float64], min_score: float | None) -> PairLabels:
    missing = ~np.isfinite(values)
    distinct, numbers = np.unique(np.where(missing, np.nan, values), return_inverse=True)
    there = distinct[np.isfinite(distinct)]
    held = set(there.tolist())
    numbers = numbers.astype(np.int64)
    if min_score is not None:
        rule = f"scores of {min_score:g} and above are positive"
        return PairLabels(column, ~missing & (values >= min_score), missing, numbers, rule)
    if held <= {0.0, 1.0} or held <= {-1.0, 1.0}:
        return PairLabels(column, values == 1, missing, numbers, "label 1 is positive")
    if held <= {-1.0, 0.0, 1.0}:  # a data set's usual number of what nobody labelled
        return PairLabels(column, values == 1, missing | (values == -1), numbers, "label 1 is positive, -1 is none")
    if there.min() >= 0 and there.max() <= 1:
        return PairLabels(column, ~missing & (values >= 0.5), missing, numbers, "scores of 0.5 and above are positive")
    raise _unclear(name, column, [f"{each:g}" for each in there.tolist()])


def _unclear(name: str, column: str, values: list[str]) -> PairsError:
    return PairsError(
        f"{name}: column {column!r} holds {_some(values)}, and which of them mark positive pairs is not known: name "
        f"them with `positive_label`, or the least score with `min_score`, or ignore the column with `label='none'`"
    )


def _some(values: list[str]) -> str:
    words = ", ".join(values[:_LISTED])
    return words if len(values) <= _LISTED else f"{words} and {len(values) - _LISTED:,} more"


# Cells


class State(IntEnum):
    """What is wrong with a cell."""

    FINE, MISSING, EMPTY, NOT_FINITE = range(4)


@dataclass(frozen=True)
class Cells:
    """The cells of one column, in order; a cell of a list column is an element of a list.

    Attributes:
        column: that they belong to.
        rows: (C,) row of each cell.
        keys: (C,) int64, equal where contents are: texts but for case and white space, embeddings bit by bit. `NO_KEY`
            where there is nothing to compare.
        states: (C,) int8 of `State`.
    """

    column: Column
    rows: IntArray
    keys: IntArray
    states: NDArray[np.int8]


def read_cells(source: PairsSource | TextsSource, column: Column) -> Cells:
    """Read a column once, for its keys.

    Raises:
        DataError: the file is damaged, embeddings are of several lengths, or texts are no UTF-8.
    """
    read = _text_cells if source.kind == "texts" else _vector_cells
    parts, width = [], 0
    for start, values in source.cells(column.name):
        rows, keys, states, width = read(values, column, f"{source.name}, column {column.name!r}", start, width)
        parts.append((rows, keys, states))
    rows, keys, states = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Cells(column, rows, keys, states)


def contents(source: PairsSource | TextsSource, column: Column) -> Iterator[Any]:
    """What the cells of a column hold, batch by batch and in the same order: lists of texts, or (C, D) rows."""
    name = f"{source.name}, column {column.name!r}"
    for start, values in source.cells(column.name):
        texts = source.kind == "texts"
        yield _elements(values, column, name)[1] if texts else arrow.vectors(values, name, start)


def _elements(values: Any, column: Column, name: str) -> tuple[IntArray, list[Any]]:
    """Place in the batch and text of each cell: one a row, or for lists one an element."""
    if not column.listed:
        return np.arange(len(values)), arrow.texts(values, name)
    places = np.repeat(np.arange(len(values)), np.asarray(values.value_lengths().fill_null(0)))
    return places, arrow.texts(values.filter(values.is_valid()).flatten(), name)


def _text_cells(values: Any, column: Column, name: str, start: int, width: int) -> tuple[Any, Any, Any, int]:
    places, texts = _elements(values, column, name)
    states = np.array(
        [State.MISSING if text is None else State.FINE if text.strip() else State.EMPTY for text in texts], np.int8
    )
    keys = np.full(len(texts), NO_KEY, np.int64)
    keys[states == State.FINE] = text_keys(text for text, state in zip(texts, states, strict=True) if not state)
    return start + places, keys, states, 0


def _vector_cells(values: Any, column: Column, name: str, start: int, width: int) -> tuple[Any, Any, Any, int]:
    features, there = arrow.vectors(values, name, start, width or None), np.asarray(values.is_valid())
    states = np.where(there, State.FINE, State.MISSING).astype(np.int8)
    states[there & ~features.any(axis=1)] = State.EMPTY
    # Entries above 1e19 are finite and their squares are not: such a row has no cosine either.
    with np.errstate(over="ignore", invalid="ignore"):
        states[there & ~np.isfinite(np.einsum("ij,ij->i", features, features))] = State.NOT_FINITE
    keys = np.full(len(features), NO_KEY, np.int64)
    fine = states == State.FINE
    keys[fine] = [_vector_key(row) for row in features[fine] + np.float32(0)]  # + 0 makes -0 a 0
    return start + np.arange(len(features)), keys, states, features.shape[1] or width


def _vector_key(row: FloatArray) -> int:
    return int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "big") >> (64 - _BITS)
