"""Tables of pairs as they lie in files: their splits, columns, labels and cells, read batch by batch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.json
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairsift._base.checks import first_line
from pairsift.data import DataError
from pairsift.data.columns import NO_LABELS, is_list, only_field
from pairsift.data.tables import DAMAGE
from pairsift.pairs import text_keys
from pairsift.retrieval.config import PairsConfig, PairsError

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
POSITIVES = ("positive", "pos", "answer", "document", "passage", "sentence2", "sentence_1")
LABELS = ("label", "labels", "score", "scores", "similarity_score", "relevance", "is_duplicate", "gold_label")
_NEGATIVES = re.compile(r"(hard_)?neg(ative)?s?(_?\d+)?")

_MAGIC = b"PAR1"
_TEXT_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
_FORMATS = "parquet, jsonl, csv, tsv or arrow"
# What stands for a split in a file's path, as the Hugging Face hub reads it.
_SPLIT_WORDS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_SPLIT = re.compile(rf"(?:^|[-._ 0-9/])({'|'.join(_SPLIT_WORDS)})(?=$|[-._ 0-9/])", re.IGNORECASE)
_SHARD = re.compile(r"(\w[\w.]*?)-\d{5}-of-\d{5}")
# The name of a class 0 that plainly means "no pair". Elsewhere 0 can be "entailment".
_NEGATED = re.compile(r"(?i)(not?|non|un|ir|dis|0|false|neg)")
# Values of a column of labels that an error lists.
_LISTED = 8


class PairsSource:
    """N rows of pairs in a file, a folder of parquet shards, or a table.

    Args:
        data: a path, a `pyarrow.Table`, a pandas DataFrame, a `datasets.Dataset`, or a mapping of splits to data sets.
        config: names the split and the columns.

    Attributes:
        name: of the data, for messages.
        split: which one is read; None where there are none.
        others: the splits that are not read.
        schema, rows, columns: of the table.

    Raises:
        TypeError: data of another type.
        DataError: not there, not readable, shards of different columns, no rows, or columns that are no pairs.
    """

    def __init__(self, data: Any, config: PairsConfig | None = None) -> None:
        config = PairsConfig() if config is None else config
        self.name, self.split, self.others = "the table", config.split, list[str]()
        self._files: list[Path] = []
        self._table: pa.Table | None = None
        if isinstance(data, (str, Path)):
            self.name = str(data)
            self._open(Path(data), config.split)
        else:
            self._table = self._as_table(data, config.split)
        self.schema, self.rows = self._shape()
        if self.rows == 0:
            raise DataError(f"{self.name} holds no rows")
        self.columns = find_columns(self.name, self.schema, config)

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
            raise DataError(f"{self.name} is damaged: {first_line(error)}") from error

    def cells(self, column: str) -> Iterator[tuple[int, Any]]:
        """First row and values of one column, batch by batch, dictionaries resolved."""
        for start, batch in self.batches([column]):
            yield start, _decoded(batch.column(0))

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

    def _open(self, path: Path, split: str | None) -> None:
        if path.is_dir():
            files = _folder_files(path)
            by_split = _splits(path, files)
            self.split, self.others = _chosen(self.name, by_split, split)
            self._files = by_split[self.split]
        elif split is not None:
            raise DataError(f"{path} is one file and has no splits: leave `split` out, got {split!r}")
        elif not path.exists():
            raise DataError(f"no pairs at {path}: give {_FORMATS}, or a folder of parquet shards")
        elif _plain_suffix(path) in (*_TEXT_FILES, ".arrow"):
            self._table = _read_table(path)
        else:
            self._files = [path]

    def _as_table(self, data: Any, split: str | None) -> pa.Table:
        if isinstance(data, Mapping):
            self.split, self.others = _chosen(self.name, dict(data), split)
            data = data[self.split]
        elif split is not None:
            raise DataError(f"the table has no splits: leave `split` out, got {split!r}")
        if isinstance(data, pa.Table):
            return data
        if hasattr(data, "with_format") and hasattr(data, "features"):
            return data.with_format("arrow")[:]
        if type(data).__module__.partition(".")[0] == "pandas":
            return pa.Table.from_pandas(data, preserve_index=False)
        raise TypeError(
            f"pairs are a path, a pyarrow.Table, a pandas DataFrame or a datasets.Dataset, got {type(data).__name__}"
        )

    def _shape(self) -> tuple[pa.Schema, int]:
        if self._table is not None:
            return self._table.schema, len(self._table)
        metadata = [_metadata(file) for file in self._files]
        schemas = [each.schema.to_arrow_schema() for each in metadata]
        for file, schema in zip(self._files, schemas, strict=True):
            if not schema.equals(schemas[0]):
                raise DataError(f"{file} has other columns or types than {self._files[0]}")
        return schemas[0], sum(each.num_rows for each in metadata)


# Files and splits


def _folder_files(folder: Path) -> list[Path]:
    """The parquet files in and below a folder, hidden ones left out, numbers in their names in natural order."""
    files = [
        file for file in folder.rglob("*.parquet")
        if not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]  # fmt: skip
    if not files:
        held = sorted(each.name for each in folder.iterdir())
        what = "is empty" if not held else "holds " + ", ".join(held[:5]) + (" and more" if len(held) > 5 else "")
        raise DataError(f"no pairs at {folder}: the folder {what}; give a folder of parquet shards, or a file")
    return sorted(files, key=lambda file: _natural(str(file.relative_to(folder))))


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


def _splits(folder: Path, files: list[Path]) -> dict[str, list[Path]]:
    """The files of each split; all under "" where no file names one.

    Raises:
        DataError: files that name a split beside files that name none, or a split in several folders.
    """
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(_split_of(file.relative_to(folder).with_suffix("").as_posix()), []).append(file)
    if len(found) > 1 and "" in found:
        named = next(file for split, files in found.items() if split for file in files)
        raise DataError(
            f"{folder}: {named.relative_to(folder)} names a split and {found[''][0].relative_to(folder)} none: give "
            "files of one split, or name the file"
        )
    for split, of_split in found.items():
        places = sorted({file.parent for file in of_split})
        if len(places) > 1:
            raise DataError(
                f"{folder}: the files {'of split ' + repr(split) if split else ''} lie in {places[0]} and {places[1]}: "
                "give one of these folders"
            )
    return found


def _split_of(path: str) -> str:
    shard = _SHARD.fullmatch(path.rsplit("/", 1)[-1])
    words: list[str] = _SPLIT.findall(path)
    if words:
        return _SPLIT_WORDS[words[-1].lower()]
    return shard.group(1) if shard and "/" in path and path.startswith("data/") else ""


def _chosen(name: str, splits: Mapping[str, Any], wanted: str | None) -> tuple[str, list[str]]:
    """The split to read, and the others."""
    names = [str(each) for each in splits]
    if wanted is None:
        wanted = names[0] if len(names) == 1 else "train"
        if wanted not in names:
            raise DataError(f"{name} has the splits {', '.join(names)}: name one with `split`")
    if wanted not in names:
        raise DataError(f"{name} has no split {wanted!r}; its splits: {', '.join(each or 'none' for each in names)}")
    return wanted, [each for each in names if each != wanted]


def _plain_suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _read_table(path: Path) -> pa.Table:
    """A file of lines, or an Arrow file, as a table.

    Raises:
        DataError: it cannot be read as what its name says.
    """
    suffix = _plain_suffix(path)
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            if suffix in (".csv", ".tsv"):
                options = pyarrow.csv.ParseOptions(delimiter="\t" if suffix == ".tsv" else ",", newlines_in_values=True)
                return pyarrow.csv.read_csv(stream, parse_options=options)
            if suffix != ".arrow":
                return pyarrow.json.read_json(stream)
            content = pa.py_buffer(stream.read())
        try:
            return pyarrow.ipc.open_file(content).read_all()
        except pa.ArrowInvalid:  # datasets writes streams
            return pyarrow.ipc.open_stream(content).read_all()
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read as {suffix.lstrip('.')}: {first_line(error)}") from error


def _metadata(file: Path) -> Any:
    """The metadata of a parquet file.

    Raises:
        DataError: no parquet, or a damaged file.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(len(_MAGIC))
        if head != _MAGIC:
            raise DataError(f"{file} is no parquet file: give {_FORMATS}, each under its usual ending")
        return pq.read_metadata(file)
    except DAMAGE as error:
        raise DataError(
            f"{file} cannot be read as parquet, its end is missing or damaged: {first_line(error)}"
        ) from error


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
    kind: Literal["texts", "embeddings"]
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
    if config.negatives is None:
        third = [each for each in schema.names if _NEGATIVES.fullmatch(each) and each not in (first, second)]
    else:
        third = [] if config.negatives == NO_LABELS else [each.strip() for each in config.negatives.split(",")]
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
    columns = [Column(each, kind == "texts" and is_list(schema.field(each).type)) for each in (first, second, *third)]
    if any(column.listed for column in columns[:2]):
        raise DataError(f"{name}: a row needs one anchor and one positive, not a list: write a row for each pair")
    label = _label_column(name, schema, config.label, {column.name for column in columns})
    return Columns(columns[0], columns[1], tuple(columns[2:]), kind, label)


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


