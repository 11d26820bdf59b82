"""`DistinctBatchSampler`: batches in which no text comes twice and no two conflicting texts meet.

Rows whose texts nobody else holds fit anywhere, so they are placed last. The others are placed one by one, those with
the most rivals first, and the copies of a text go into consecutive batches from a random one on. Where this leaves too
few rows in full batches, conflicts are allowed, the least likely ones first; a text never comes twice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import BatchSampler

from pairsift._base.checks import first_line
from pairsift.data import DataError, arrow
from pairsift.data.tables import DAMAGE, read_table
from pairsift.pairs import text_keys
from pairsift.retrieval.read import NO_KEY

if TYPE_CHECKING:
    from pairsift.retrieval.result import InspectedPairs

IntArray = NDArray[np.int64]

_logger = logging.getLogger(__name__)

# Batches that a row is tried in before it is left over. More would find few more places, and cost the square of N.
_TRIES = 200
# Open batches that are compared for a row which fits into none without a conflict.
_COMPARED = 1000
# Rows of a data set whose texts are read at once.
_ROWS = 16_384


class DistinctBatchSampler(BatchSampler):
    """Batches of rows in which no text comes twice and no two texts are in conflict, in no column.

    Every row comes once an epoch, in a random order that `seed` and the epoch decide. All batches are full but those at
    the end, which hold the rows that fit into no full one; `drop_last` leaves these out.

    Conflicts can be so many that few batches would be full. Where less than `min_full` of the rows would lie in full
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
            no multiple of B, the share of the rows that floor(N / B) full batches hold counts instead if it is less. 0
            never allows a conflict.

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
        numbers = np.asarray(keys)
        if numbers.ndim != 2 or numbers.dtype.kind not in "iu" or 0 in numbers.shape:
            raise ValueError(f"keys must be (N, C) integers, got {numbers.dtype} {numbers.shape}: see `text_keys`")
        pairs = np.zeros((0, 2), np.int64) if conflicts is None else np.asarray(conflicts)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            raise ValueError(f"conflicts must be (M, 2) pairs of keys, got {pairs.dtype} {pairs.shape}")
        likely = np.ones(len(pairs)) if similarity is None else np.asarray(similarity)
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
        self._rivals = _Rivals(numbers.astype(np.int64), pairs.astype(np.int64), likely.astype(np.float64))
        self._planned: tuple[int, _Plan] | None = None
        self._said = False

    @classmethod
    def from_texts(cls, *columns: Sequence[str | None], batch_size: int, **options: Any) -> DistinctBatchSampler:
        """A sampler of texts.

        Args:
            columns: N texts each; None where there is none.
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
            found: what `inspect_pairs` returned, or the folder that it wrote.
            batch_size: see the class.
            data: what is trained on, a `datasets.Dataset` or `pyarrow.Table`: any rows in any order, since they are
                found by their texts. Rows that the inspection does not know are kept apart where texts are equal, and
                their number is logged. None takes the rows of clean.parquet in their order.
            columns: of texts in `data`; None takes all columns of strings.
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
        keys = _data_keys(data, columns)
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
            columns: of texts; None takes all columns of strings but labels.
            min_full: see the class.

        Returns:
            A function of a data set, batch size and what else the trainer gives. It raises ValueError where the data
            set has no texts.
        """

        def make(
            dataset: Any, batch_size: int, drop_last: bool = False, valid_label_columns: Sequence[str] | None = None,
            generator: Any = None, seed: int = 0,
        ) -> DistinctBatchSampler:  # fmt: skip
            labels = {*(valid_label_columns or ()), "dataset_name"}
            names = [name for name in _text_columns(dataset) if name not in labels] if columns is None else columns
            options = {"drop_last": drop_last, "seed": seed, "min_full": min_full}
            if found is None:
                return cls(_data_keys(dataset, names), batch_size, **options)  # type: ignore[arg-type]
            return cls.from_inspection(found, batch_size, dataset, columns=names, **options)

        return make

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

    def _plan(self) -> _Plan:
        if self._planned is None or self._planned[0] != self.epoch:
            rng = np.random.default_rng([self.seed, self.epoch])
            n, size = len(self.sampler), self.batch_size  # type: ignore[arg-type]
            plan = _arrange(n, size, self._rivals, rng, self.min_full)
            self._planned = self.epoch, plan
            self._say(plan, n)
        return self._planned[1]

    def _say(self, plan: _Plan, n: int) -> None:
        """Log, once, what keeps rows out of full batches and what was done about it."""
        if self._said:
            return
        share = len(plan.full) * self.batch_size / n
        allowed = plan.allowed[0] + (0 if self.drop_last else plan.allowed[1])
        if allowed:
            _logger.warning(
                "with all conflicts apart %.1f %% of the rows would lie in full batches of %d: %d conflicts are "
                "allowed, the least likely ones, and %.1f %% of the rows do", 100 * plan.strict_share, self.batch_size,
                allowed, 100 * share,
            )  # fmt: skip
        if len(plan.full) * self.batch_size < _reachable(n, self.batch_size, self.min_full):
            what = "are left out" if self.drop_last else "come in smaller batches"
            _logger.warning(
                "%.1f %% of the rows hold texts of too many other rows for full batches of %d, and %s: a smaller "
                "batch_size, or fewer rows of one text, would keep them", 100 * (1 - share), self.batch_size, what,
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
    """

    kept: IntArray
    known: IntArray
    conflicts: IntArray
    similarity: NDArray[np.float32]
    kind: str


def _inspection(found: InspectedPairs | Path | str) -> _Inspection:
    if isinstance(found, (str, Path)):
        try:
            rows, conflicts = (read_table(Path(found, f"{name}.parquet")) for name in ("rows", "conflicts"))
            kind = json.loads(Path(found, "pairs.json").read_text(encoding="utf-8"))["kind"]
        except (*DAMAGE, ValueError, KeyError) as error:
            raise DataError(
                f"{found} holds no inspection of pairs, as `pairsift pairs` writes it: {first_line(error)}"
            ) from error
    else:
        rows, conflicts, kind = found.rows, found.conflicts, found.facts["kind"]
    keys = np.stack([conflicts[name].to_numpy() for name in ("key", "other_key")], axis=1).astype(np.int64)
    similarity = conflicts["similarity"].to_numpy().astype(np.float32)
    everything = _row_keys(rows)
    kept = everything[rows["kept"].to_numpy()]
    return _Inspection(kept, np.unique(everything), keys, similarity, kind)


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
                pa.array(counts, pa.int32()), pa.array(_keys(arrow.texts(values.flatten(), name)))
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


def _keys(column: Sequence[str | None]) -> IntArray:
    texts = list(column)
    there = np.array([text is not None for text in texts], bool)
    keys = np.full(len(texts), NO_KEY, np.int64)
    keys[there] = text_keys(text for text in texts if text is not None)
    return keys


# Which row goes into which batch


class _Plan(NamedTuple):
    """The batches of an epoch.

    Attributes:
        full: batches of the full size.
        smaller: batches of the other rows.
        allowed: pairs of conflicting texts that share a batch, in full and in smaller ones.
        strict_share: share of the rows in full batches without allowed conflicts.
    """

    full: list[IntArray]
    smaller: list[IntArray]
    allowed: tuple[int, int]
    strict_share: float


class _Rivals:
    """What keeps rows apart: texts that several rows hold, and texts in conflict.

    Args:
        keys: (N, C) int64, negative where there is none.
        conflicts: (M, 2) pairs of keys; those that no row holds do nothing.
        likely: (M,) how likely each conflict is.

    Attributes:
        rows: rows that have rivals, the most rivals first.
    """

    def __init__(self, keys: IntArray, conflicts: IntArray, likely: NDArray[np.float64]) -> None:
        distinct, codes = np.unique(keys, return_inverse=True)
        codes = codes.reshape(keys.shape)
        codes[keys < 0] = -1
        codes = np.sort(codes, axis=1)
        codes[:, 1:][codes[:, 1:] == codes[:, :-1]] = -1  # a row is no rival of itself
        holders = np.bincount(codes[codes >= 0], minlength=len(distinct))
        self._links(distinct, conflicts, likely)
        degree = np.where(holders > 1, holders, 0) + np.diff(self._starts)
        rivals = np.where(codes >= 0, degree[codes], 0)
        most = rivals.max(axis=1, initial=0)
        rows = np.flatnonzero(most)
        self.rows: IntArray = rows[np.argsort(-most[rows], kind="stable")]
        self._degrees = most[self.rows]
        some = codes[self.rows]
        some[rivals[self.rows] == 0] = -1
        # The text with the most rivals first: its copies decide where a row may go.
        order = np.argsort(-np.where(some >= 0, rivals[self.rows], -1), axis=1, kind="stable")
        some = np.take_along_axis(some, order, 1)
        self._codes: IntArray = some[some >= 0]
        self._ends: IntArray = np.concatenate([[0], np.cumsum((some >= 0).sum(axis=1))])

    def __len__(self) -> int:
        return len(self.rows)

    def order(self, rng: np.random.Generator) -> list[int]:
        """Places of `rows`, those with the most rivals first, equal ones at random."""
        order: list[int] = np.lexsort((rng.random(len(self)), -self._degrees)).tolist()
        return order

    def texts(self, place: int) -> list[int]:
        """The texts of a row that have rivals, the one with the most first."""
        texts: list[int] = self._codes[self._ends[place] : self._ends[place + 1]].tolist()
        return texts

    def conflicts(self, texts: list[int]) -> dict[int, float]:
        """How likely each conflict of some texts is, by the other text."""
        found: dict[int, float] = {}
        for text in texts:
            some = slice(self._starts[text], self._starts[text + 1])
            for other, likely in zip(self._others[some].tolist(), self._likely[some].tolist(), strict=True):
                found[other] = max(likely, found.get(other, likely))
        return found

    def forbidden(self, texts: list[int]) -> set[int]:
        """Texts that must not be in the batch of a row of these: they themselves, and those in conflict with them."""
        found = set(texts)
        for text in texts:
            found.update(self._others[self._starts[text] : self._starts[text + 1]].tolist())
        return found

    def _links(self, distinct: IntArray, conflicts: IntArray, likely: NDArray[np.float64]) -> None:
        """For each text, the texts in conflict with it: `_others` from `_starts`, each `_likely`."""
        held = np.isin(conflicts, distinct[distinct >= 0]).all(axis=1) & (conflicts[:, 0] != conflicts[:, 1])
        pairs = np.searchsorted(distinct, conflicts[held])
        pairs, likely = np.concatenate([pairs, pairs[:, ::-1]]), np.tile(likely[held], 2)
        order = np.lexsort((-likely, pairs[:, 1], pairs[:, 0]))
        pairs, likely = pairs[order], likely[order]
        first = np.ones(len(pairs), bool)
        first[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
        self._others: IntArray = pairs[first, 1]
        self._likely: NDArray[np.float64] = likely[first]
        self._starts: IntArray = np.searchsorted(pairs[first, 0], np.arange(len(distinct) + 1))


class _Batches:
    """`count` batches of `size` rows, filled row by row.

    Attributes:
        rows: rows of each batch that have rivals, as places in `_Rivals.rows`.
        allowed: conflicts that `allow` let in.
    """

    def __init__(self, count: int, size: int, rivals: _Rivals) -> None:
        self._size, self._rivals = size, rivals
        self.rows: list[list[int]] = [[] for _ in range(count)]
        self.allowed = 0
        self._texts: list[set[int]] = [set() for _ in range(count)]
        # The next batch that is not full, itself where it is not; the last is count, for none.
        self._next = list(range(count + 1))
        self._from: dict[int, int] = {}
        self._holders: dict[int, list[int]] | None = None

    def place(self, row: int, start: int) -> bool:
        """Put a row into the first batch that takes it, from where its most frequent text has not been yet.

        Args:
            row: place among the rows with rivals.
            start: batch to begin with, for a text that comes first.
        """
        texts = self._rivals.texts(row)
        forbidden, count = self._rivals.forbidden(texts), len(self.rows)
        at, wrapped = self._from.get(texts[0], start), False
        for _ in range(_TRIES):
            at = self._open(at)
            if at == count:
                if wrapped:
                    return False
                at, wrapped = self._open(0), True
                if at == count:
                    return False
            if forbidden.isdisjoint(self._texts[at]):
                self._put(row, at, texts)
                self._from[texts[0]] = at + 1
                return True
            at += 1
        return False

    def cheapest(self, row: int) -> tuple[float, float, int] | None:
        """The open batch in which a row's conflicts are least likely: the likeliest one, their number, and the batch.

        None where every open batch holds one of the row's own texts.
        """
        texts, holders = self._rivals.texts(row), self._by_text()
        taken = {batch for text in texts for batch in holders.get(text, ())}
        costs: dict[int, tuple[float, float]] = {}
        for text, likely in self._rivals.conflicts(texts).items():
            for batch in holders.get(text, ()):
                worst, total = costs.get(batch, (-np.inf, 0.0))
                costs[batch] = max(worst, likely), total + 1
        best: tuple[float, float, int] | None = None
        at, compared = self._open(0), 0
        while at < len(self.rows) and compared < _COMPARED:
            if at not in taken:
                best = min(best or (np.inf, np.inf, at), (*costs.get(at, (-np.inf, 0.0)), at))
                compared += 1
            at = self._open(at + 1)
        return best

    def allow(self, row: int) -> bool:
        """Put a row where its conflicts are least likely; False where its own texts are in every open batch."""
        best = self.cheapest(row)
        if best is None:
            return False
        texts, batch = self._rivals.texts(row), best[2]
        self.allowed += sum(text in self._texts[batch] for text in self._rivals.conflicts(texts))
        self._put(row, batch, texts)
        return True

    def add(self) -> None:
        """One more batch, at the end."""
        self.rows.append([])
        self._texts.append(set())
        self._next.append(len(self.rows))

    def dissolve(self, batch: int) -> list[int]:
        """Take the rows out of a batch, which takes none any more."""
        rows, self.rows[batch], self._texts[batch] = self.rows[batch], [], set()
        self._next[batch] = batch + 1
        self._holders = None
        return rows

    def _by_text(self) -> dict[int, list[int]]:
        """The batches that hold each text."""
        if self._holders is None:
            self._holders = {}
            for batch, texts in enumerate(self._texts):
                for text in texts:
                    self._holders.setdefault(text, []).append(batch)
        return self._holders

    def _put(self, row: int, batch: int, texts: list[int]) -> None:
        self.rows[batch].append(row)
        self._texts[batch].update(texts)
        if self._holders is not None:
            for text in texts:
                self._holders.setdefault(text, []).append(batch)
        if len(self.rows[batch]) == self._size:
            self._next[batch] = batch + 1

    def _open(self, batch: int) -> int:
        """The first batch from this one on that is not full."""
        following = self._next
        while following[batch] != batch:
            following[batch] = following[following[batch]]
            batch = following[batch]
        return batch


def _reachable(n: int, size: int, share: float) -> float:
    """Rows that must lie in full batches: a share of all, or as many as full batches can hold."""
    return min(share * n, n // size * size)


def _arrange(n: int, size: int, rivals: _Rivals, rng: np.random.Generator, min_full: float) -> _Plan:
    """Full batches and, of the rows left over, smaller ones: every row once.

    Args:
        n: rows.
        size: of a full batch.
        rivals: what keeps them apart.
        rng: decides everything that the rivals leave open.
        min_full: share of the rows in full batches from which on no conflict is allowed.
    """
    starts = rng.integers(0, max(n // size, 1), len(rivals)).tolist()
    order = rivals.order(rng)
    free = rng.permutation(np.setdiff1d(np.arange(n), rivals.rows))
    plan = _placed(n, size, rivals, rng, (starts, order, free), allowing=False)
    if len(plan.full) * size >= _reachable(n, size, min_full):
        return plan
    more = _placed(n, size, rivals, rng, (starts, order, free), allowing=True)
    return more._replace(strict_share=plan.strict_share)


def _placed(
    n: int, size: int, rivals: _Rivals, rng: np.random.Generator, drawn: tuple[list[int], list[int], IntArray],
    allowing: bool,
) -> _Plan:  # fmt: skip
    starts, order, free = drawn
    batches = _Batches(n // size, size, rivals)
    left = [place for place in order if not batches.place(place, starts[place])]
    if allowing:
        left = _allowed(batches, left, n // size * size - (len(rivals) - len(left)) - len(free))
    gone, more = _dissolved(batches, size, len(free), starts)
    kept = [batch for batch in rng.permutation(n // size).tolist() if batch not in gone]
    full, used = _filled([batches.rows[batch] for batch in kept], size, free, rivals, rng)
    smaller = _Batches(0, size, rivals)
    for place in left + more:
        if not (smaller.allow(place) if allowing else smaller.place(place, 0)):
            smaller.add()
            smaller.place(place, 0)
    last, end = _filled(smaller.rows, size, free[used:], rivals, rng)
    rest = free[used + end :]
    last += [rest[start : start + size] for start in range(0, len(rest), size)]
    return _Plan(full, last, (batches.allowed, smaller.allowed), len(full) * size / n)


def _allowed(batches: _Batches, left: list[int], wanted: int) -> list[int]:
    """Place so many of the rows left over, those of the least likely conflicts first; the others."""
    costs = [(best[:2], place) for place in left if (best := batches.cheapest(place)) is not None]
    placed: set[int] = set()
    for _, place in sorted(costs):
        if len(placed) >= wanted:
            break
        if batches.allow(place):
            placed.add(place)
    return [place for place in left if place not in placed]


def _dissolved(batches: _Batches, size: int, free: int, starts: list[int]) -> tuple[set[int], list[int]]:
    """Dissolve the emptiest batches until free rows fill the others; these, and rows that found no other place."""
    sizes = np.array([len(rows) for rows in batches.rows], np.int64)
    short, gone, left = int((size - sizes).sum()) - free, set(), []
    for batch in np.argsort(sizes, kind="stable").tolist():
        if short <= 0:
            break
        gone.add(batch)
        lost = [row for row in batches.dissolve(batch) if not batches.place(row, starts[row])]
        short += len(lost) - size
        left += lost
    return gone, left


def _filled(
    batches: list[list[int]], size: int, free: IntArray, rivals: _Rivals, rng: np.random.Generator
) -> tuple[list[IntArray], int]:
    """Batches of places among the rivals as rows in random order, filled up; how many free rows they took."""
    out, used = [], 0
    for places in batches:
        more = free[used : used + size - len(places)]
        used += len(more)
        out.append(rng.permutation(np.concatenate([rivals.rows[np.array(places, np.int64)], more])))
    return out, used
