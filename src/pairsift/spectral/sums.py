"""Sums over all pairs, and over the parts that the choice of settings leaves out: in this process, or in Ray tasks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairsift._base.process import on_ray
from pairsift.spectral.checks import Log
from pairsift.spectral.choice import FEWEST_HELD, MOST_FOLDS, MOST_HELD, Candidates, Grid, row_keys
from pairsift.spectral.errors import SpectralError
from pairsift.spectral.moments import Array, Moments
from pairsift.spectral.streams import BLOCK, PairStream

# Up to this width there are several folds; wider matrices take more time than the noise of one fold is worth.
_FOLDED = 1024
# Tasks that a core of a Ray cluster gets, so that slow ones hold up little.
_TASKS = 3
# Shorter passes need no word about the time left.
_SHORT = 5.0


@dataclass(frozen=True)
class Sums:
    """Sums of all pairs, and for every fold of the pairs that share a row with its held-out ones."""

    total: Moments
    shared: list[Moments]

    def merge(self, other: Sums) -> Sums:
        """Add the sums of another part."""
        self.total.merge(other.total)
        for mine, theirs in zip(self.shared, other.shared, strict=True):
            mine.merge(theirs)
        return self

    def rest(self, fold: int) -> Moments:
        """Sums of the pairs that share no row with the held-out ones of a fold.

        Raises:
            SpectralError: nearly all pairs share a row with a held-out one.
        """
        left = self.total.count - self.shared[fold].count
        if left < 2 or left < self.total.count / 10:
            raise SpectralError(
                f"nearly all pairs share a row with a held-out one ({left:,} of {self.total.count:,} do not), so none "
                "are left to choose settings with: lower `held_out`, or give `dimensions`, `ridge` and `power` with "
                "`held_out=0`"
            )
        return self.total.without(self.shared[fold])


@dataclass(frozen=True)
class Pass:
    """One pass over pairs.

    Attributes:
        stream: N pairs.
        kept: (N,) which pairs are summed.
        held: the held-out pairs of every fold.
    """

    stream: PairStream
    kept: NDArray[np.bool_]
    held: list[Candidates]

    def sums(self, start: int = 0, stop: int | None = None, log: Log | None = None) -> Sums:
        """Sums of the pairs from `start` to `stop`, read block by block.

        Args:
            start: first pair, a multiple of `BLOCK`.
            stop: end; None reads to the last pair.
            log: told at every tenth how long the rest takes.

        Raises:
            SpectralError: a row is not finite.
        """
        found = Sums(self.stream.moments(), [self.stream.moments() for _ in self.held])
        tell = _TimeLeft(log, self.stream.rows)
        for at, a, b in self.stream.blocks(start, stop):
            tell(at + len(a))
            numbers = np.arange(at, at + len(a))
            inside = self.kept[at : at + len(a)]
            if not inside.all():
                numbers, a, b = numbers[inside], a[inside], b[inside]
            if not len(a):
                continue
            _add(found.total, a, b, at)
            for part, chosen in zip(found.shared, self._shared(found.total.views, numbers, a, b), strict=True):
                if chosen.any():
                    _add(part, a[chosen], b[chosen], at)
        return found

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
            found = Sums(self.stream.moments(), [self.stream.moments() for _ in self.held])
            try:
                for ref in refs:
                    found.merge(ray.get(ref))
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, (SpectralError, OSError)):
                    raise error.cause from None
                raise
        return found

    def _shared(self, views: bool, numbers: NDArray[np.int64], a: Array, b: Array) -> Iterator[NDArray[np.bool_]]:
        """For every fold (n,) which of the pairs share a row with a held-out one."""
        if not self.held:
            return
        keys = (row_keys(a[:, 0]), row_keys(a[:, 1])) if views else (row_keys(a), row_keys(b))
        for each in self.held:
            yield np.isin(numbers, each.rows) | each.shares_rows(*keys)


def _part(work: Pass, start: int, stop: int) -> Sums:
    return work.sums(start, stop)


def held_pairs(
    stream: PairStream, kept: NDArray[np.bool_], share: float, seed: int, towers: int, grid: Grid
) -> list[Candidates]:  # fmt: skip
    """The held-out pairs of every fold; with few pairs there are more folds, so that the choice has enough of them.

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
    return [Candidates(*stream.pairs(each), same_space=towers == 1, rows=each) for each in drawn]


def _add(part: Moments, a: Array, b: Array, start: int) -> None:
    if part.views:
        part.add_views(a, start)
    else:
        part.add_pairs(a, b, start)


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
