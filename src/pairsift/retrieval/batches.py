"""Places rows into batches so that no text comes twice in a batch and no two conflicting texts meet.

Rows whose texts no other row holds fit anywhere, so they are placed last. The others are placed one by one, those with
the most constraints first. The copies of a text go into consecutive batches, from a random one on. Where this leaves
too few rows in full batches, the least likely conflicts are allowed. A row that fits nowhere goes where its conflicts
weigh least. If every open batch holds a text of the row, the row takes a place in a full batch, and the row that had
the place moves to an open one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairsift.retrieval.columns import IntArray

# Batches that a row is tried in before it is left over. More would find few more places, and cost the square of N.
_TRIES = 200
# Open batches that are compared for a row which fits into none without a conflict.
_COMPARED = 1000
# Such exchanges that are compared for a row.
_EXCHANGES = 16
# A conflict weighs its rank among all, in (0, 1], to this power: a likely one more than several unlikely ones.
_POWER = 2


class Plan(NamedTuple):
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


class Constraints:
    """What keeps rows apart: texts that several rows hold, and texts in conflict.

    Args:
        keys: (N, C) int64, negative where there is none.
        conflicts: (M, 2) pairs of keys; those that no row holds do nothing.
        likely: (M,) how likely each conflict is, in any unit.

    Attributes:
        rows: rows that have constraints, the most constraints first.
    """

    def __init__(self, keys: IntArray, conflicts: IntArray, likely: NDArray[np.float64]) -> None:
        distinct, codes = np.unique(keys, return_inverse=True)
        codes = codes.reshape(keys.shape)
        codes[keys < 0] = -1
        codes = np.sort(codes, axis=1)
        codes[:, 1:][codes[:, 1:] == codes[:, :-1]] = -1  # a row is no rival of itself
        holders = np.bincount(codes[codes >= 0], minlength=len(distinct))
        ranks = np.unique(likely, return_inverse=True)[1] + 1.0
        self._links(distinct, conflicts, (ranks / max(ranks.max(initial=1.0), 1.0)) ** _POWER)
        degree = np.where(holders > 1, holders, 0) + np.diff(self._starts)
        constraints = np.where(codes >= 0, degree[codes], 0)
        most = constraints.max(axis=1, initial=0)
        rows = np.flatnonzero(most)
        self.rows: IntArray = rows[np.argsort(-most[rows], kind="stable")]
        self._degrees = most[self.rows]
        some = codes[self.rows]
        some[constraints[self.rows] == 0] = -1
        # The text with the most constraints first: its copies decide where a row may go.
        order = np.argsort(-np.where(some >= 0, constraints[self.rows], -1), axis=1, kind="stable")
        some = np.take_along_axis(some, order, 1)
        self._codes: IntArray = some[some >= 0]
        self._ends: IntArray = np.concatenate([[0], np.cumsum((some >= 0).sum(axis=1))])

    def __len__(self) -> int:
        return len(self.rows)

    def order(self, rng: np.random.Generator) -> list[int]:
        """Places of `rows`, those with the most constraints first, equal ones at random."""
        order: list[int] = np.lexsort((rng.random(len(self)), -self._degrees)).tolist()
        return order

    def texts(self, place: int) -> list[int]:
        """The texts of a row that have constraints, the one with the most first."""
        texts: list[int] = self._codes[self._ends[place] : self._ends[place + 1]].tolist()
        return texts

    def conflicts(self, texts: list[int]) -> dict[int, float]:
        """The weight of each conflict of some texts, by the other text."""
        found: dict[int, float] = {}
        for text in texts:
            some = slice(self._starts[text], self._starts[text + 1])
            for other, weight in zip(self._others[some].tolist(), self._weights[some].tolist(), strict=True):
                found[other] = found.get(other, 0.0) + weight
        return found

    def forbidden(self, texts: list[int]) -> set[int]:
        """Texts that must not be in the batch of a row of these: they themselves, and those in conflict with them."""
        found = set(texts)
        for text in texts:
            found.update(self._others[self._starts[text] : self._starts[text + 1]].tolist())
        return found

    def _links(self, distinct: IntArray, conflicts: IntArray, weights: NDArray[np.float64]) -> None:
        """For each text, the texts in conflict with it: `_others` from `_starts`, with their `_weights`."""
        held = np.isin(conflicts, distinct[distinct >= 0]).all(axis=1) & (conflicts[:, 0] != conflicts[:, 1])
        pairs = np.searchsorted(distinct, conflicts[held])
        pairs, weights = np.concatenate([pairs, pairs[:, ::-1]]), np.tile(weights[held], 2)
        order = np.lexsort((-weights, pairs[:, 1], pairs[:, 0]))
        pairs, weights = pairs[order], weights[order]
        first = np.ones(len(pairs), bool)
        first[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
        self._others: IntArray = pairs[first, 1]
        self._weights: NDArray[np.float64] = weights[first]
        self._starts: IntArray = np.searchsorted(pairs[first, 0], np.arange(len(distinct) + 1))


class _Batches:
    """`count` batches of `size` rows, filled row by row.

    Attributes:
        rows: rows of each batch that have constraints, as places in `Constraints.rows`.
    """

    def __init__(self, count: int, size: int, constraints: Constraints) -> None:
        self._size, self._constraints = size, constraints
        self.rows: list[list[int]] = [[] for _ in range(count)]
        self._texts: list[set[int]] = [set() for _ in range(count)]
        # The next batch that is not full, itself where it is not; the last is count, for none.
        self._next = list(range(count + 1))
        self._from: dict[int, int] = {}
        self._holders: dict[int, set[int]] | None = None

    def place(self, row: int, start: int) -> bool:
        """Put a row into the first batch that takes it, from where its most frequent text has not been yet.

        Args:
            row: place among the rows with constraints.
            start: batch to begin with, for a text that comes first.
        """
        texts = self._constraints.texts(row)
        forbidden, count = self._constraints.forbidden(texts), len(self.rows)
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

    def cheapest(self, row: int) -> tuple[float, int] | None:
        """The open batch in which a row's conflicts weigh least: their weight, and the batch.

        None where every open batch holds one of the row's own texts.
        """
        costs = self._costs(row)
        best: tuple[float, int] | None = None
        at, compared = self._open(0), 0
        while at < len(self.rows) and compared < _COMPARED:
            if costs.get(at, 0.0) < np.inf:
                best = min(best or (np.inf, at), (costs.get(at, 0.0), at))
                compared += 1
            at = self._open(at + 1)
        return best

    def allow(self, row: int) -> bool:
        """Put a row where its conflicts weigh least; False where its own texts are in every open batch."""
        best = self.cheapest(row)
        if best is not None:
            self._put(row, best[1], self._constraints.texts(row))
        return best is not None

    def exchange(self, row: int) -> bool:
        """Put a row into a full batch, and a row of that into an open one, where neither meets its own texts.

        Of some such exchanges the one is taken whose conflicts weigh least. False where none was found.
        """
        texts, best = self._constraints.texts(row), None
        at = self._open(0)
        if at == len(self.rows):
            return False
        costs, compared = self._costs(row), 0
        for batch in range(len(self.rows)):
            if batch == at or self._next[batch] == batch or costs.get(batch, 0.0) == np.inf:
                continue
            for place, other in enumerate(self.rows[batch]):
                moved = self._constraints.texts(other)
                if self._texts[at].isdisjoint(moved):
                    met = self._constraints.conflicts(moved)
                    cost = costs.get(batch, 0.0) + sum(met[text] for text in met.keys() & self._texts[at])
                    best = min(best or (np.inf, 0, 0), (cost, batch, place))
                    compared += 1
            if best is not None and (best[0] == 0 or compared >= _EXCHANGES):
                break
        if best is None:
            return False
        _, batch, place = best
        other = self.rows[batch].pop(place)
        moved = self._constraints.texts(other)
        self._texts[batch].difference_update(moved)
        for text in moved:
            self._by_text()[text].discard(batch)
        self._put(row, batch, texts)
        self._put(other, at, moved)
        return True

    def conflicts(self) -> int:
        """How many pairs of conflicting texts share a batch."""
        found = 0
        for batch, rows in enumerate(self.rows):
            texts = (self._constraints.texts(row) for row in rows)
            found += sum(
                len(self._constraints.conflicts([text]).keys() & self._texts[batch]) for each in texts for text in each
            )
        return found // 2

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

    def _costs(self, row: int) -> dict[int, float]:
        """Weight of a row's conflicts in each batch where there are some; infinite where one of its own texts is."""
        texts, holders = self._constraints.texts(row), self._by_text()
        costs: dict[int, float] = {}
        for text, weight in self._constraints.conflicts(texts).items():
            for batch in holders.get(text, ()):
                costs[batch] = costs.get(batch, 0.0) + weight
        return costs | {batch: np.inf for text in texts for batch in holders.get(text, ())}

    def _by_text(self) -> dict[int, set[int]]:
        """The batches that hold each text."""
        if self._holders is None:
            self._holders = {}
            for batch, texts in enumerate(self._texts):
                for text in texts:
                    self._holders.setdefault(text, set()).add(batch)
        return self._holders

    def _put(self, row: int, batch: int, texts: list[int]) -> None:
        self.rows[batch].append(row)
        self._texts[batch].update(texts)
        if self._holders is not None:
            for text in texts:
                self._holders.setdefault(text, set()).add(batch)
        if len(self.rows[batch]) >= self._size:
            self._next[batch] = batch + 1

    def _open(self, batch: int) -> int:
        """The first batch from this one on that is not full."""
        following = self._next
        while following[batch] != batch:
            following[batch] = following[following[batch]]
            batch = following[batch]
        return batch


