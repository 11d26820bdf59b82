"""Tables of pairs as they lie in files: their splits, columns and labels, read batch by batch."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairsift.data import DataError, arrow
from pairsift.data.columns import NO_LABELS, written_class_names
from pairsift.data.features import as_table
from pairsift.data.tables import SPLIT_WORDS, TableRows, files_by_split, open_files, open_table
from pairsift.retrieval.config import PairsConfig, PairsError
from pairsift.retrieval.layouts import Beir, Nested

Kind = Literal["texts", "embeddings"]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

# Rows decoded at once: 50 MB of two columns of 384 dimensions.
BATCH_ROWS = 16_384

# Usual names of columns; the first that is there is taken.
ANCHORS = ("anchor", "query", "question", "sentence1", "sentence_0")
POSITIVES = ("positive", "pos", "answer", "document", "passage", "sentence2", "sentence_1", "positive_passages")
# Labels are found by name, whatever its case; those of the second kind only where they hold numbers or booleans.
LABELS = ("label", "labels", "score", "scores", "similarity_score", "relevance", "is_duplicate", "gold_label")
NUMBERS = (
    "similarity", "sim", "cosine", "cosine_similarity", "cos_sim", "sts", "sts_score", "relatedness",
    "relatedness_score", "relevance_score", "rel", "relevant", "is_relevant", "related", "is_related", "match",
    "is_match", "is_positive", "duplicate", "paraphrase", "is_paraphrase", "entailment", "is_entailment", "equivalent",
    "same", "is_same", "gold", "gold_score", "ground_truth", "correct", "is_correct", "rating", "grade", "target", "y",
)  # fmt: skip
# Numbers of other meanings, which nobody takes for labels.
_OTHER_NUMBERS = re.compile(
    r"(.*[_-])?(id|ids|idx|index|row|rank|position|time|timestamp|date|year|split|fold|len|length)"
)
_NEGATIVES = re.compile(r"(hard_)?neg(ative)?s?(_passages)?(_?\d+)?")

# The name of a class 0 that plainly means "no pair". Elsewhere 0 can be "entailment".
_NEGATED = re.compile(r"(?i)(not?|non|un|ir|dis|0|false|neg)")
# A number that is written as a text.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Values of a column of labels that an error lists.
_LISTED = 8


class _Source:
    """N rows of a table in files or in memory.

    Args:
        data: a path or pattern of table files; a table of pyarrow, pandas, polars or `datasets`; a dict of columns or
            a list of dicts; or a mapping of splits to tables.
        name: of a table in memory, for messages.
        split: to read; None takes `usual`, or the only one.
        what: to read, for messages.
        usual: name of a split.
        option: the setting that names a split.

    Attributes:
        name: of the data, for messages.
        schema, rows: of the table.
        path: where the data was opened; None for a table in memory.
        split: that was read; None where there are none.
        others: data of the splits that were not read, by name.
        beir: the folder of BEIR and the file of judgements that was read; None for anything else.

    Raises:
        TypeError: data of another type.
        DataError: not there, not readable, shards of different columns, or no such split.
    """

    def __init__(
        self, data: Any, name: str, split: str | None, what: str, usual: str = "train", option: str = "split"
    ) -> None:
        self._usual, self._option = usual, option
        self.split: str | None = None
        self.others: dict[str, Any] = {}
        self.beir: tuple[Beir, Path] | None = None
        self.path = Path(data) if isinstance(data, (str, Path)) else None
        self.name, self._what = name if self.path is None else str(data), what
        self._hold(TableRows(self._table(data, split), name) if self.path is None else self._open(self.path, split))

    def _hold(self, rows: TableRows) -> None:
        self._rows, self.schema, self.rows = rows, rows.schema, len(rows)

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
            return open_files(self._chosen(files_by_split(path, self._what), split), self.name)
        if split is not None:
            raise DataError(f"{path} has no splits: leave `{self._option}` out, got {split!r}")
        return open_table(path, self._what)

    def _table(self, data: Any, split: str | None) -> pa.Table:
        if isinstance(data, Mapping) and not _is_columns(data):
            data = self._chosen({str(name): table for name, table in data.items()}, split)
        elif split is not None:
            raise DataError(f"the table has no splits: leave `{self._option}` out, got {split!r}")
        table = texts_table(data)
        if table is None:
            raise TypeError(
                f"{self._what}: give a path, a table of pyarrow, pandas, polars or datasets, a dict of columns, or a "
                f"list of dicts, got {type(data).__name__}"
            )
        return table

    def _chosen(self, splits: Mapping[str, Any], wanted: str | None) -> Any:
        """The data of the wanted split; sets `split` and `others`."""
        if wanted is None:
            wanted = next(iter(splits)) if len(splits) == 1 else self._usual
            if wanted not in splits:
                raise DataError(f"{self.name} has the splits {', '.join(splits)}: name one with `{self._option}`")
        # dev is validation.
        wanted = wanted if wanted in splits else SPLIT_WORDS.get(wanted.lower(), wanted)
        if wanted not in splits:
            names = ", ".join(each for each in splits if each) or "none"
            raise DataError(f"{self.name} has no split {wanted!r}; its splits: {names}")
        self.split, self.others = wanted or None, {name: each for name, each in splits.items() if name != wanted}
        return splits[wanted]


class PairsSource(_Source):
    """N rows of pairs in files or in memory.

    Args:
        data: see `_Source`.
        config: names the split and the columns.

    Attributes:
        columns: of the pairs.
        unread: columns of numbers or booleans that may say which rows are pairs, and are not read.
        files, file_starts: the files that the rows were read from, and the first row (or record) of each.
        nested: the records, where one has several positives; None where a row is a pair.
        further: by role, texts that are no pairs and are compared with them.

    Raises:
        TypeError, DataError: see `_Source`; or no rows, or columns that are no pairs.
    """

    def __init__(self, data: Any, config: PairsConfig | None = None) -> None:
        config = PairsConfig() if config is None else config
        super().__init__(data, "the table", config.split, "pairs")
        for column in self.schema.names:
            arrow.only_field(self.name, self.schema, column)
        self.files, self.file_starts = self._rows.files, self._rows.file_starts
        self.nested = self._nested(config)
        if self.nested is not None:
            self._hold(TableRows(self.nested.pairs, self.name))
        if self.rows == 0:
            raise DataError(f"{self.name} holds no rows")
        self.columns = find_columns(self.name, self.schema, config)
        self._refuse_written_lists()
        self.unread = _unread(self.name, self.schema, self.columns) if config.label is None else []
        self.further: dict[str, TextsSource] = {}

    @property
    def kind(self) -> Kind:
        """Whether cells hold texts or embeddings."""
        return self.columns.kind

    def streams(self) -> list[tuple[PairsSource | TextsSource, Column]]:
        """Every column of cells with the source that holds it, in the order in which cells are counted."""
        more = [(each, each.column) for each in self.further.values()]
        return [*((self, column) for column in self.columns.all), *more]

    @property
    def scores(self) -> str | None:
        """A column with a score for each negative, which another text would not have; None where there is none."""
        if self.nested is not None or not self.columns.negatives:
            return None
        names = {*LABELS, *(f"{column.name}_scores" for column in self.columns.negatives), "neg_scores"}
        return next((each.name for each in self.schema if each.name in names and _is_number_list(each.type)), None)

    def _refuse_written_lists(self) -> None:
        """Raise DataError where the first text of a column is a list that was written to CSV."""
        for column in self.columns.all[1:] if self.kind == "texts" else ():
            values = next((values for _, values in self.cells(column.name)), None)
            first = None if column.listed or values is None else next(filter(None, values[:1000].to_pylist()), None)
            if first is not None and _is_written_list(first):
                raise DataError(
                    f"{self.name}: column {column.name!r} holds lists that are written as texts: give lists (jsonl, "
                    "parquet), or a column for each text"
                )

    def _nested(self, config: PairsConfig) -> Nested | None:
        """The records, where a cell of positives holds several."""
        schema = self.schema
        usual = (each for each in POSITIVES if each in schema.names)
        positive = config.positive if config.positive in schema.names else next(usual, None)
        if positive is None or not self.rows or not arrow.is_text_list(schema.field(positive).type):
            return None
        negatives = [each for each in _negative_columns(schema, config) if each in schema.names and each != positive]
        wanted = (*LABELS,) if config.label is None else (config.label.lower(),)
        listed = (each.name for each in schema if each.name.lower() in wanted and _is_number_list(each.type))
        return Nested(self.name, self._rows.read(schema.names), positive, negatives, next(listed, None))


class TextsSource(_Source):
    """N rows of texts, or embeddings, that are no pairs: an evaluation set, or a corpus.

    Args:
        data: see `_Source`; also a list of texts, or a folder of BEIR: the queries of a split, or the corpus.
        pairs: that they are compared with.
        role: the setting that names the data, "against" or "corpus".
        config: names the split and the column; None takes the split test of `against` and train of `corpus`, and the
            usual column of anchors, `text`, or the only one.

    Attributes:
        column: that is read.
        kind: texts or embeddings, as the pairs.

    Raises:
        TypeError, DataError: see `_Source`; or no rows, or no such column of the pairs' kind.
    """

    def __init__(self, data: Any, pairs: PairsSource, role: str, config: PairsConfig) -> None:
        opened, self._role, wanted = data, role, getattr(config, f"{role}_column")
        splits = {"against": ("test", config.against_split), "corpus": ("train", config.corpus_split)}
        usual, split = splits[role]
        if isinstance(data, (list, tuple)) and all(isinstance(each, (str, type(None))) for each in data):
            opened = {"text": list(data)}
        super().__init__(opened, f"`{role}`", split, f"`{role}`", usual, f"{role}_split")
        self.kind: Kind = pairs.kind
        if self.rows == 0:
            raise DataError(f"{self.name} holds no rows")
        fits = [each for each in self.schema.names if _kind_of(self.schema, each) == pairs.kind]
        known = next((each for each in (pairs.columns.anchor.name, *ANCHORS, "text") if each in fits), None)
        chosen = wanted or known or (fits[0] if len(fits) == 1 else None)
        if chosen not in fits:
            named = f"column {wanted!r} holds no {pairs.kind}" if wanted else f"which column of {pairs.kind} is meant?"
            names = ", ".join(self.schema.names)
            raise DataError(f"{self.name}: {named}; its columns: {names}: name one with `{role}_column`")
        self.column = Column(str(chosen))

    def _open(self, path: Path, split: str | None) -> TableRows:
        if path.is_dir() and self._role == "against" and Beir.holds(path):
            beir = Beir(path)
            return TableRows(beir.queries(self._chosen(beir.splits, split)), self.name)
        part = {"against": "queries", "corpus": "corpus"}[self._role]
        return super()._open(next(iter(sorted(path.glob(f"{part}.jsonl*"))), path), split)


def _is_written_list(text: str) -> bool:
    """Whether a text is a list of texts as Python or JSON writes it."""
    if text[:1] + text[-1:] != "[]":
        return False
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return False
    return len(found) > 0 and all(isinstance(each, str) for each in found)


def texts_table(data: Any) -> pa.Table | None:
    """The `pyarrow.Table` of a table, a list of dicts or a dict of columns; None for another object."""
    return pa.table(dict(data)) if _is_columns(data) else as_table(data)


def _is_columns(source: Any) -> bool:
    """Whether an object is a dict of columns in lists or arrays; a dict of tables, or of lists of dicts, is none."""
    return isinstance(source, dict) and bool(source) and all(
        isinstance(each, (list, tuple, np.ndarray)) and not any(isinstance(one, dict) for one in each[:1])
        for each in source.values()
    )  # fmt: skip


def _kind_of(schema: pa.Schema, column: str) -> Kind | None:
    """What a column holds, one text or embedding a row; None for anything else."""
    kind = arrow.only_field("the table", schema, column).type
    return "texts" if arrow.is_text(kind) else "embeddings" if arrow.is_vector(kind) else None


# Columns


class Column(NamedTuple):
    """A column; `listed` where a cell holds several texts."""

    name: str
    listed: bool = False


class Columns(NamedTuple):
    """The columns of pairs, the kind of their cells, and the column of labels."""

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
        DataError: a column is missing, or holds neither texts nor embeddings, or another kind than the others.
    """
    first = _one(name, schema, "anchor", config.anchor, ANCHORS)
    second = _one(name, schema, "positive", config.positive, POSITIVES)
    if first == second:
        raise DataError(f"{name}: anchors and positives are both column {first!r}: name two")
    third = [each for each in _negative_columns(schema, config) if config.negatives or each not in (first, second)]
    twice = next((each for at, each in enumerate(third) if each in (first, second, *third[:at])), None)
    if twice is not None:
        raise DataError(f"{name}: `negatives` names column {twice!r}, which has another use: name each column once")
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
    kind = arrow.only_field(name, schema, column).type
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
        names = {each.lower(): each for each in reversed(schema.names) if each not in taken}
        usual = [names[each] for each in (*LABELS, *NUMBERS) if each in names]
        kinds = {each: arrow.only_field(name, schema, each).type for each in usual}
        fits = (each for each in usual if _is_label(kinds[each], words=each.lower() in LABELS))
        return next(fits, None)
    if wanted not in schema.names:
        raise _missing(name, "label", wanted, schema)
    kind = arrow.only_field(name, schema, wanted).type
    if not _is_label(kind):
        raise DataError(f"{name}: column {wanted!r} is {kind}: labels of pairs are numbers, booleans or words")
    return wanted


