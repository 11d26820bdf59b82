"""Layouts of training data (several positives a row, tevatron, BEIR), read as pairs and written back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairsift._base.files import replacing
from pairsift.data import DataError, arrow
from pairsift.data.tables import format_of, open_table

IntArray = NDArray[np.int64]
_COMPRESSION = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


@dataclass
class Edits:
    """What an inspection changes in N pairs.

    Attributes:
        kept: (N,) rows that stay.
        gone: by row and name of a column of negatives, the places in its list that leave.
        new: by row and name of a column of negatives, the texts that take their place.
        added: by row, negatives that become positives.
    """

    kept: NDArray[np.bool_]
    gone: dict[tuple[int, str], set[int]] = field(default_factory=dict)
    new: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    added: dict[int, list[str]] = field(default_factory=dict)


# Several positives a row


class Nested:
    """Records with several positives each, as FlagEmbedding and tevatron write them.

    Args:
        name: of the data, for errors.
        table: the records.
        positive: the column of positives, a list of texts or of passages ({docid, title, text}).
        negatives: columns of negatives.

    Attributes:
        pairs: the flat table: a row for each positive; one with an empty positive for a record that has none.
    """

    def __init__(self, name: str, table: pa.Table, positive: str, negatives: Sequence[str]) -> None:
        self.table, self._positive = table, positive
        single = [each for each in negatives if not arrow.is_text_list(table.schema.field(each).type)]
        if single:
            raise DataError(
                f"{name}: column {positive!r} holds lists and column {single[0]!r} none: give lists of positives and "
                "of negatives, or a row for each pair"
            )
        self._negatives = list(negatives)
        counts = np.asarray(arrow.plain_values(table[positive]).combine_chunks().value_lengths().fill_null(0))
        rows = np.maximum(counts, 1)
        self._records = np.repeat(np.arange(len(table)), rows)
        self._places = np.arange(len(self._records)) - np.repeat(np.cumsum(rows) - rows, rows)
        self._along = {
            column: [
                each for each in table.column_names
                if each.startswith(f"{column}_") and each not in (positive, *negatives)
                and arrow.is_list(table.schema.field(each).type)
            ] for column in (positive, *self._negatives)
        }  # fmt: skip
        self._check_lengths(name)
        self.pairs = self._flat()

    def restored(self, edits: Edits) -> pa.Table:
        """The records that keep a positive, with the lists that are left of each."""
        held = {name: self.table[name].to_pylist() for name in self._along}
        along = {name: self.table[name].to_pylist() for names in self._along.values() for name in names}
        passages = self._passages(held)
        chosen: list[int] = []
        lists: dict[str, list[Any]] = {name: [] for name in (*held, *along)}
        bounds = np.searchsorted(self._records, np.arange(len(self.table) + 1))
        for record in range(len(self.table)):
            rows = [row for row in range(bounds[record], bounds[record + 1]) if edits.kept[row]]
            if not rows:
                continue
            chosen.append(record)
            places = [int(self._places[row]) for row in rows]
            more = [text for row in rows for text in edits.added.get(row, ())]
            self._put(lists, held, along, record, self._positive, places, [passages[text] for text in more])
            for name in self._negatives:
                gone = set[int]().union(*(edits.gone.get((row, name), ()) for row in rows))
                places = [place for place in range(len(held[name][record] or ())) if place not in gone]
                new = next((edits.new[row, name] for row in rows if (row, name) in edits.new), [])
                # A text without a score among scores would be read as if it had one.
                new = [] if self._along[name] else new
                self._put(lists, held, along, record, name, places, [passages[text] for text in new])
        table = self.table.take(pa.array(chosen, pa.int64()))
        for name, values in lists.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
        return table

    def starts(self, kept: NDArray[np.bool_], records: IntArray) -> IntArray:
        """How many restored records come before each of some records."""
        stays = np.bincount(self._records[kept], minlength=len(self.table)) > 0
        return np.concatenate([[0], np.cumsum(stays)])[records]

    def _put(
        self, lists: dict[str, list[Any]], held: dict[str, Any], along: dict[str, Any], record: int, name: str,
        places: list[int], more: list[Any],
    ) -> None:  # fmt: skip
        """Append the rest of one list, and of the lists along it."""
        values = held[name][record]
        lists[name].append(
            None if values is None else [values[place] for place in places if place < len(values)] + more
        )
        for each in self._along[name]:
            scores = along[each][record]
            kept = None if scores is None else [scores[place] for place in places if place < len(scores)]
            lists[each].append(kept if kept is None else kept + [None] * len(more))

    def _flat(self) -> pa.Table:
        """The table of pairs."""
        drop = [name for names in self._along.values() for name in names]
        table = self.table.drop_columns(drop)
        positives = [
            _text(values[place]) if values else None
            for values, place in zip(_spread(table[self._positive], self._records), self._places.tolist(), strict=True)
        ]
        flat = table.drop_columns([self._positive, *self._negatives]).take(pa.array(self._records))
        columns = {self._positive: pa.array(positives, pa.large_string())}
        for name in self._negatives:
            texts = [None if each is None else [_text(one) for one in each] for each in table[name].to_pylist()]
            columns[name] = pa.array(texts, pa.large_list(pa.large_string())).take(pa.array(self._records))
        for name in table.column_names:
            columns.setdefault(name, None if name in columns else flat[name])
        return pa.table({name: columns[name] for name in table.column_names})

    def _passages(self, held: dict[str, Any]) -> dict[str, Any]:
        """The first element, a text or a passage, of each text."""
        out: dict[str, Any] = {}
        for lists in held.values():
            for values in lists:
                for value in values or ():
                    out.setdefault(_text(value) or "", value)
        return out

    def _check_lengths(self, name: str) -> None:
        for column, others in self._along.items():
            lengths = self.table[column].combine_chunks().value_lengths().fill_null(0)
            for each in others:
                theirs = self.table[each].combine_chunks().value_lengths()
                wrong = np.flatnonzero(np.asarray(theirs.fill_null(lengths)) != np.asarray(lengths))
                if len(wrong):
                    raise DataError(
                        f"{name} row {wrong[0]:,}: {each!r} has other numbers than {column!r} has texts: mend the row, "
                        "or leave the column out"
                    )


def _spread(column: Any, records: IntArray) -> Iterable[Any]:
    values = column.to_pylist()
    return (values[record] for record in records.tolist())


def _text(value: Any) -> str | None:
    """The text of an element: of a passage, its title and its text."""
    if not isinstance(value, dict):
        return None if value is None else str(value)
    return " ".join(part for part in (value.get("title"), value.get("text")) if part)


# BEIR


class Beir:
    """A folder of BEIR: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv (arXiv 2104.08663).

    Args:
        folder: to read.

    Attributes:
        splits: the file of each split.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.splits = {file.name.split(".")[0]: file for file in sorted((folder / "qrels").glob("*.tsv*"))}

    @staticmethod
    def holds(folder: Path) -> bool:
        """Whether a folder is one of BEIR."""
        parts = all(any(folder.glob(f"{name}.jsonl*")) for name in ("corpus", "queries"))
        return parts and (folder / "qrels").is_dir()

    def pairs(self, qrels: Path) -> pa.Table:
        """A row for each judged pair: query-id, corpus-id, query, positive, and score where some are not above 0.

        Raises:
            DataError: files without the columns of BEIR, or ids that no text has.
        """
        judged = self._columns(qrels, 3)
        queries, corpus = (self._texts(name) for name in ("queries", "corpus"))
        ids = [[str(each) for each in column.to_pylist()] for column in judged.columns[:2]]
        for known, column, file in ((queries, ids[0], "queries"), (corpus, ids[1], "corpus")):
            missing = [each for each in column if each not in known]
            if missing:
                raise DataError(
                    f"{qrels}: {len(missing):,} ids are not in {file}.jsonl, the first {missing[0]!r}: the files "
                    "belong to different sets"
                )
        scores = judged.column(2).cast(pa.float64())
        table = pa.table({
            "query-id": ids[0], "corpus-id": ids[1], "query": [queries[each] for each in ids[0]],
            "positive": [corpus[each] for each in ids[1]],
        })  # fmt: skip
        relevant = np.asarray(scores) > 0
        return table if relevant.all() else table.append_column("label", pa.array(relevant))

    def write(self, folder: Path, qrels: Path, kept: NDArray[np.bool_]) -> None:
        """Copy the set with the judged pairs that stay.

        Raises:
            OSError: not writable.
        """
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        for name in ("corpus", "queries"):
            file = next(iter(self.folder.glob(f"{name}.jsonl*")))
            shutil.copyfile(file, folder / file.name)
        for file in self.splits.values():
            if file != qrels:
                shutil.copyfile(file, folder / "qrels" / file.name)
        write_as(
            folder / "qrels" / qrels.name, open_table(qrels).read(self._columns(qrels, 3).column_names).filter(kept)
        )

    def _texts(self, name: str) -> dict[str, str]:
        file = next(iter(self.folder.glob(f"{name}.jsonl*")))
        table = open_table(file)
        missing = {"_id", "text"} - set(table.schema.names)
        if missing:
            raise DataError(f"{file} has no column {sorted(missing)[0]!r}: a file of BEIR has _id and text")
        rows = table.read([each for each in ("_id", "title", "text") if each in table.schema.names]).to_pylist()
        return {str(row["_id"]): _text(row) or "" for row in rows}

    @staticmethod
    def _columns(qrels: Path, count: int) -> pa.Table:
        table = open_table(qrels)
        if len(table.schema.names) < count:
            raise DataError(
                f"{qrels} has the columns {', '.join(table.schema.names)}: BEIR has query-id, corpus-id, score"
            )
        return table.read(table.schema.names[:count])