def reachable(n: int, size: int, share: float) -> float:
    """Rows that must lie in full batches: a share of all, or as many as full batches can hold."""
    return min(share * n, n // size * size)


def arrange(n: int, size: int, constraints: Constraints, rng: np.random.Generator, min_full: float) -> Plan:
    """Full batches and, of the rows left over, smaller ones: every row once.

    Args:
        n: rows.
        size: of a full batch.
        constraints: keep rows apart.
        rng: decides everything that the constraints leave open.
        min_full: share of the rows in full batches from which on no conflict is allowed.
    """
    starts = rng.integers(0, max(n // size, 1), len(constraints)).tolist()
    order = constraints.order(rng)
    free = rng.permutation(np.setdiff1d(np.arange(n), constraints.rows))
    plan = _placed(n, size, constraints, rng, (starts, order, free), allowing=False)
    if len(plan.full) * size >= reachable(n, size, min_full):
        return plan
    more = _placed(n, size, constraints, rng, (starts, order, free), allowing=True)
    return more._replace(strict_share=plan.strict_share)


def _placed(
    n: int, size: int, constraints: Constraints, rng: np.random.Generator, drawn: tuple[list[int], list[int], IntArray],
    allowing: bool,
) -> Plan:  # fmt: skip
    starts, order, free = drawn
    batches = _Batches(n // size, size, constraints)
    left = [place for place in order if not batches.place(place, starts[place])]
    if allowing:
        left = _allowed(batches, left, n // size * size - (len(constraints) - len(left)) - len(free))
    gone, more = _dissolved(batches, size, len(free), starts)
    kept = [batch for batch in rng.permutation(n // size).tolist() if batch not in gone]
    full, used = _filled([batches.rows[batch] for batch in kept], size, free, constraints, rng)
    smaller = _Batches(0, size, constraints)
    for place in left + more:
        if not (smaller.allow(place) if allowing else smaller.place(place, 0)):
            smaller.add()
            smaller.place(place, 0)
    last, end = _filled(smaller.rows, size, free[used:], constraints, rng)
    rest = free[used + end :]
    last += [rest[start : start + size] for start in range(0, len(rest), size)]
    allowed = (batches.conflicts(), smaller.conflicts()) if allowing else (0, 0)
    return Plan(full, last, allowed, len(full) * size / n)


def _allowed(batches: _Batches, left: list[int], wanted: int) -> list[int]:
    """Place `wanted` of the rows left over, least likely conflicts first; returns the others."""
    costs = [(best[0], place) for place in left if (best := batches.cheapest(place)) is not None]
    placed: set[int] = set()
    for _, place in sorted(costs):
        if len(placed) >= wanted:
            break
        if batches.allow(place):
            placed.add(place)
    for place in left:
        if len(placed) >= wanted:
            break
        if place not in placed and batches.exchange(place):
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
    batches: list[list[int]], size: int, free: IntArray, constraints: Constraints, rng: np.random.Generator
) -> tuple[list[IntArray], int]:
    """Batches of places among the constraints as rows in random order, filled up; how many free rows they took."""
    out, used = [], 0
    for places in batches:
        more = free[used : used + size - len(places)]
        used += len(more)
        out.append(rng.permutation(np.concatenate([constraints.rows[np.array(places, np.int64)], more])))
    return out, used