def _is_number_list(kind: pa.DataType) -> bool:
    return arrow.is_list(kind) and (arrow.is_number(kind.value_type) or arrow.is_boolean(kind.value_type))


def _is_label(kind: pa.DataType, words: bool = True) -> bool:
    """Whether values are numbers, booleans or, with `words`, texts."""
    numbers = arrow.is_number(kind) or arrow.is_boolean(kind) or pa.types.is_decimal(arrow.plain_type(kind))
    return numbers or (words and arrow.is_text(kind))


def _unread(name: str, schema: pa.Schema, columns: Columns) -> list[str]:
    """Columns of numbers that may be labels and are not read."""
    taken = {columns.label, *(column.name for column in columns.all)}
    others = [field for field in schema if field.name not in taken]
    usual = (*LABELS, *NUMBERS)
    return [
        field.name for field in others
        if _is_label(field.type, words=field.name.lower() in LABELS)
        and (field.name.lower() in usual or not (columns.label or _OTHER_NUMBERS.fullmatch(field.name.lower())))
    ]  # fmt: skip


# Labels


@dataclass(frozen=True)
class PairLabels:
    """Which rows are labelled as positive pairs.

    Attributes:
        column: of the labels.
        positive: (N,) rows of positive pairs.
        missing: (N,) rows without a label.
        numbers: (N,) equal where the labels are.
        rule: by which a row is positive, in words.
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

    0 and 1, -1 and 1, and false and true are read as they are, as texts too; scores in [0, 1] are positive from 0.5 on.
    Anything else has no meaning that could be known, and the error asks for it.

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
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
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
    texts = np.array([_word(each) for each in values.to_pylist()], dtype=object)
    missing = texts == ""
    distinct, numbers = np.unique(texts.astype(str), return_inverse=True)
    there = [each for each in distinct.tolist() if each]
    if wanted is None:
        if all(_NUMBER.fullmatch(each) for each in there):  # as a CSV of texts holds them
            scores = np.array([float(each or "nan") for each in texts], np.float64)
            return _by_number(name, column, scores, min_score)
        if min_score is not None or not {each.lower() for each in there} <= {"0", "1", "true", "false"}:
            raise _unclear(name, column, there)
        positive = np.isin(np.char.lower(texts.astype(str)), ("1", "true"))
        return PairLabels(column, positive, missing, numbers.astype(np.int64), "labels 1 and true are positive")
    chosen = [each.strip() for each in wanted.split(",")]
    if arrow.is_number(values.type):
        chosen = [_word(float(each)) if _NUMBER.fullmatch(each) else each for each in chosen]
    elif arrow.is_boolean(values.type):
        chosen = [each.capitalize() for each in chosen]
    absent = [each for each in chosen if each not in there]
    if absent:
        raise PairsError(f"{name}: column {column!r} holds no label {absent[0]!r}; its labels: {_some(there)}")
    rule = f"labels {', '.join(chosen)} are positive"
    return PairLabels(column, np.isin(texts.astype(str), chosen), missing, numbers.astype(np.int64), rule)


def _word(value: Any) -> str:
    """A label as a text; whole numbers have no fraction, and a missing one is empty."""
    if isinstance(value, float):
        return "" if np.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
    return "" if value is None else str(value).strip()


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
    if held <= {-1.0, 0.0, 1.0}:  # -1 is the usual label of unlabelled rows
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