# Writing


def write_as(path: Path, table: pa.Table) -> None:
    """Write a table, completely or not at all, in the format and compression of a file's name.

    Raises:
        OSError: not writable.
    """
    kind, packed = format_of(path), _COMPRESSION.get(path.suffix.lower())
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        if kind == "parquet":
            pq.write_table(table, temporary)
        elif kind == "arrow":
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        else:
            with pa.output_stream(str(temporary), compression=packed) as sink:
                if kind == "json":
                    _write_json(sink, table, path.suffixes[0].lower() == ".json")
                else:
                    options = pa_csv.WriteOptions(delimiter="\t" if kind == "tsv" else ",")
                    pa_csv.write_csv(_plain_columns(table), sink, options)


def _write_json(sink: Any, table: pa.Table, listed: bool) -> None:
    """JSON lines, or one list of all rows."""
    for number, row in enumerate(row for batch in table.to_batches() for row in batch.to_pylist()):
        before = "" if not listed else "[" if number == 0 else ","
        sink.write((before + json.dumps(row, ensure_ascii=False, default=str) + "\n").encode())
    if listed:
        sink.write(b"]\n" if len(table) else b"[]\n")


def _plain_columns(table: pa.Table) -> pa.Table:
    """Lists as JSON, which CSV can hold; dictionaries as their values."""
    for at, column in enumerate(table.schema):
        values = arrow.plain_values(table.column(at))
        if arrow.is_list(values.type) or pa.types.is_struct(values.type):
            values = pa.array([None if each is None else json.dumps(each) for each in values.to_pylist()], pa.string())
        table = table.set_column(at, column.name, values)
    return table
