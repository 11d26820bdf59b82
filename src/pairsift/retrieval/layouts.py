"""Layouts of training data (several positives a row, tevatron, BEIR), read as pairs and written back."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairsift._base.files import replacing
from pairsift.data import DataError, arrow
from pairsift.data.tables import format_of, open_table

IntArray = NDArray[np.int64]
_COMPRESSION = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_DELIMITERS = {"csv": ",", "tsv": "\t"}
# The first bytes of an Arrow file; a stream has none.
_ARROW_FILE = b"ARROW1"


@dataclass
class Edits:
    """What an inspection changes in N pairs.

    Attributes:
        kept: (N,) rows that stay.
        stays: (N,) rows labelled as no pair, which stay in a record that keeps a positive.
        gone: by row and name of a column of negatives, the places in its list that leave.
        new: by row and name of a column of negatives, the texts that take their place.
        added: by row, negatives that become positives.
    """

    kept: NDArray[np.bool_]
    stays: NDArray[np.bool_]
    gone: dict[tuple[int, str], set[int]] = field(default_factory=dict)
    new: dict[tuple[int, str], list[str]] = field(default_factory=dict)
    added: dict[int, list[str]] = field(default_factory=dict)


# Several positives a row


class Nested:
    """Records with several positives each, or with labelled texts, as FlagEmbedding and tevatron write them.

    Args:
        name: of the data, for errors.
        table: the records.
        positive: the column of positives, a list of texts or of passages ({docid, title, text}).
        negatives: columns of negatives.
        labels: column that holds a label or score for each element of `positive`; None where all are positives.

    Attributes:
        records, places: (N,) record of each pair, and the place of its positive in the record's list.
        pairs: the flat table: a row for each positive; one with an empty positive for a record that has none.
    """

    def __init__(
        self, name: str, table: pa.Table, positive: str, negatives: Sequence[str], labels: str | None = None
    ) -> None:
        self.table, self._positive, self._labels = table, positive, labels
        single = [each for each in negatives if not arrow.is_text_list(table.schema.field(each).type)]
        if single:
            raise DataError(
                f"{name}: column {positive!r} holds lists and column {single[0]!r} none: give lists of positives and "
                "of negatives, or a row for each pair"
            )
        self._negatives = list(negatives)
        counts = np.asarray(arrow.plain_values(table[positive]).combine_chunks().value_lengths().fill_null(0))
        rows = np.maximum(counts, 1)
        self.records = np.repeat(np.arange(len(table)), rows)
        self.places = np.arange(len(self.records)) - np.repeat(np.cumsum(rows) - rows, rows)
        self._along = {
            column: [
                each for each in table.column_names
                if (each.startswith(f"{column}_") or (each == labels and column == positive))
                and each not in (positive, *negatives)
                and arrow.is_list(table.schema.field(each).type)
            ] for column in (positive, *self._negatives)
        }  # fmt: skip
        self._check_lengths(name)
        self.pairs = self._flat()

    def restored(self, edits: Edits) -> tuple[IntArray, pa.Table]:
        """The numbers of the records that keep a positive, and these with the lists that are left of each."""
        held = {name: self.table[name].to_pylist() for name in self._along}
        along = {name: self.table[name].to_pylist() for names in self._along.values() for name in names}
        passage = self._passages(held)
        chosen: list[int] = []
        lists: dict[str, list[Any]] = {name: [] for name in (*held, *along)}
        bounds = np.searchsorted(self.records, np.arange(len(self.table) + 1))
        for record in range(len(self.table)):
            all_rows = range(bounds[record], bounds[record + 1])
            rows = [row for row in all_rows if edits.kept[row]]
            if not rows:
                continue
            chosen.append(record)
            places = [int(self.places[row]) for row in all_rows if edits.kept[row] or edits.stays[row]]
            more = [text for row in rows for text in edits.added.get(row, ())]
            self._put(lists, held, along, record, self._positive, places, [passage(text) for text in more])
            for name in self._negatives:
                gone = set[int]().union(*(edits.gone.get((row, name), ()) for row in rows))
                places = [place for place in range(len(held[name][record] or ())) if place not in gone]
                new = next((edits.new[row, name] for row in rows if (row, name) in edits.new), [])
                # A text without a score among scores would be read as if it had one.
                new = [] if self._along[name] else new
                self._put(lists, held, along, record, name, places, [passage(text) for text in new])
        table = self.table.take(pa.array(chosen, pa.int64()))
        for name, values in lists.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
        return np.array(chosen, np.int64), table

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
        drop = [name for names in self._along.values() for name in names if name != self._labels]
        table = self.table.drop_columns(drop)
        flat = table.drop_columns([self._positive, *self._negatives]).take(pa.array(self.records))
        columns = {self._positive: pa.array(map(text_of, self._elements(self._positive)), pa.large_string())}
        if self._labels is not None:
            columns[self._labels] = pa.array(
                self._elements(self._labels), table.schema.field(self._labels).type.value_type
            )
        for name in self._negatives:
            texts = [None if each is None else [text_of(one) for one in each] for each in table[name].to_pylist()]
            columns[name] = pa.array(texts, pa.large_list(pa.large_string())).take(pa.array(self.records))
        for name in table.column_names:
            columns.setdefault(name, None if name in columns else flat[name])
        return pa.table({name: columns[name] for name in table.column_names})

    def _elements(self, column: str) -> list[Any]:
        """The element of a list that each pair stands for."""
        lists = self.table[column].to_pylist()
        pairs = zip(self.records.tolist(), self.places.tolist(), strict=True)
        return [lists[record][place] if lists[record] else None for record, place in pairs]

    def _passages(self, held: dict[str, Any]) -> Callable[[str], Any]:
        """A function that gives the first element, a text or a passage, of a text; a new one for a text of a corpus."""
        known: dict[str, Any] = {}
        for lists in held.values():
            for values in lists:
                for value in values or ():
                    known.setdefault(text_of(value) or "", value)
        some = next(iter(known.values()), "")
        fields = {name: "" if isinstance(value, str) else None for name, value in some.items()} if isinstance(
            some, dict
        ) else None  # fmt: skip

        def passage(text: str) -> Any:
            return known.get(text, text if fields is None else fields | {"text": text})

        return passage

    def _check_lengths(self, name: str) -> None:
        for column, others in self._along.items():
            lengths = self.table[column].combine_chunks().value_lengths().fill_null(0)
            for each in others:
                theirs = self.table[each].combine_chunks().value_lengths()
                wrong = np.flatnonzero(np.asarray(theirs.fill_null(lengths)) != np.asarray(lengths))
                if len(wrong):
                    raise DataError(
                        f"{name} row {wrong[0]:,}: {each!r} has other numbers than {column!r} has texts: mend the row, "
                        + ("or ignore the column with `label='none'`" if each == self._labels else "or leave it out")
                    )


def text_of(value: Any) -> str | None:
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
        judged = self._judged(qrels)
        queries, corpus = (self._texts(name) for name in ("queries", "corpus"))
        ids = [query for query, *_ in judged], [text for _, text, _ in judged]
        for known, column, file in ((queries, ids[0], "queries"), (corpus, ids[1], "corpus")):
            missing = [each for each in column if each not in known]
            if missing:
                raise DataError(
                    f"{qrels}: {len(missing):,} ids are not in {file}.jsonl, the first {missing[0]!r}: the files "
                    "belong to different sets"
                )
        table = pa.table({
            "query-id": pa.array(ids[0], pa.string()), "corpus-id": pa.array(ids[1], pa.string()),
            "query": pa.array([queries[each] for each in ids[0]], pa.string()),
            "positive": pa.array([corpus[each] for each in ids[1]], pa.string()),
        })  # fmt: skip
        relevant = [row[2] > 0 for row in judged]
        return table if all(relevant) else table.append_column("label", pa.array(relevant))

    def queries(self, qrels: Path) -> pa.Table:
        """The texts of the queries that a file of judgements names."""
        texts = self._texts("queries")
        ids = dict.fromkeys(row[0] for row in self._judged(qrels))
        return pa.table({"text": pa.array([texts[each] for each in ids if each in texts], pa.string())})

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
        write_rows(folder / "qrels" / qrels.name, qrels, np.flatnonzero(kept), pa.table({}))

    def _texts(self, name: str) -> dict[str, str]:
        file = next(iter(self.folder.glob(f"{name}.jsonl*")))
        table = open_table(file)
        missing = {"_id", "text"} - set(table.schema.names)
        if missing:
            raise DataError(f"{file} has no column {sorted(missing)[0]!r}: a file of BEIR has _id and text")
        rows = table.read([each for each in ("_id", "title", "text") if each in table.schema.names]).to_pylist()
        return {str(row["_id"]): text_of(row) or "" for row in rows}

    @staticmethod
    def _judged(qrels: Path) -> list[tuple[str, str, float]]:
        """Id of a query, id of a text, and score of each judged pair."""
        (_, names), *rows = csv_rows(qrels)
        try:
            return [(cells[0], cells[1], float(cells[2])) for _, cells in rows]
        except (IndexError, ValueError) as error:
            raise DataError(
                f"{qrels} has the columns {', '.join(names)}: BEIR has query-id, corpus-id, score, the last a number"
            ) from error


# Writing


def write_rows(path: Path, original: Path, rows: IntArray, table: pa.Table, changed: Sequence[str] = ()) -> None:
    """Write some rows of a file in its format, with other values in some columns, completely or not at all.

    What did not change in a file of text stays letter by letter. So numbers, dates and absent fields, which Arrow
    writes in its own way, come back as they came.

    Args:
        path: to write; its name ends as the original's.
        original: file.
        rows: (R,) row of the original that each row comes from.
        table: the R rows.
        changed: columns whose values may differ from the original's.

    Raises:
        DataError: the quotes of a CSV do not match.
        OSError: not writable.
    """
    kind = format_of(original)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        if kind == "parquet":
            metadata = pq.read_metadata(original)
            names = [each for each in table.column_names if each in metadata.schema.to_arrow_schema().names]
            groups = metadata.num_row_groups
            packed = metadata.row_group(0).column(0).compression.lower() if groups else "snappy"
            pq.write_table(table.select(names), temporary, compression="none" if packed == "uncompressed" else packed)
        elif kind == "arrow":
            with original.open("rb") as file:
                new = pa.ipc.new_file if file.read(len(_ARROW_FILE)) == _ARROW_FILE else pa.ipc.new_stream
            with pa.OSFile(str(temporary), "wb") as sink, new(sink, table.schema) as writer:
                writer.write_table(table)
        else:
            values = table.select(changed).to_pylist() if changed else [{}] * len(rows)
            edit = _json_again if kind == "json" else _csv_again
            text = edit(original, list(zip(rows.tolist(), values, strict=True)))
            with pa.output_stream(str(temporary), compression=_COMPRESSION.get(path.suffix.lower())) as sink:
                sink.write(text.encode())


def _content(path: Path) -> str:
    """The text of a file, compressed or not."""
    with pa.input_stream(str(path)) as stream:
        content: str = stream.read().decode("utf-8")
    return content


def _json_again(original: Path, rows: list[tuple[int, dict[str, Any]]]) -> str:
    """Some objects of a file of JSON, one a line or in a list, with other values."""
    content = _content(original)
    mark = "\ufeff" if content.startswith("\ufeff") else ""
    content = content.removeprefix(mark)
    if content.lstrip()[:1] == "[":
        records = json.loads(content)
        indent = re.match(r"\s*\[\s*?\n( +)", content)
        return mark + json.dumps(
            [_merged(records[row], values) or records[row] for row, values in rows],
            ensure_ascii=content.isascii(), indent=len(indent[1]) if indent else None,
        ) + "\n"  # fmt: skip
    lines = [line for line in content.split("\n") if line.strip()]
    out = []
    for row, values in rows:
        record = _merged(json.loads(lines[row]), values) if values else None
        end = "\r" if lines[row].endswith("\r") else ""
        out.append(lines[row] if record is None else json.dumps(record, ensure_ascii=lines[row].isascii()) + end)
    return mark + "".join(f"{line}\n" for line in out)


def _merged(record: dict[str, Any], values: dict[str, Any]) -> dict[str, Any] | None:
    """The record with the values that differ from its own; None where none does."""
    new = {name: value for name, value in values.items() if _filled(record.get(name)) != _filled(value)}
    for name, value in new.items():
        if isinstance(value, list):  # a passage keeps the fields that it had
            own = [(_filled(each), each) for each in record.get(name) or ()]
            filled = [_filled(each) for each in value]
            new[name] = [next((old for plain, old in own if plain == each), each) for each in filled]
    return record | new if new else None


def _filled(value: Any) -> Any:
    """A value without the empty fields that Arrow gives to structs."""
    if isinstance(value, dict):
        return {name: _filled(each) for name, each in value.items() if each is not None}
    return [_filled(each) for each in value] if isinstance(value, list) else value


def _csv_again(original: Path, rows: list[tuple[int, dict[str, Any]]]) -> str:
    """The head and some rows of a CSV, with other values."""
    delimiter = _DELIMITERS[str(format_of(original))]
    (head, names), *lines = csv_rows(original)
    out = [head]
    for row, values in rows:
        line, cells = lines[row]
        new = [values.get(name, cell) or "" for name, cell in zip(names, cells, strict=True)]
        if new != cells:
            text = io.StringIO()
            end = line[len(line.rstrip("\r\n")) :] or "\n"
            csv.writer(text, delimiter=delimiter, lineterminator=end).writerow(new)
            line = text.getvalue()
        out.append(line)
    return "".join(line if line.endswith(("\n", "\r")) else line + "\n" for line in out)


def csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The lines and the cells of each row of a CSV or TSV, its head first, blank lines left out.

    Raises:
        DataError: a row has more or fewer cells than the head.
    """
    lines = list(io.StringIO(_content(path), newline=""))
    limit, start, width = csv.field_size_limit(sys.maxsize), 0, 0
    try:
        reader = csv.reader(lines, delimiter=_DELIMITERS[str(format_of(path))])
        for cells in reader:
            line, start = "".join(lines[start : reader.line_num]), reader.line_num
            if not line.strip("\r\n"):
                continue
            width = width or len(cells)
            if len(cells) != width:
                raise DataError(f"{path} line {start:,} has {len(cells)} cells and the head {width}: mend its quotes")
            cells[0] = cells[0].removeprefix("\ufeff")
            yield line, cells
    finally:
        csv.field_size_limit(limit)
