"""`DistinctBatchSampler`: batches without two rows of the same text, or of texts that must not meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import BatchSampler

from pairsift._base.checks import first_line
from pairsift.data import DataError
from pairsift.data.tables import DAMAGE, read_table
from pairsift.pairs import text_keys
from pairsift.retrieval.placing import Rivals, arrange

if TYPE_CHECKING:
    from pairsift.retrieval.result import InspectedPairs

IntArray = NDArray[np.int64]


class DistinctBatchSampler(BatchSampler):
    """Batches of rows in which no text comes twice and no two texts are in conflict, in no column.

    Every row comes once an epoch, in random order decided by `seed` and the epoch. All batches are full but those at
    the end: rows that fit into none, of a text that has more rows than there are batches say, come in smaller ones, or
    with `drop_last` not at all. What a batch holds is found by hash sets when an epoch begins, in time that grows as
    the rows do.

    Each pass is an epoch: after a whole one the next begins, and `set_epoch` sets it, as loops of transformers and
    sentence-transformers do. Give it to ``DataLoader(batch_sampler=...)``, or see `for_trainer`. Over several processes
    each batch is without duplicates; what processes gather from each other is not.

    Args:
        keys: (N, C) integers, a column each of anchors, positives and negatives; equal where texts are, as from
            `text_keys`; negative where there is none.
        batch_size: B, rows of a batch, at least 1.
        conflicts: (M, 2) pairs of keys that must not meet in a batch; None for none.
        drop_last: leave out the smaller batches at the end.
        seed: at least 0.

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
        self, keys: ArrayLike, batch_size: int, *, conflicts: ArrayLike | None = None, drop_last: bool = False,
        seed: int = 0,
    ) -> None:  # fmt: skip
        numbers = np.asarray(keys)
        if numbers.ndim != 2 or numbers.dtype.kind not in "iu" or 0 in numbers.shape:
            raise ValueError(f"keys must be (N, C) integers, got {numbers.dtype} {numbers.shape}: see `text_keys`")
        pairs = np.zeros((0, 2), np.int64) if conflicts is None else np.asarray(conflicts)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            raise ValueError(f"conflicts must be (M, 2) pairs of keys, got {pairs.dtype} {pairs.shape}")
        for name, number, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
            if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {number!r}")
        super().__init__(range(len(numbers)), int(batch_size), drop_last)
        self.seed, self.epoch = int(seed), 0
        self._rivals = Rivals(numbers.astype(np.int64), pairs.astype(np.int64))
        self._planned: tuple[int, list[IntArray]] | None = None

    @classmethod
    def from_texts(cls, *columns: Sequence[str | None], batch_size: int, **options: Any) -> DistinctBatchSampler:
        """A sampler of texts.

        Args:
            columns: N texts each; None where there is none.
            batch_size: see the class.
            **options: `conflicts`, `drop_last` and `seed` of the class.

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
        cls, found: InspectedPairs | Path | str, batch_size: int, **options: Any
    ) -> DistinctBatchSampler:
        """A sampler of the rows of clean.parquet that keeps duplicates and all conflicts that were found apart.

        Args:
            found: what `inspect_pairs` gave, or the folder that it wrote.
            batch_size: see the class.
            **options: `drop_last` and `seed` of the class.

        Raises:
            DataError: a folder without an inspection.
            ValueError: see the class.
        """
        rows, conflicts = _tables(found)
        return cls(_row_keys(rows), batch_size, conflicts=_pairs(conflicts), **options)

    @classmethod
    def for_trainer(
        cls, found: InspectedPairs | Path | str | None = None, columns: Sequence[str] | None = None
    ) -> Callable[..., DistinctBatchSampler]:
        """What `SentenceTransformerTrainingArguments` takes as `batch_sampler`.

        Args:
            found: see `from_inspection`; the data trained on must then be the rows of clean.parquet in their order.
                None compares texts only.
            columns: of texts; None takes all columns of strings. Not used with an inspection.

        Returns:
            A function of a data set, batch size and what else the trainer gives, which raises ValueError where the data
            set has not as many rows as the inspection, or no texts.
        """

        def make(
            dataset: Any, batch_size: int, drop_last: bool = False, valid_label_columns: Sequence[str] | None = None,
            generator: Any = None, seed: int = 0,
        ) -> DistinctBatchSampler:  # fmt: skip
            if found is None:
                names = _text_columns(dataset) if columns is None else columns
                texts = [dataset[name] for name in names if name not in (valid_label_columns or ())]
                return cls.from_texts(*texts, batch_size=batch_size, drop_last=drop_last, seed=seed)
            sampler = cls.from_inspection(found, batch_size, drop_last=drop_last, seed=seed)
            if len(dataset) != len(sampler.sampler):  # type: ignore[arg-type]
                raise ValueError(
                    f"the data set has {len(dataset):,} rows, the inspection left {len(sampler.sampler):,}: "  # type: ignore[arg-type]
                    "train on clean.parquet, in its order"
                )
            return sampler

        return make

    def set_epoch(self, epoch: int) -> None:
        """Begin this epoch, counted from 0, with the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        epoch = self.epoch
        for batch in self._plan():
            yield batch.tolist()
        if self.epoch == epoch:
            self.epoch = epoch + 1

    def __len__(self) -> int:
        return len(self._plan())

    def _plan(self) -> list[IntArray]:
        if self._planned is None or self._planned[0] != self.epoch:
            rng = np.random.default_rng([self.seed, self.epoch])
            full, smaller = arrange(len(self.sampler), self.batch_size, self._rivals, rng)  # type: ignore[arg-type]
            self._planned = self.epoch, full if self.drop_last else full + smaller
        return self._planned[1]


def _keys(column: Sequence[str | None]) -> IntArray:
    texts = list(column)
    there = np.array([text is not None for text in texts], bool)
    keys = np.full(len(texts), -1, np.int64)
    keys[there] = text_keys(text for text in texts if text is not None)
    return keys


def _text_columns(dataset: Any) -> list[str]:
    """Columns of strings of a Hugging Face data set."""
    found = [
        name for name, kind in dataset.features.items() if getattr(kind, "dtype", None) in ("string", "large_string")
    ]
    if not found:
        raise ValueError(f"the data set has no column of strings; its columns: {', '.join(dataset.features)}")
    return found


def _tables(found: InspectedPairs | Path | str) -> tuple[pa.Table, pa.Table]:
    if not isinstance(found, (str, Path)):
        return found.rows, found.conflicts
    try:
        rows, conflicts = (read_table(Path(found, f"{name}.parquet")) for name in ("rows", "conflicts"))
    except DAMAGE as error:
        raise DataError(
            f"{found} holds no inspection of pairs, as `pairsift pairs` writes it: {first_line(error)}"
        ) from error
    return rows, conflicts


def _row_keys(rows: pa.Table) -> IntArray:
    """(N, C) keys of the kept rows, filled with -1."""
    rows = rows.filter(rows["kept"])
    keys = [rows[name].to_numpy() for name in ("anchor_key", "positive_key")]
    if "negative_keys" in rows.column_names:
        lists = rows["negative_keys"].combine_chunks()
        counts = np.asarray(lists.value_lengths())
        wide = np.full((len(rows), int(counts.max(initial=0))), -1, np.int64)
        wide[np.arange(wide.shape[1]) < counts[:, None]] = lists.flatten().to_numpy()
        keys += list(wide.T)
    return np.stack(keys, axis=1).astype(np.int64)


def _pairs(conflicts: pa.Table) -> IntArray:
    return np.stack([conflicts[name].to_numpy() for name in ("key", "other_key")], axis=1).astype(np.int64)
