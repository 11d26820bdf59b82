"""Sums over all pairs, and over the parts that the choice of settings leaves out: in this process, or in Ray tasks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairsift._base.process import on_ray
from pairsift.spectral.checks import Log
from pairsift.spectral.choice import FEWEST_HELD, MOST_FOLDS, MOST_HELD, Candidates, Fold, Grid, row_keys
from pairsift.spectral.errors import SpectralError
from pairsift.spectral.moments import Array, Moments
from pairsift.spectral.streams import BLOCK, PairStream, sides_of

# Up to this width there are several folds; wider matrices take more time than the noise of one fold is worth.
_FOLDED = 1024
# Tasks that a core of a Ray cluster gets, so that slow ones hold up little.
_TASKS = 3
# Shorter passes need no word about the time left.
_SHORT = 5.0


@dataclass(frozen=True)
class Sums:
    """Sums of pairs, and what folds need of them.

    Attributes:
        total: sums of all n pairs that were read.
        numbers: (n,) numbers of these pairs.
        keys: (n,) `row_keys` of both sides; none where nothing is held out.
        held: for every fold both sides of its held-out pairs among them, as in a block.
    """

    total: Moments
    numbers: NDArray[np.int64]
    keys: tuple[NDArray[np.uint64], NDArray[np.uint64]]
    held: list[tuple[Array, Array]]


def merged(total: Moments, parts: Iterable[Sums]) -> Sums:
    """The sums of several parts, given in the order of the pairs, added to `total`."""
    numbers, first_keys, second_keys, held = [], [], [], []
    for part in parts:
        total.merge(part.total)
        numbers.append(part.numbers)
        first_keys.append(part.keys[0])
        second_keys.append(part.keys[1])
        held.append(part.held)
    keys = np.concatenate(first_keys), np.concatenate(second_keys)
    return Sums(total, np.concatenate(numbers), keys, [_joined(each) for each in zip(*held, strict=True)])


@dataclass(frozen=True)
class Pass:
    """One pass over pairs.

    Attributes:
        stream: N pairs.
        kept: (N,) which pairs are summed.
        held: numbers of the held-out pairs of every fold, in ascending order.
    """

    stream: PairStream
    kept: NDArray[np.bool_]
    held: list[NDArray[np.int64]]

    def sums(self, start: int = 0, stop: int | None = None, log: Log | None = None) -> Sums:
        """Sums of the pairs from `start` to `stop`, read block by block.

        Args:
            start: first pair, a multiple of `BLOCK`.
            stop: end; None reads to the last pair.
            log: told at every tenth how long the rest takes.

        Raises:
            SpectralError: a row is not finite.
        """
        total, tell = self.stream.moments(), _TimeLeft(log, self.stream.rows)
        numbers, keys = [np.empty(0, np.int64)], [(np.empty(0, np.uint64),) * 2]
        found: list[list[tuple[Array, Array]]] = [[] for _ in self.held]
        for at, a, b in self.stream.blocks(start, stop):
            tell(at + len(a))
            for parts, rows in zip(found, self.held, strict=True):
                own = rows[np.searchsorted(rows, at) : np.searchsorted(rows, at + len(a))] - at
                parts.append((a[own], b[own]))
            inside = self.kept[at : at + len(a)]
            if not inside.all():
                a, b = a[inside], b[inside]
            if len(a):
                numbers.append(at + np.flatnonzero(inside))
                _add(total, a, b, numbers[-1])
                if self.held:
                    first, second = sides_of(a, b)
                    keys.append((row_keys(first), row_keys(second)))
        both = np.concatenate([each[0] for each in keys]), np.concatenate([each[1] for each in keys])
        return Sums(total, np.concatenate(numbers), both, [_joined(parts) for parts in found])

    def on_ray(self, address: str | None) -> Sums:
        """The same sums from Ray tasks, each over its own span of pairs; they are merged in the order of the pairs.

        Workers read files themselves. Arrays in memory travel to them.

        Args:
            address: of a cluster, see `_base.process.on_ray`.

        Raises:
            MissingExtraError: Ray is not installed.
            SpectralError: there is no such cluster, or a row is not finite.
        """
        with on_ray(address, {}, SpectralError) as ray:
            shared = ray.put(self)
            tasks = _TASKS * max(1, int(ray.cluster_resources().get("CPU", 1)))
            span = BLOCK * max(1, -(-self.stream.rows // (BLOCK * tasks)))
            part = ray.remote(_part)
            refs = [
                part.remote(shared, start, min(start + span, self.stream.rows))
                for start in range(0, self.stream.rows, span)
            ]
            try:
                return merged(self.stream.moments(), (ray.get(ref) for ref in refs))
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, (SpectralError, OSError)):
                    raise error.cause from None
                raise

    def fold(self, sums: Sums, number: int, towers: int) -> Fold:
        """The held-out pairs of a fold, and covariances of the pairs that share no row with them.

        Only pairs that share a row with held-out ones and are none of these are read again.

        Raises:
            SpectralError: nearly all pairs share a row with a held-out one.
        """
        rows, (a, b) = self.held[number], sums.held[number]
        held = Candidates(*sides_of(a, b), same_space=towers == 1, rows=rows)
        alike = np.setdiff1d(sums.numbers[held.shares_rows(*sums.keys)], rows)
        part = self.stream.moments()
        _add(part, a, b)
        for start in range(0, len(alike), BLOCK):
            _add(part, *self.stream.taken(alike[start : start + BLOCK]))
        left = sums.total.count - part.count
        if left < 2 or left < sums.total.count / 10:
            raise SpectralError(
                f"nearly all pairs share a row with a held-out one ({left:,} of {sums.total.count:,} do not), so none "
                "are left to choose settings with: lower `held_out`, or give `dimensions`, `ridge` and `power` with "
                "`held_out=0`"
            )
        return Fold(sums.total.without(part).covariances(towers), held, left)


def _joined(parts: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Both sides of several blocks; views of examples stay one array."""
    first = np.concatenate([a for a, _ in parts])
    return first, first if first.ndim == 3 else np.concatenate([b for _, b in parts])