def _kind(name: str, schema: pa.Schema, column: str) -> Literal["texts", "embeddings"]:
    kind = only_field(name, schema, column).type
    inner = kind.value_type if is_list(kind) else kind
    if is_text(inner):
        return "texts"
    if is_list(kind) and pa.types.is_floating(inner):
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
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or is_text(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether values of a type are texts, plainly or by a dictionary."""
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner))


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
    names = _class_names(source.schema, column)
    if names is not None and pa.types.is_integer(values.type):
        if config.positive_label is not None:
            known = [None if each is None or not 0 <= each < len(names) else names[each] for each in values.to_pylist()]
            values = pa.array(known, pa.string())
        elif config.min_score is None and not (len(names) == 2 and _NEGATED.match(names[0])):
            raise _unclear(source.name, column, names)
    if is_text(values.type) or config.positive_label is not None:
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


def _class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """Names of classes that the datasets library keeps with a schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column].get("names")
    except (KeyError, ValueError, TypeError, AttributeError):
        return None
    return [str(each) for each in names] if isinstance(names, list) else None


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


def read_cells(source: PairsSource, column: Column) -> Cells:
    """Read a column once, for its keys.

    Raises:
        DataError: the file is damaged.
        PairsError: embeddings of several lengths, or texts that are no UTF-8.
    """
    read = _text_cells if source.columns.kind == "texts" else _vector_cells
    parts, width = [], 0
    for start, values in source.cells(column.name):
        rows, keys, states, width = read(values, column, f"{source.name}, column {column.name!r}", start, width)
        parts.append((rows, keys, states))
    rows, keys, states = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Cells(column, rows, keys, states)


