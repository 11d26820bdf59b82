"""Who is paired with whom: texts by number, each row's pair, what is known as positive of what, and what repeats."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pairsift.retrieval.cells import Cells, IntArray, State


@dataclass(frozen=True)
class Mined:
    """M mined negatives of usable rows, column by column.

    Attributes:
        pairs: (M,) which pair's.
        texts: (M,) number of the text.
        columns: (M,) column, counted among those of negatives.
        cells: (M,) number of the cell in its column.
        places: (M,) place in the row's list; 0 where a cell is one text.
    """

    pairs: IntArray
    texts: IntArray
    columns: IntArray
    cells: IntArray
    places: IntArray


@dataclass(frozen=True)
class Pairing:
    """The n usable rows of a table, those with an anchor and a positive; texts are numbered as they first appear.

    Attributes:
        rows: (n,) row of each pair in the table.
        anchors, positives: (n,) numbers of texts.
        mined: their negatives.
        keys: (T,) key of each text.
        first_cells: (T,) cell that holds a text first, counted over all columns in their order.
    """

    rows: IntArray
    anchors: IntArray
    positives: IntArray
    mined: Mined
    keys: IntArray
    first_cells: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_texts(self) -> int:
        """Number of different texts."""
        return len(self.keys)

    @cached_property
    def codes(self) -> IntArray:
        """Different (anchor, positive) pairs as one number each, ascending: anchor * n_texts + positive."""
        return np.unique(self.code(self.anchors, self.positives))

    @cached_property
    def carriers(self) -> IntArray:
        """(T,) how many rows have a text as their positive."""
        return np.bincount(self.positives, minlength=self.n_texts)

    @cached_property
    def candidates(self) -> IntArray:
        """Different positives, ascending."""
        return np.flatnonzero(self.carriers)

    def code(self, anchors: IntArray, texts: IntArray) -> IntArray:
        """Pairs of texts as one number each."""
        return np.asarray(anchors * np.int64(self.n_texts) + texts)

    def identical(self, anchors: IntArray, texts: IntArray) -> NDArray[np.bool_]:
        """Where a text is the anchor itself, or in some row a known positive of it."""
        return np.asarray(self._paired(anchors, texts) | (anchors == texts))

    def known(self, anchors: IntArray) -> tuple[IntArray, IntArray]:
        """Place among `anchors` and text of everything that is identical to each in the sense of `identical`."""
        low, high = (np.searchsorted(self.codes, self.code(anchors + more, 0 * anchors)) for more in (0, 1))
        places = np.repeat(np.arange(len(anchors)), high - low)
        within = np.arange(len(places)) - np.repeat(np.cumsum(high - low) - (high - low), high - low)
        texts = self.codes[low[places] + within] % self.n_texts
        alone = np.flatnonzero(~self._paired(anchors, anchors))
        return np.concatenate([places, alone]), np.concatenate([texts, anchors[alone]])

    @cached_property
    def twins(self) -> IntArray:
        """(n,) how many other rows have a positive that is identical to a row's anchor or to a known positive of it."""
        owners = self.codes // self.n_texts
        weights = self.carriers[self.codes % self.n_texts]
        total = np.bincount(owners, weights, self.n_texts).astype(np.int64)
        own = np.arange(self.n_texts)
        total += np.where(self._paired(own, own), 0, self.carriers)
        return np.asarray(total[self.anchors] - 1)

    def _paired(self, anchors: IntArray, texts: IntArray) -> NDArray[np.bool_]:
        """Where some row has this pair of texts."""
        codes = self.code(anchors, texts)
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.asarray(self.codes[at] == codes)


def pair_up(anchors: Cells, positives: Cells, negatives: list[Cells]) -> Pairing:
    """Number the texts of all rows that have both an anchor and a positive."""
    usable = (anchors.states == State.FINE) & (positives.states == State.FINE)
    rows = np.flatnonzero(usable)
    place = np.cumsum(usable) - 1
    fine = [np.flatnonzero((each.states == State.FINE) & usable[each.rows]) for each in negatives]
    columns = [(anchors, rows), (positives, rows), *zip(negatives, fine, strict=True)]
    offsets = np.concatenate([[0], np.cumsum([len(each.keys) for each, _ in columns])]).astype(np.int64)
    cells = np.concatenate([offset + chosen for offset, (_, chosen) in zip(offsets, columns, strict=False)])
    keys = np.concatenate([each.keys[chosen] for each, chosen in columns])
    distinct, first, numbers = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    numbers = rank[numbers]
    n = len(rows)
    mined = Mined(
        np.concatenate([place[each.rows[chosen]] for each, chosen in columns[2:]] or [rows[:0]]), numbers[2 * n :],
        np.repeat(np.arange(len(fine)), [len(each) for each in fine]), np.concatenate([*fine, rows[:0]]),
        np.concatenate([chosen - np.searchsorted(each.rows, each.rows[chosen]) for each, chosen in columns[2:]]
                       or [rows[:0]]),
    )  # fmt: skip
    return Pairing(rows, numbers[:n], numbers[n : 2 * n], mined, distinct[order], cells[first[order]])