def _part(work: Pass, start: int, stop: int) -> Sums:
    return work.sums(start, stop)


def held_pairs(
    stream: PairStream, kept: NDArray[np.bool_], share: float, seed: int, grid: Grid
) -> list[NDArray[np.int64]]:  # fmt: skip
    """Numbers of the held-out pairs of every fold; few pairs have more folds, so that the choice has enough of them.

    Raises:
        SpectralError: too few pairs to choose settings on.
    """
    rows = np.flatnonzero(kept)
    count = min(MOST_HELD, round(share * len(rows)))
    if count < FEWEST_HELD:
        if grid.single:
            return []
        raise SpectralError(
            f"{len(rows):,} pairs leave {count} to choose settings on, and {FEWEST_HELD} are needed: give more pairs, "
            "a larger `held_out`, or `dimensions`, `ridge` and `power`"
        )
    folds = min(MOST_FOLDS, -(-MOST_HELD // count), len(rows) // count) if max(stream.widths) <= _FOLDED else 1
    drawn = np.sort(np.random.default_rng(seed).choice(rows, (folds, count), replace=False), axis=1)
    return list(drawn)


def _add(part: Moments, a: Array, b: Array, numbers: NDArray[np.int64] | None = None) -> None:
    if part.views:
        part.add_views(a, numbers)
    else:
        part.add_pairs(a, b, numbers)


class _TimeLeft:
    """Tells at every tenth of a long pass how long the rest takes.

    Args:
        log: called with a line of text; None tells nothing.
        total: of what there is to read.
    """

    def __init__(self, log: Log | None, total: int) -> None:
        self._log, self._total, self._tenths, self._started = log, total, 0, time.perf_counter()

    def __call__(self, done: int) -> None:
        tenths, passed = 10 * done // self._total, time.perf_counter() - self._started
        if self._log is None or tenths <= self._tenths or done >= self._total or passed < _SHORT:
            return
        self._tenths = tenths
        left = passed * (self._total - done) / done
        self._log(f"read {done:,} of {self._total:,}, about {left:,.0f} s left")