def contents(source: PairsSource, column: Column) -> Iterator[Any]:
    """What the cells of a column hold, batch by batch and in the same order: lists of texts, or (C, D) rows."""
    name = f"{source.name}, column {column.name!r}"
    for start, values in source.cells(column.name):
        yield _matrix(values, name, start)[0] if source.columns.kind == "embeddings" else _elements(values, column)[1]


def _elements(values: Any, column: Column) -> tuple[IntArray, Any]:
    """Place in the batch and text of each cell: one a row, or for lists one an element."""
    if not column.listed:
        return np.arange(len(values)), _texts(values, column)
    places = np.repeat(np.arange(len(values)), np.asarray(values.value_lengths().fill_null(0)))
    return places, _texts(_decoded(values.filter(values.is_valid()).flatten()), column)


def _texts(values: Any, column: Column) -> list[Any]:
    try:
        texts: list[Any] = values.to_pylist()
    except UnicodeDecodeError as error:
        raise PairsError(f"column {column.name!r} holds text that is no UTF-8: {first_line(error)}") from error
    return texts


def _text_cells(values: Any, column: Column, name: str, start: int, width: int) -> tuple[Any, Any, Any, int]:
    places, texts = _elements(values, column)
    states = np.array(
        [State.MISSING if text is None else State.FINE if text.strip() else State.EMPTY for text in texts], np.int8
    )
    keys = np.full(len(texts), NO_KEY, np.int64)
    keys[states == State.FINE] = text_keys(text for text, state in zip(texts, states, strict=True) if not state)
    return start + places, keys, states, 0


def _vector_cells(values: Any, column: Column, name: str, start: int, width: int) -> tuple[Any, Any, Any, int]:
    features, there = _matrix(values, name, start, width or None)
    states = np.where(there, State.FINE, State.MISSING).astype(np.int8)
    states[there & ~features.any(axis=1)] = State.EMPTY
    # Entries above 1e19 are finite and their squares are not: such a row has no cosine either.
    with np.errstate(over="ignore", invalid="ignore"):
        states[~np.isfinite(np.einsum("ij,ij->i", features, features))] = State.NOT_FINITE
    keys = np.full(len(features), NO_KEY, np.int64)
    fine = states == State.FINE
    keys[fine] = [_vector_key(row) for row in features[fine] + np.float32(0)]  # + 0 makes -0 a 0
    return start + np.arange(len(features)), keys, states, features.shape[1] or width


def _vector_key(row: FloatArray) -> int:
    return int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "big") >> (64 - _BITS)


def _decoded(values: Any) -> Any:
    """An array whose dictionary, if it has one, is resolved."""
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _matrix(values: Any, name: str, start: int, width: int | None = None) -> tuple[FloatArray, NDArray[np.bool_]]:
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
