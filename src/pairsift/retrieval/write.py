"""The files of an inspection: tables of rows and conflicts, the clean pairs, and these in the layout of the input."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairsift._base.extras import needs
from pairsift._base.files import replacing
from pairsift.data import arrow
from pairsift.data.tables import format_of
from pairsift.retrieval.columns import IntArray
from pairsift.retrieval.config import PairsError
from pairsift.retrieval.findings import Findings
from pairsift.retrieval.index import NO_KEY, texts_of
from pairsift.retrieval.layouts import Edits, Nested, write_rows
from pairsift.retrieval.near import TextPairs
from pairsift.retrieval.read import PairsSource

# Bytes of a row group before they are packed.
_GROUP_BYTES = 2**26
_LIKELY, _NEAR_ANCHORS, _NEAR_POSITIVES = "likely false negative", "near-duplicate anchors", "near-duplicate positives"


# Tables


def rows_table(found: Findings, nested: Nested | None = None) -> pa.Table:
    """Every row of the input; see `InspectedPairs.rows`."""
    pairing, n, guided = found.pairing, len(found), found.guided
    rows: dict[str, Any] = {
        "row": np.arange(n), "kept": found.kept,
        "clean_row": _or_null(np.where(found.kept, np.cumsum(found.kept) - 1, -1)), "reasons": _reasons(found),
        "anchor_key": _or_null(found.anchors.keys, NO_KEY), "positive_key": _or_null(found.positives.keys, NO_KEY),
        "duplicate_of": _row_of(found, found.duplicate_of, found.duplicates),
        "near_duplicate_of": _row_of(found, found.near_of, found.near),
    }  # fmt: skip
    if nested is not None:
        rows |= {"record": nested.records, "place": nested.places}
    if len(pairing.mined.pairs) or len(found.negatives.refills):
        rows["bad_negatives"] = found.spread(found.bad, 0)
        rows["negative_keys"] = _negative_keys(found, n)
        rows["negatives"] = _negatives(found, n)
    scored = found.negatives.scored
    if scored is not None:
        rows["positive_judged"] = _or_null(found.spread(scored.positives, np.nan))
        rows["relabelled_keys"] = _lists_of(
            pairing.rows[pairing.mined.pairs[found.relabelled]],
            pa.array(pairing.keys[pairing.mined.texts[found.relabelled]]), n,
        )  # fmt: skip
    if guided is not None:
        worst = guided.false_negatives.worst
        holder = np.full(pairing.n_texts, -1)
        holder[pairing.positives[::-1]] = pairing.rows[::-1]
        rows["similarity"] = _or_null(found.spread(guided.scores.own, np.nan))
        rows["rank"] = _or_null(found.spread(guided.scores.ranks.astype(np.float32), np.nan))
        rows["reliable"] = found.spread(guided.scores.reliable, False)
        rows["false_negatives"] = found.spread(guided.false_negatives.counts, 0)
        rows["worst_row"] = _or_null(found.spread(np.where(worst < 0, -1, holder[worst]), -1))
        rows["worst_similarity"] = _or_null(found.spread(guided.false_negatives.similarity, np.nan))
    return pa.table(rows)


def conflicts_table(found: Findings) -> pa.Table:
    """Pairs of kept rows that must not share a batch; see `InspectedPairs.conflicts`."""
    pairing, kept = found.pairing, found.kept[found.pairing.rows]
    first_rows = [_first_rows(texts, kept, pairing.n_texts) for texts in (pairing.anchors, pairing.positives)]
    sides = {_LIKELY: (0, 1), _NEAR_ANCHORS: (0, 0), _NEAR_POSITIVES: (1, 1)}
    clean = (np.cumsum(found.kept) - 1)[pairing.rows]
    parts = []
    for number, (reason, conflicts) in enumerate(_all_conflicts(found).items()):
        first, second = (first_rows[side][texts] for side, texts in zip(
            sides[reason], (conflicts.first, conflicts.second), strict=True
        ))  # fmt: skip
        both = (first >= 0) & (second >= 0) & (first != second)
        first, second = first[both], second[both]
        parts.append({
            "row": pairing.rows[first], "other": pairing.rows[second],
            "similarity": conflicts.similarity[both], "reason": np.full(len(first), number, np.int8),
            "clean_row": clean[first], "clean_other": clean[second],
            "key": pairing.keys[conflicts.first[both]], "other_key": pairing.keys[conflicts.second[both]],
        })  # fmt: skip
    empty = {name: np.zeros(0, np.int64) for name in ("row", "other", "clean_row", "clean_other", "key", "other_key")}
    columns = {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    } if parts else empty | {"similarity": np.zeros(0, np.float32), "reason": np.zeros(0, np.int8)}  # fmt: skip
    names = [*_all_conflicts(found)] or [_LIKELY]
    reason = pa.DictionaryArray.from_arrays(pa.array(columns.pop("reason")), pa.array(names))
    return pa.table(columns | {"reason": reason})


def _all_conflicts(found: Findings) -> dict[str, TextPairs]:
    likely = {} if found.guided is None else {_LIKELY: found.guided.false_negatives.conflicts}
    return likely | {_NEAR_ANCHORS: found.close.anchors.pairs, _NEAR_POSITIVES: found.close.positives.pairs}


def _first_rows(texts: IntArray, kept: NDArray[np.bool_], n_texts: int) -> IntArray:
    """(T,) position of the first kept row that holds a text, -1 where none does."""
    out = np.full(n_texts, -1)
    places = np.flatnonzero(kept)[::-1]
    out[texts[places]] = places
    return out


def _reasons(found: Findings) -> pa.Array:
    matrix = np.stack(list(found.reasons.values()), axis=1)
    offsets = np.concatenate([[0], np.cumsum(matrix.sum(axis=1))]).astype(np.int32)
    words = pa.DictionaryArray.from_arrays(
        pa.array(np.nonzero(matrix)[1].astype(np.int8)), pa.array(list(found.reasons))
    )
    return pa.ListArray.from_arrays(pa.array(offsets), words)


def _negative_keys(found: Findings, n: int) -> pa.Array:
    """Keys of the negatives of every row in clean.parquet: those that are not bad, and those put in their place."""
    pairing, checks = found.pairing, found.negatives
    good, filled = ~checks.bad, checks.refills >= 0
    pairs, texts = pairing.mined.pairs[good], pairing.mined.texts[good]
    if len(checks.refills):
        pairs = np.concatenate([pairs, checks.open_pairs[filled]])
        texts = np.concatenate([texts, checks.refills[filled]])
    order = np.argsort(pairs, kind="stable")
    return _lists_of(pairing.rows[pairs[order]], pa.array(pairing.keys[texts[order]]), n)


def _lists_of(rows: IntArray, values: Any, n: int) -> pa.Array:
    """(n,) lists of values by their rows, ascending."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


