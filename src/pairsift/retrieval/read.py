"""Tables of pairs and of other texts as they lie in files: their splits, read batch by batch."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pairsift.data import DataError, arrow
from pairsift.data.features import as_table
from pairsift.data.tables import SPLIT_WORDS, TableRows, files_by_split, open_files, open_table
from pairsift.retrieval.columns import (
    ANCHORS,
    Column,
    IntArray,
    Kind,
    PairLabels,
    find_columns,
    find_lists,
    kind_of,
    labels_of,
    scores_of,
    unread_of,
)  # fmt: skip
from pairsift.retrieval.config import PairsConfig, PairsError
from pairsift.retrieval.layouts import Beir, Nested

# Rows decoded at once: 50 MB of two columns of 384 dimensions.
BATCH_ROWS = 16_384


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
        self.unread = unread_of(self.schema, self.columns) if config.label is None else []
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
        return None if self.nested is not None else scores_of(self.schema, self.columns)

    def _refuse_written_lists(self) -> None:
        """Raise DataError where the first text of a column is a list that was written to CSV."""
        for column in self.columns.all[1:] if self.kind == "texts" else ():
            values = next((values for _, values in self.cells(column.name)), None)
            if column.listed or values is None:
                continue
            texts = arrow.texts(values[:1000], f"{self.name}, column {column.name!r}")
            first = next(filter(None, texts), None)
            if first is not None and _is_written_list(first):
                raise DataError(
                    f"{self.name}: column {column.name!r} holds lists that are written as texts: give lists (jsonl, "
                    "parquet), or a column for each text"
                )

    def _nested(self, config: PairsConfig) -> Nested | None:
        """The records, where a cell of positives holds several."""
        found = find_lists(self.schema, config) if self.rows else None
        return None if found is None else Nested(self.name, self._rows.read(self.schema.names), *found)


def read_labels(source: PairsSource, config: PairsConfig) -> PairLabels | None:
    """The labels of the rows; None where there is no column of labels.

    Raises:
        PairsError: labels whose meaning is not known, or settings that do not fit them.
    """
    column = source.columns.label
    if column is None:
        if config.positive_label is not None or config.min_score is not None:
            raise PairsError(f"{source.name} has no column of labels or scores: name one with `label`")
        return None
    parts = [values for _, values in source.cells(column)]
    return labels_of(source.name, source.schema, column, pa.chunked_array(parts).combine_chunks(), config)


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
        fits = [each for each in self.schema.names if kind_of(self.schema, each) == pairs.kind]
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
