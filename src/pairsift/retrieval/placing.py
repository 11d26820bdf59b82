"""Which row goes into which batch, so that no two rows of a batch share a text or hold texts in conflict.

Rows whose texts are nobody else's fit anywhere and are placed last, at once. The others are placed first, one by one:
those with the most rivals first, each text's copies in consecutive batches from a random one on, so that the next copy
starts where no earlier one is. What finds no place is left over.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

# Batches that a row is tried in before it is left over: more would find few more places, and cost the square of N.
_TRIES = 200


class Rivals:
    """What keeps rows apart: texts that several rows hold, and texts in conflict.

    Args:
        keys: (N, C) int64, negative where there is none.
        conflicts: (M, 2) pairs of keys; those that no row holds do nothing.

    Attributes:
        rows: rows that have rivals, the most rivals first.
    """

    def __init__(self, keys: IntArray, conflicts: IntArray) -> None:
        distinct, codes = np.unique(keys, return_inverse=True)
        codes = codes.reshape(keys.shape)
        codes[keys < 0] = -1
        codes = np.sort(codes, axis=1)
        codes[:, 1:][codes[:, 1:] == codes[:, :-1]] = -1  # a row is no rival of itself
        holders = np.bincount(codes[codes >= 0], minlength=len(distinct))
        self._links(distinct, conflicts)
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

    def forbidden(self, texts: list[int]) -> set[int]:
        """Texts that must not be in the batch of a row of these: they themselves, and those in conflict with them."""
        found = set(texts)
        for text in texts:
            found.update(self._others[self._starts[text] : self._starts[text + 1]].tolist())
        return found

    def _links(self, distinct: IntArray, conflicts: IntArray) -> None:
        """For each text, the texts in conflict with it: `_others` from `_starts`."""
        held = np.isin(conflicts, distinct[distinct >= 0]).all(axis=1) & (conflicts[:, 0] != conflicts[:, 1])
        pairs = np.searchsorted(distinct, conflicts[held])
        pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
        self._others: IntArray = pairs[:, 1]
        self._starts: IntArray = np.searchsorted(pairs[:, 0], np.arange(len(distinct) + 1))


class Batches:
    """`count` batches of `size` rows, filled row by row.

    Attributes:
        rows: rows of each batch that have rivals.
    """

    def __init__(self, count: int, size: int, rivals: Rivals) -> None:
        self._size, self._rivals = size, rivals
        self.rows: list[list[int]] = [[] for _ in range(count)]
        self._texts: list[set[int]] = [set() for _ in range(count)]
        # The next batch that is not full, itself where it is not; the last is count, for none.
        self._next = list(range(count + 1))
        self._from: dict[int, int] = {}

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

    def add(self) -> None:
        """One more batch, at the end."""
        self.rows.append([])
        self._texts.append(set())
        self._next.append(len(self.rows))

    def dissolve(self, batch: int) -> list[int]:
        """Take the rows out of a batch, which takes none any more."""
        rows, self.rows[batch], self._texts[batch] = self.rows[batch], [], set()
        self._next[batch] = batch + 1
        return rows

    def _put(self, row: int, batch: int, texts: list[int]) -> None:
        self.rows[batch].append(row)
        self._texts[batch].update(texts)
        if len(self.rows[batch]) == self._size:
            self._next[batch] = batch + 1

    def _open(self, batch: int) -> int:
        """The first batch from this one on that is not full."""
        following = self._next
        while following[batch] != batch:
            following[batch] = following[following[batch]]
            batch = following[batch]
        return batch


def arrange(n: int, size: int, rivals: Rivals, rng: np.random.Generator) -> tuple[list[IntArray], list[IntArray]]:
    """Full batches and, of what is left over, smaller ones: every row once.

    Args:
        n: rows.
        size: of a full batch.
        rivals: what keeps them apart.
        rng: decides everything that the rivals leave open.
    """
    batches = Batches(n // size, size, rivals)
    starts = rng.integers(0, max(n // size, 1), len(rivals)).tolist()
    left = [place for place in rivals.order(rng) if not batches.place(place, starts[place])]
    free = rng.permutation(np.setdiff1d(np.arange(n), rivals.rows))
    gone, more = _dissolved(batches, size, len(free), starts)
    kept = [batch for batch in rng.permutation(n // size).tolist() if batch not in gone]
    full, used = _filled([batches.rows[batch] for batch in kept], size, free, rivals, rng)
    smaller = Batches(0, size, rivals)
    for place in left + more:
        if not smaller.place(place, 0):
            smaller.add()
            smaller.place(place, 0)
    last, end = _filled(smaller.rows, size, free[used:], rivals, rng)
    rest = free[used + end :]
    return full, last + [rest[start : start + size] for start in range(0, len(rest), size)]


def _dissolved(batches: Batches, size: int, free: int, starts: list[int]) -> tuple[set[int], list[int]]:
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
    batches: list[list[int]], size: int, free: IntArray, rivals: Rivals, rng: np.random.Generator
) -> tuple[list[IntArray], int]:
    """Batches of places among the rivals as rows in random order, filled up; how many free rows they took."""
    out, used = [], 0
    for places in batches:
        more = free[used : used + size - len(places)]
        used += len(more)
        out.append(rng.permutation(np.concatenate([rivals.rows[np.array(places, np.int64)], more])))
    return out, used