_DECISIONS = (
    "kept", "the text of a positive", "the guide takes it for a positive", "the judge takes it for a positive",
    "becomes the positive of a row of its own",
)  # fmt: skip


def _negatives(found: Findings, n: int) -> pa.Array:
    """Every mined negative of every row, with its place, scores and decision."""
    mined, checks = found.pairing.mined, found.negatives
    order = np.lexsort((mined.places, mined.columns, mined.pairs))
    decision = np.zeros(len(order), np.int8)
    decision[checks.likely & checks.bad] = 2
    decision[checks.judged] = 3
    decision[checks.identical] = 1
    decision[found.relabelled] = 4
    judged = np.full(len(order), np.nan) if checks.scored is None else checks.scored.negatives
    words = pa.DictionaryArray.from_arrays(pa.array(decision[order]), pa.array(_DECISIONS))
    names = pa.array([column.name for column in found.columns])
    columns = pa.DictionaryArray.from_arrays(pa.array(mined.columns[order].astype(np.int8)), names)
    values = pa.StructArray.from_arrays(
        [pa.array(found.pairing.keys[mined.texts[order]]), columns, pa.array(mined.places[order].astype(np.int32)),
         _or_null(checks.similarity[order]), _or_null(judged[order]), pa.array(checks.alone[order]), words],
        ["key", "column", "place", "similarity", "judged", "likely_without_floor", "decision"],
    )  # fmt: skip
    return _lists_of(found.pairing.rows[mined.pairs[order]], values, n)


def _row_of(found: Findings, positions: IntArray, there: NDArray[np.bool_]) -> pa.Array:
    return _or_null(found.spread(np.where(there, found.pairing.rows[positions], -1), -1))


def _or_null(values: NDArray[Any], missing: int = -1) -> pa.Array:
    absent = np.isnan(values) if values.dtype.kind == "f" else values == missing
    return pa.array(values, mask=absent)


# clean.parquet


