"""`DistinctBatchSampler`: batches in which no text comes twice and no two conflicting texts meet."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import BatchSampler

from pairsift._base.checks import first_line, unmasked
from pairsift.data import DataError, arrow
from pairsift.data.tables import DAMAGE, read_table
from pairsift.pairs import text_keys
from pairsift.retrieval.batches import Constraints, Plan, arrange, reachable
from pairsift.retrieval.columns import IntArray
from pairsift.retrieval.index import NO_KEY
from pairsift.retrieval.layouts import text_of
from pairsift.retrieval.read import texts_table

if TYPE_CHECKING:
    from pairsift.retrieval.result import InspectedPairs

_logger = logging.getLogger(__name__)

# Rows of a data set whose texts are read at once.
_ROWS = 16_384


class DistinctBatchSampler(BatchSampler):
    """Batches of rows in which no text comes twice and no two texts are in conflict, in no column.

    Every row comes once an epoch, in a random order that `seed` and the epoch decide. All batches are full but those at
    the end, which hold the rows that fit into no full one; `drop_last` leaves these out.

    With many conflicts few batches would be full. Where less than `min_full` of the rows would lie in full
    batches, the sampler allows conflicts: rows that fit nowhere go where their conflicts are least likely. It logs how
    many it allows, and `allowed` counts them. Rows of one text never share a batch, whatever `min_full` is.

    Each pass is an epoch: after a whole one the next begins, and `set_epoch` sets it, as loops of transformers and
    sentence-transformers do. Give it to ``DataLoader(batch_sampler=...)``, or see `for_trainer`. Over several processes
    each process's batch is free of duplicates; the batches that processes gather from each other may not be.

    Args:
        keys: (N, C) integers, a column each of anchors, positives and negatives; equal where texts are, as from
            `text_keys`; negative where there is none.
        batch_size: B, rows of a batch, at least 1.
        conflicts: (M, 2) pairs of keys that must not meet in a batch; None for none.
        similarity: (M,) how likely each conflict is, in any unit; None takes all as equally likely.
        drop_last: leave out the smaller batches at the end.
        seed: at least 0.
        min_full: share of the rows, in [0, 1], that must lie in full batches before conflicts are allowed. Where N is
            no multiple of B, the share of the rows that floor(N / B) full batches hold counts instead if it is less. A
            batch of all N rows is full where N < B. 0 never allows a conflict.

    Attributes:
        allowed: conflicts that the batches of the current epoch hold.

    Raises:
        ValueError: keys or conflicts of another shape or type, or numbers out of range.

    Example:
        >>> import pairsift as ps
        >>> questions, answers = ["a", "A", "b", "c"], ["1", "2", "1", "3"]
        >>> sampler = ps.retrieval.DistinctBatchSampler.from_texts(questions, answers, batch_size=2)
        >>> sorted(sorted(batch) for batch in sampler) in ([[0, 3], [1, 2]],)
        True
    """

    def __init__(
        self, keys: ArrayLike, batch_size: int, *, conflicts: ArrayLike | None = None,
        similarity: ArrayLike | None = None, drop_last: bool = False, seed: int = 0, min_full: float = 0.95,
    ) -> None:  # fmt: skip
        numbers = unmasked(keys, "keys")
        if numbers.ndim != 2 or numbers.dtype.kind not in "iu" or 0 in numbers.shape:
            raise ValueError(f"keys must be (N, C) integers, got {numbers.dtype} {numbers.shape}: see `text_keys`")
        pairs = np.zeros((0, 2), np.int64) if conflicts is None else unmasked(conflicts, "conflicts")
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            raise ValueError(f"conflicts must be (M, 2) pairs of keys, got {pairs.dtype} {pairs.shape}")
        likely = np.ones(len(pairs)) if similarity is None else unmasked(similarity, "similarity")
        if likely.shape != (len(pairs),) or likely.dtype.kind not in "iuf" or not np.isfinite(likely).all():
            raise ValueError(
                f"similarity must be ({len(pairs)},) finite numbers, one a conflict, got {likely.dtype} {likely.shape}"
            )
        for name, number, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
            if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {number!r}")
        if isinstance(min_full, bool) or not 0 <= min_full <= 1:
            raise ValueError(f"min_full must lie in [0, 1], got {min_full!r}: it is a share of the rows")
        super().__init__(range(len(numbers)), int(batch_size), drop_last)
        self.seed, self.epoch, self.min_full = int(seed), 0, float(min_full)
        self._constraints = Constraints(numbers.astype(np.int64), pairs.astype(np.int64), likely.astype(np.float64))
        self._planned: tuple[int, Plan] | None = None
        self._said = False

    @classmethod
    def from_texts(cls, *columns: Sequence[str | None], batch_size: int, **options: Any) -> DistinctBatchSampler:
        """A sampler of texts.

        Args:
            columns: N texts each; None, or a blank text, where there is none.
            batch_size: see the class.
            **options: `conflicts`, `similarity`, `drop_last`, `seed` and `min_full` of the class.

        Raises:
            TypeError: a text that is neither string nor None.
            ValueError: no columns, columns of several lengths, or see the class.
        """
        lengths = [len(column) for column in columns]
        if len(set(lengths)) != 1:
            raise ValueError(f"give columns of as many texts each, got {lengths} texts")
        return cls(np.stack([_keys(column) for column in columns], axis=1), batch_size, **options)

    @classmethod
    def from_inspection(
        cls, found: InspectedPairs | Path | str, batch_size: int, data: Any = None, *,
        columns: Sequence[str] | None = None, **options: Any,
    ) -> DistinctBatchSampler:  # fmt: skip
        """A sampler that keeps duplicates and all conflicts of an inspection apart.

        Args:
            found: the result of `inspect_pairs`, or the folder that it wrote.
            batch_size: see the class.
            data: the training data, a `datasets.Dataset` or another table: any rows in any order, since they are
                found by their texts. Rows that the inspection does not know are kept apart where texts are equal, and
                their number is logged. None takes the rows of clean.parquet in their order.
            columns: of texts in `data`; None takes the columns that the inspection read, or all columns of strings
                where `data` does not have these.
            **options: `drop_last`, `seed` and `min_full` of the class.

        Raises:
            DataError: a folder without an inspection.
            ValueError: data without texts, an inspection of embeddings with `data`, or see the class.
        """
        inspection = _inspection(found)
        options |= {"conflicts": inspection.conflicts, "similarity": inspection.similarity}
        if data is None:
            return cls(inspection.kept, batch_size, **options)
        if inspection.kind != "texts":
            raise ValueError(
                "the inspection compared embeddings, and data is found by its texts: inspect the texts, with the "
                "embeddings as `guide_features`, or leave `data` out and train on clean.parquet in its order"
            )
        data = _opened(data)
        keys = _data_keys(data, inspection.columns_of(data) if columns is None else columns)
        unknown = int((~(np.isin(keys, inspection.known) | (keys == NO_KEY)).all(axis=1)).sum())
        if unknown:
            _logger.warning(
                "%d of %d rows hold texts that the inspection does not know: they are kept apart where texts are "
                "equal, and their conflicts are not known", unknown, len(keys),
            )  # fmt: skip
        return cls(keys, batch_size, **options)

    @classmethod
    def for_trainer(
        cls, found: InspectedPairs | Path | str | None = None, columns: Sequence[str] | None = None,
        min_full: float = 0.95,
    ) -> Callable[..., DistinctBatchSampler]:  # fmt: skip
        """What `SentenceTransformerTrainingArguments` takes as `batch_sampler`.

        The trainer calls it for every data set, training and evaluation data alike. Rows are found by their texts, so
        that data may be shuffled, selected, filtered or split.

        Args:
            found: see `from_inspection`; None compares texts only.
            columns: of texts; None takes the columns that the inspection read where the data has them, else all
                columns of strings but labels.
            min_full: see the class.

        Returns:
            A function of the trainer's arguments. It raises ValueError for a data set without texts.
        """

        def make(
            dataset: Any, batch_size: int, drop_last: bool = False, valid_label_columns: Sequence[str] | None = None,
            generator: Any = None, seed: int = 0,
        ) -> DistinctBatchSampler:  # fmt: skip
            dataset, labels = _opened(dataset), {*(valid_label_columns or ()), "dataset_name"}
            names = [name for name in _text_columns(dataset) if name not in labels] if columns is None else columns
            options = {"drop_last": drop_last, "seed": seed, "min_full": min_full}
            if found is None:
                return cls(_data_keys(dataset, names), batch_size, **options)  # type: ignore[arg-type]
            data = dataset.select_columns(names) if hasattr(dataset, "select_columns") else dataset.select(names)
            return cls.from_inspection(found, batch_size, data, columns=columns, **options)

        return make

    def __call__(self, *arguments: Any, **keywords: Any) -> DistinctBatchSampler:
        """Refuse to be a maker of samplers: sentence-transformers would ignore a sampler without this method.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "sentence-transformers makes a sampler for each data set: pass "
            "batch_sampler=DistinctBatchSampler.for_trainer(...), which makes them, not a sampler"
        )

    @property
    def allowed(self) -> int:
        """Conflicts that the batches of the current epoch hold."""
        in_full, in_smaller = self._plan().allowed
        return in_full + (0 if self.drop_last else in_smaller)

    def set_epoch(self, epoch: int) -> None:
        """Begin this epoch, counted from 0, with the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        epoch = self.epoch
        for batch in self._batches():
            yield batch.tolist()
        if self.epoch == epoch:
            self.epoch = epoch + 1

    def __len__(self) -> int:
        return len(self._batches())

    def _batches(self) -> list[IntArray]:
        plan = self._plan()
        return plan.full if self.drop_last else plan.full + plan.smaller

    def _plan(self) -> Plan:
        if self._planned is None or self._planned[0] != self.epoch:
            rng = np.random.default_rng([self.seed, self.epoch])
            n = len(self.sampler)  # type: ignore[arg-type]
            size = min(n, self.batch_size)
            plan = arrange(n, size, self._constraints, rng, self.min_full)
            if self.drop_last and size < self.batch_size:
                plan = plan._replace(full=[], allowed=(0, 0))
            self._planned = self.epoch, plan
            self._say(plan, n, size)
        return self._planned[1]

    def _say(self, plan: Plan, n: int, size: int) -> None:
        """Log, once, why rows are not in full batches, and how many conflicts are allowed."""
        if self._said:
            return
        share = len(plan.full) * size / n
        allowed = plan.allowed[0] + (0 if self.drop_last else plan.allowed[1])
        if allowed:
            _logger.warning(
                "with all conflicts apart %.1f %% of the rows would lie in full batches of %d: %d conflicts are "
                "allowed, the least likely ones, and %.1f %% of the rows do", 100 * plan.strict_share, size,
                allowed, 100 * share,
            )  # fmt: skip
        if self.drop_last and size < self.batch_size:
            _logger.warning("%d rows are fewer than a batch of %d, and drop_last leaves them out", n, self.batch_size)
        elif len(plan.full) * size < reachable(n, size, self.min_full):
            what = "are left out" if self.drop_last else "come in smaller batches"
            _logger.warning(
                "%.1f %% of the rows hold texts of too many other rows for full batches of %d, and %s: a smaller "
                "batch_size, or fewer rows of one text, would keep them", 100 * (1 - share), size, what,
            )  # fmt: skip
        self._said = True


# Keys of data


class _Inspection(NamedTuple):
    """What the sampler takes from an inspection.

    Attributes:
        kept: (N, C) keys of the rows of clean.parquet, filled with `NO_KEY`.
        known: (T,) keys of all texts.
        conflicts: (M, 2) keys.
        similarity: (M,) of the conflicts.
        kind: texts or embeddings.
        columns: that the inspection read: anchors, positives, then negatives.
    """

    kept: IntArray
    known: IntArray
    conflicts: IntArray
    similarity: NDArray[np.float32]
    kind: str
    columns: list[str]

    def columns_of(self, data: Any) -> list[str] | None:
        """The columns of a table that the inspection read; None where it lacks the anchors or the positives."""
        there = [name for name in self.columns if name in data.column_names]
        return there if there[:2] == self.columns[:2] else None


def _inspection(found: InspectedPairs | Path | str) -> _Inspection:
    if isinstance(found, (str, Path)):
        try:
            rows, conflicts = (read_table(Path(found, f"{name}.parquet")) for name in ("rows", "conflicts"))
            facts = json.loads(Path(found, "pairs.json").read_text(encoding="utf-8"))
            kind, columns = facts["kind"], facts.get("columns", [])
        except (*DAMAGE, ValueError, KeyError) as error:
            raise DataError(
                f"{found} holds no inspection of pairs, as `pairsift pairs` writes it: {first_line(error)}"
            ) from error
    else:
        rows, conflicts, kind, columns = found.rows, found.conflicts, found.facts["kind"], found.facts["columns"]
    keys = np.stack([conflicts[name].to_numpy() for name in ("key", "other_key")], axis=1).astype(np.int64)
    similarity = conflicts["similarity"].to_numpy().astype(np.float32)
    everything = _row_keys(rows)
    kept = everything[rows["kept"].to_numpy()]
    if "relabelled_keys" in rows.column_names:
        counts = rows["relabelled_keys"].combine_chunks().value_lengths().to_numpy()
        added = everything[np.repeat(np.arange(len(counts)), counts)]
        added[:, 1] = rows["relabelled_keys"].combine_chunks().flatten().to_numpy()
        kept = np.concatenate([kept, added])
    return _Inspection(kept, np.unique(everything), keys, similarity, kind, columns)


def _row_keys(rows: pa.Table) -> IntArray:
    """(N, C) keys of rows.parquet: anchor, positive and the negatives that stay, filled with `NO_KEY`."""
    keys = [rows[name].fill_null(NO_KEY).to_numpy() for name in ("anchor_key", "positive_key")]
    if "negative_keys" in rows.column_names:
        keys += list(_wide(rows["negative_keys"].combine_chunks()).T)
    return np.stack(keys, axis=1).astype(np.int64)


def _wide(lists: Any) -> IntArray:
    """(N, most) values of lists of keys, filled with `NO_KEY`."""
    counts = np.asarray(lists.value_lengths().fill_null(0))
    out = np.full((len(lists), int(counts.max(initial=0))), NO_KEY, np.int64)
    out[np.arange(out.shape[1]) < counts[:, None]] = lists.flatten().to_numpy()
    return out


def _opened(data: Any) -> Any:
    """A `datasets.Dataset`, which is read in parts, or the `pyarrow.Table` of another table.

    Raises:
        TypeError: something else, or data without a known order.
        ValueError: no rows.
    """
    name = type(data).__name__
    if hasattr(data, "select_columns"):
        if not hasattr(data, "features"):
            raise TypeError(f"data is one table, got {name}: name one of its splits, {', '.join(data)}")
        if not hasattr(data, "__len__"):
            raise TypeError(f"data must have its rows in a known order, got {name}: give a `datasets.Dataset`")
        table = data
    else:
        table = texts_table(data)
    if table is None:
        raise TypeError(f"data is a table of datasets, pyarrow, pandas or polars, got {name}")
    if not len(table):
        raise ValueError(f"data holds no rows, got an empty {name}")
    return table


def _text_columns(data: Any) -> list[str]:
    """Columns of strings, or of lists of strings, of a `datasets.Dataset` or a table."""
    schema = data.schema if isinstance(data, pa.Table) else data.features.arrow_schema
    kinds = {field.name: field.type.value_type if arrow.is_list(field.type) else field.type for field in schema}
    found = [name for name, kind in kinds.items() if arrow.is_text(kind)]
    if not found:
        raise ValueError(f"the data set has no column of strings; its columns: {', '.join(schema.names)}")
    return found


def _data_keys(data: Any, columns: Sequence[str] | None) -> IntArray:
    """(N, C) keys of the texts of a data set, filled with `NO_KEY`."""
    names = _text_columns(data) if columns is None else list(columns)
    missing = [each for each in names if each not in data.column_names]
    if missing:
        raise ValueError(f"the data has no column {missing[0]!r}; its columns: {', '.join(data.column_names)}")
    parts: list[IntArray] = []
    for batch in _tables(data, names):
        keys = []
        for name in names:
            values = arrow.plain_values(batch[name]).combine_chunks()
            if not arrow.is_list(values.type):
                keys.append(_keys(arrow.texts(values, name))[:, None])
                continue
            counts = np.concatenate([[0], np.cumsum(np.asarray(values.value_lengths().fill_null(0)))])
            keys.append(_wide(pa.ListArray.from_arrays(
                pa.array(counts, pa.int32()), pa.array(_keys(map(text_of, arrow.texts(values.flatten(), name))))
            )))  # fmt: skip
        parts.append(np.concatenate(keys, axis=1))
    width = max(part.shape[1] for part in parts)
    return np.concatenate([
        np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=NO_KEY) for part in parts
    ])  # fmt: skip


def _tables(data: Any, names: list[str]) -> Iterator[pa.Table]:
    if isinstance(data, pa.Table):
        yield from (pa.Table.from_batches([batch]) for batch in data.select(names).to_batches(_ROWS))
        return
    yield from data.select_columns(names).with_format("arrow").iter(_ROWS)


def _keys(column: Iterable[str | None]) -> IntArray:
    texts = list(column)
    # A blank text stands for a missing one, as it does for an inspection.
    there = np.array([not (text is None or (isinstance(text, str) and not text.strip())) for text in texts], bool)
    keys = np.full(len(texts), NO_KEY, np.int64)
    keys[there] = text_keys(text for text, each in zip(texts, there.tolist(), strict=True) if each)  # type: ignore[misc]
    return keys