class CleanPairs:
    """Writes a table without the rows that leave, its bad negatives replaced or taken out."""

    def __init__(self, source: PairsSource, found: Findings) -> None:
        self._source, self._found = source, found
        mined, bad, checks = found.pairing.mined, found.negatives.bad, found.negatives
        self._bad = [np.sort(mined.cells[bad & (mined.columns == i)]) for i in range(len(source.columns.negatives))]
        self._refill = found.config.bad_negatives == "refill"
        new = np.concatenate([checks.refills[checks.refills >= 0], mined.texts[found.relabelled]])
        self._contents = texts_of(source, found.pairing, new)
        self._waiting_rows: list[tuple[pa.RecordBatch, IntArray]] = []

    def write(self, path: Path) -> int:
        """Write all columns of the rows that stay; returns the number of rows.

        Raises:
            OSError: not writable.
        """
        schema, kept = self._source.schema, self._found.kept
        for column in self._source.columns.negatives:
            at = schema.get_field_index(column.name)
            schema = schema.set(at, schema.field(at).with_nullable(True))
        waiting: list[pa.RecordBatch] = []
        rows, seen = 0, [0] * len(self._bad)
        self._waiting_rows = []
        with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            for start, batch in self._source.batches():
                cleaned = self._cleaned(batch, start, seen, schema)
                self._keep_relabelled(cleaned, start)
                cleaned = cleaned.filter(pa.array(kept[start : start + len(batch)]))
                waiting.append(cleaned)
                rows += len(cleaned)
                if sum(each.nbytes for each in waiting) >= _GROUP_BYTES:
                    writer.write_table(pa.Table.from_batches(waiting, schema))
                    waiting = []
            for batch in self._added(schema):
                waiting.append(batch)
                rows += len(batch)
            writer.write_table(pa.Table.from_batches(waiting, schema))
        return rows

    def _keep_relabelled(self, cleaned: pa.RecordBatch, start: int) -> None:
        """Remember the rows of a batch that come once more with a mined negative as their positive."""
        pairing, chosen = self._found.pairing, self._found.relabelled
        rows = pairing.rows[pairing.mined.pairs[chosen]] - start
        here = (rows >= 0) & (rows < len(cleaned))
        if here.any():
            self._waiting_rows.append((cleaned.take(pa.array(rows[here])), pairing.mined.texts[chosen[here]]))

    def _added(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Those rows, each with its new positive."""
        at = schema.get_field_index(self._source.columns.positive.name)
        for batch, texts in self._waiting_rows:
            values = pa.array([self._contents[text] for text in texts.tolist()]).cast(schema.field(at).type)
            yield pa.RecordBatch.from_arrays(
                [values if i == at else column for i, column in enumerate(batch.columns)], schema=schema
            )

    def _cleaned(self, batch: pa.RecordBatch, start: int, seen: list[int], schema: pa.Schema) -> pa.RecordBatch:
        """The batch with other negatives; `seen` counts the cells of each column so far."""
        arrays = list(batch.columns)
        for i, column in enumerate(self._source.columns.negatives):
            at = schema.get_field_index(column.name)
            first = seen[i] if column.listed else start
            cells = int(np.asarray(arrays[at].value_lengths().fill_null(0)).sum()) if column.listed else len(batch)
            low, high = np.searchsorted(self._bad[i], (first, first + cells))
            gone = np.zeros(cells, bool)
            gone[self._bad[i][low:high] - first] = True
            seen[i] += cells
            new = self._new(i, start, len(batch))
            if column.listed:
                arrays[at] = _lists(arrays[at], gone, new, self._refill)
            elif gone.any() or new:
                arrays[at] = _replaced(arrays[at], gone, new)
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _new(self, column: int, start: int, count: int) -> dict[int, Any]:
        """For some rows of a batch, the text or embedding to put into a column."""
        checks, pairing = self._found.negatives, self._found.pairing
        if not self._refill:
            return {}
        rows = pairing.rows[checks.open_pairs]
        chosen = (checks.open_columns == column) & (checks.refills >= 0) & (rows >= start) & (rows < start + count)
        return {
            int(rows[at]) - start: self._contents[int(checks.refills[at])] for at in np.flatnonzero(chosen).tolist()
        }


def _replaced(values: Any, gone: NDArray[np.bool_], new: dict[int, Any]) -> Any:
    """The array with new values in some places, and nulls in the others that are gone."""
    plain = arrow.plain_values(values)
    places = np.arange(len(values))
    chosen = np.array(sorted(new), np.int64)
    places[chosen] = len(values) + np.arange(len(chosen))
    more = pa.array([new[place] for place in chosen.tolist()], plain.type)
    gone = gone.copy()
    gone[chosen] = False
    return pa.concat_arrays([plain, more]).take(pa.array(places, mask=gone)).cast(values.type)


def _lists(values: Any, gone: NDArray[np.bool_], new: dict[int, Any], compact: bool) -> Any:
    """Lists without the elements that are gone, and with new ones.

    Args:
        values: the lists.
        gone: of each element, in order.
        new: an element to append, by the list's place.
        compact: also take out elements that are missing or empty.
    """
    lengths = np.asarray(values.value_lengths().fill_null(0))
    flat = values.filter(values.is_valid()).flatten()
    plain = arrow.plain_values(flat)
    if compact:
        gone = gone | np.array([text is None or not text.strip() for text in plain.to_pylist()], bool)
    if not gone.any() and not new:
        return values
    places = np.concatenate([np.repeat(np.arange(len(values)), lengths)[~gone], np.array(sorted(new), np.int64)])
    more = pa.array([new[place] for place in sorted(new)], plain.type)
    flat = pa.concat_arrays([plain.filter(pa.array(~gone)), more])
    flat = flat.take(pa.array(np.argsort(places, kind="stable"))).cast(values.type.value_type)
    offsets = pa.array(np.concatenate([[0], np.cumsum(np.bincount(places, minlength=len(values)))]), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, flat, mask=values.is_null()).cast(values.type)


def write_layout(source: PairsSource, found: Findings, clean: Path, folder: Path) -> None:
    """Write the clean pairs to a folder in the layout of the input: the same files, columns, lists and compression.

    Nothing is written where `clean` (clean.parquet) has that layout: embeddings, a table, one parquet file.

    Raises:
        OSError: not writable.
    """
    if source.beir is not None:
        beir, qrels = source.beir
        beir.write(folder, qrels, found.kept)
        return
    plain = len(source.files) == 1 and format_of(source.files[0]) == "parquet"
    if source.nested is None and (not source.files or source.kind == "embeddings" or plain):
        return
    columns = [column.name for column in source.columns.all[1:]]
    if source.nested is not None:
        rows, table = source.nested.restored(_edits(source, found))
        columns = [name for name in table.column_names if arrow.is_list(table.schema.field(name).type)]
    else:
        # Rows that a relabelled negative adds are the last of the clean ones, and of their file.
        added = found.pairing.rows[found.pairing.mined.pairs[found.relabelled]]
        rows, table = np.concatenate([np.flatnonzero(found.kept), added]), pq.read_table(clean)
    if not source.files:
        pq.write_table(table, _made(folder) / "records.parquet")
    elif source.path is not None and _saved(source.path):
        _save_dataset(source, table, folder)
    else:
        _write_files(source, rows, table, columns, folder)


def _write_files(source: PairsSource, rows: IntArray, table: pa.Table, changed: list[str], folder: Path) -> None:
    """Write each file that was read, and copy those of other splits."""
    root = source.path if source.path is not None and source.path.is_dir() else Path(
        os.path.commonpath([file.parent for file in source.files])
    )  # fmt: skip
    for file, start, stop in zip(source.files, source.file_starts[:-1], source.file_starts[1:], strict=True):
        here = np.flatnonzero((rows >= start) & (rows < stop))
        # Slices, because Arrow takes no rows of more than 2 GB of texts at once.
        runs = np.split(here, np.flatnonzero(np.diff(here) != 1) + 1)
        some = pa.concat_tables([table.slice(run[0] if len(run) else 0, len(run)) for run in runs])
        write_rows(folder / file.relative_to(root), file, rows[here] - start, some, changed)
    for files in source.others.values():
        for file in files:
            shutil.copyfile(file, _made((folder / file.relative_to(root)).parent) / file.name)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _saved(path: Path) -> bool:
    """Whether `datasets` saved a folder to disk."""
    return (path / "state.json").exists() or (path / "dataset_dict.json").exists()


def _save_dataset(source: PairsSource, table: pa.Table, folder: Path) -> None:
    """Save a table as `datasets` does, under its split where there are splits."""
    with needs("text", "a data set that datasets saved", PairsError):
        from datasets import Dataset, DatasetDict
    data = Dataset(table)
    others = {split: Dataset.load_from_disk(place) for split, place in source.others.items()}
    (data if source.split is None else DatasetDict({source.split: data, **others})).save_to_disk(folder)


def _edits(source: PairsSource, found: Findings) -> Edits:
    """What the findings change in records, by pair."""
    edits, pairing, checks = Edits(found.kept, found.denied), found.pairing, found.negatives
    mined, names = pairing.mined, [column.name for column in source.columns.negatives]
    for at in np.flatnonzero(checks.bad).tolist():
        key = int(pairing.rows[mined.pairs[at]]), names[mined.columns[at]]
        edits.gone.setdefault(key, set()).add(int(mined.places[at]))
    filled = np.flatnonzero(checks.refills >= 0)
    texts = np.concatenate([checks.refills[filled], mined.texts[found.relabelled]])
    held = texts_of(source, pairing, texts)
    for at in filled.tolist():
        key = int(pairing.rows[checks.open_pairs[at]]), names[checks.open_columns[at]]
        edits.new.setdefault(key, []).append(held[int(checks.refills[at])])
    for at in found.relabelled.tolist():
        edits.added.setdefault(int(pairing.rows[mined.pairs[at]]), []).append(held[int(mined.texts[at])])
    return edits
