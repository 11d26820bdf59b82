"""The choice of ridge, width and power on held-out pairs, without labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from pairsift.spectral.errors import TooWideError
from pairsift.spectral.moments import Array, Covariances, Float64
from pairsift.spectral.solution import solve

RIDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
POWERS = (0.5, 1.0)
# Widths are powers of two: from 2^3 on, and from 1 on where there are few directions.
_FIRST, _NARROW = 3, 16
# Held-out pairs that are ranked at once, the fewest that a choice can be made on, and the most folds.
MOST_HELD, FEWEST_HELD, MOST_FOLDS = 2048, 20, 3
_Z = 1.96

IntArray = NDArray[np.int64]
Criterion: TypeAlias = Literal["rank", "loss"]
Key: TypeAlias = tuple[float, int, float]
T = TypeVar("T", int, float)
Choices: TypeAlias = T | Sequence[T] | None
"""One value, several to choose from, or None for the usual ones."""


@dataclass(frozen=True)
class Setting:
    """One setting of a map, and how it does on held-out pairs.

    Attributes:
        ridge: see `SpectralMap`.
        dimensions: width k.
        power: see `SpectralMap`.
        score: by rank, mean of -log(rank) of the held-out pairs' own positives, 0 is perfect; by loss, minus the loss.
        behind: how far the score is below that of the best setting, a mean of paired differences.
        error: standard error of that mean.
    """

    ridge: float
    dimensions: int
    power: float
    score: float
    behind: float = 0.0
    error: float = 0.0

    @property
    def values(self) -> tuple[int, float, float]:
        """Dimensions, ridge and power."""
        return self.dimensions, self.ridge, self.power


@dataclass(frozen=True)
class Ranking:
    """How high the own positives of held-out pairs rank, with 95 % intervals (half widths).

    Attributes:
        mrr: mean reciprocal rank, in [0, 1].
        mrr_interval: its half width.
        recall10: share of own positives among the ten most similar, in [0, 1].
        recall10_interval: its half width.
    """

    mrr: float
    mrr_interval: float
    recall10: float
    recall10_interval: float

    @classmethod
    def of(cls, ranks: IntArray) -> Ranking:
        """The summary of (H,) ranks, counted from 1."""
        reciprocal, near = 1 / ranks, (ranks <= 10).astype(float)
        half = _Z / math.sqrt(len(ranks))
        return cls(
            float(reciprocal.mean()), half * float(reciprocal.std()), float(near.mean()), half * float(near.std())
        )


@dataclass(frozen=True)
class HeldOut:
    """What held-out pairs said: the settings that were tried, the chosen one, and how much of the spectrum holds.

    Attributes:
        pairs: held-out pairs, of all folds.
        left_out: training pairs that a fold leaves out because they share a row with its held-out ones, on average.
        criterion: "rank" or "loss", which the settings were compared by.
        chosen: the setting taken, for as many pairs as a fold is fitted to.
        ridge: of the fit to all pairs. The noise of a sample falls as one over its size, and so does a chosen ridge.
        alike: settings of its width and power within 1.96 standard errors of the best; its ridge is their mean.
        settings: all that were tried, best first.
        eigenvalues: (k,) of the fits without the held-out pairs, means over folds.
        correlations: (k,) of the same directions on the held-out pairs; a sample's own values are too high.
        adapted: ranking by the maps that were fitted without the held-out pairs.
        frozen: ranking by the features themselves; None where both sides have different widths.
        gain: mean difference of reciprocal ranks, adapted less frozen, and its 95 % half width; None as `frozen`.
        first_hits: (H, 3) numbers of pairs of the first fold: the query's own, the pair whose second side is most
            similar by the features themselves, and by the map. None as `frozen`.
    """

    pairs: int
    left_out: int
    criterion: Criterion
    chosen: Setting
    ridge: float
    alike: tuple[Setting, ...]
    settings: tuple[Setting, ...]
    eigenvalues: Float64 = field(repr=False)
    correlations: Float64 = field(repr=False)
    adapted: Ranking
    frozen: Ranking | None
    gain: tuple[float, float] | None
    first_hits: IntArray | None = field(default=None, repr=False)

    def __str__(self) -> str:
        best, taken = self.settings[0], self.chosen
        what = f"{taken.dimensions} dimensions, ridge {self.ridge:.3g}, power {taken.power:g}"
        if len(self.settings) == 1:
            name = "mean log rank" if self.criterion == "rank" else "loss"
            return f"{what}, as given; {name} {0 - taken.score:.3f} on {self.pairs:,} held-out pairs"
        by = "" if self.criterion == "rank" else " by loss"
        where = f"of {len(self.settings)} settings{by} on {self.pairs:,} held-out pairs"
        why = f"best {where}" if best in self.alike else (
            f"narrowest {where} that is as good as the best, which has {best.dimensions} dimensions"
        )  # fmt: skip
        if len(self.alike) > 1:
            why += f"; {len(self.alike)} of this width were as good, and the ridge is their mean"
        return f"{what}: {why}"


class Candidates:
    """Held-out pairs that rank each other: every first side looks for its own second side among all of them.

    A candidate that is identical to the query or to its positive does not compete.

    Args:
        first: (H, D) features.
        second: (H, E) features.
        same_space: whether both sides hold features of one encoder, so that their rows can be compared.
        rows: (H,) numbers of the pairs; None where they have none.
    """

    def __init__(self, first: Array, second: Array, same_space: bool, rows: IntArray | None = None) -> None:
        self.rows = np.empty(0, np.int64) if rows is None else rows
        self.first, self.second, self.same_space = first, second, same_space
        self.first_keys, self.second_keys = row_keys(first), row_keys(second)
        rivals = self.second_keys[None, :] != self.second_keys[:, None]
        if same_space:
            rivals &= self.second_keys[None, :] != self.first_keys[:, None]
        self._rivals = rivals

    def __len__(self) -> int:
        return len(self.first)

    def shares_rows(self, first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """(N,) which pairs have a row that a held-out pair has, by the (N,) `row_keys` of their sides."""
        if self.same_space:
            known = np.concatenate([self.first_keys, self.second_keys])
            return np.asarray(np.isin(first, known) | np.isin(second, known))
        return np.asarray(np.isin(first, self.first_keys) | np.isin(second, self.second_keys))

    def first_hits(self, first: Array, second: Array) -> IntArray:
        """(H,) numbers of the pairs whose second side is most similar to each first side."""
        similar = first @ (second / np.maximum(np.linalg.norm(second, axis=1, keepdims=True), 1e-30)).T
        similar[~(self._rivals | np.eye(len(self), dtype=bool))] = -np.inf
        return np.asarray(self.rows[similar.argmax(axis=1)])

    def ranks(self, first: Array, second: Array) -> IntArray:
        """(H,) ranks of own positives by cosine, from 1; a candidate that ties with the positive ranks before it."""
        return self._ranks(first @ second.T, np.linalg.norm(second, axis=1))

    def ranks_by_width(
        self, first: Array, second: Array, widths: Sequence[int]
    ) -> Iterator[tuple[int, IntArray]]:  # fmt: skip
        """The same for the first so many columns of both sides, widths ascending."""
        products = np.zeros((len(first), len(second)), np.float32)
        squares, start = np.zeros(len(second)), 0
        for width in widths:
            part = second[:, start:width]
            products += first[:, start:width] @ part.T
            squares += np.square(part, dtype=np.float64).sum(axis=1)
            start = width
            yield width, self._ranks(products, np.sqrt(squares))

    def _ranks(self, products: Array, lengths: Float64) -> IntArray:
        similar = products / np.maximum(lengths, 1e-30).astype(products.dtype)
        above = similar >= np.diagonal(similar)[:, None]
        ranks: IntArray = 1 + np.count_nonzero(above & self._rivals, axis=1)
        return ranks


@dataclass(frozen=True)
class Grid:
    """The settings to try; a single one where the user named it."""

    ridges: tuple[float, ...]
    given_widths: tuple[int, ...] | None
    powers: tuple[float, ...]

    @classmethod
    def of(cls, ridge: Choices[float], dimensions: Choices[int], power: Choices[float]) -> Grid:
        """All settings of the grid, or what is given."""
        return cls(_several(ridge) or RIDGES, _several(dimensions), _several(power) or POWERS)

    @property
    def single(self) -> bool:
        """Whether there is nothing to choose."""
        return len(self.given_widths or ()) == len(self.ridges) == len(self.powers) == 1

    @property
    def only(self) -> tuple[int, float, float]:
        """Dimensions, ridge and power where there is nothing to choose."""
        return (self.given_widths or (1,))[0], self.ridges[0], self.powers[0]

    @property
    def most(self) -> int | None:
        """The widest map to try; None where all directions may be wanted."""
        return None if self.given_widths is None else max(self.given_widths)

    def widths(self, rank: int) -> list[int]:
        """The widths to try where a solution has so many directions."""
        if self.given_widths is not None:
            return sorted({width for width in self.given_widths if width <= rank})
        powers = [1 << e for e in range(rank.bit_length())]
        return powers if rank < _NARROW else powers[_FIRST:]


def _several(given: Any) -> Any:
    """What is given as a tuple; None stays."""
    if given is None or isinstance(given, (tuple, list)):
        return None if given is None else tuple(given)
    return (given,)


@dataclass(frozen=True)
class Fold:
    """Held-out pairs, and the covariances of the `fitted` pairs that share no row with them."""

    covariances: Covariances
    held: Candidates
    fitted: int

    def solved(self, ridge: float, most: int | None) -> Solved:
        """The directions for one ridge, `most` of them, and the held-out pairs along them."""
        solution, means = (
            solve(self.covariances, ridge, most),
            (self.covariances.first_mean, self.covariances.second_mean),
        )
        first = ((self.held.first - means[0]) @ solution.first).astype(np.float32)
        second = ((self.held.second - means[1]) @ solution.second).astype(np.float32)
        return Solved(self.held, ridge, solution.values, first, second)


@dataclass(frozen=True)
class Solved:
    """Held-out pairs along the directions of a fold.

    Attributes:
        held: H pairs.
        ridge: of the fit.
        values: (r,) singular values of the fit.
        first, second: (H, r) coordinates of both sides, not scaled, float32.
    """

    held: Candidates
    ridge: float
    values: Float64
    first: Array
    second: Array

    def scores(self, grid: Grid, criterion: Criterion) -> dict[Key, Float64]:
        """(H,) scores of the held-out pairs for the widths and powers of the grid; their mean is to be high."""
        widths, found = grid.widths(len(self.values)), dict[Key, Float64]()
        for power in grid.powers:
            if criterion == "loss":
                found |= {(self.ridge, width, power): -terms for width, terms in self.losses(widths)}
            else:
                found |= {(self.ridge, width, power): -np.log(ranks) for width, ranks in self.ranks(widths, power)}
        return found

    def narrowed(self, width: int) -> Solved:
        """The same for the first directions alone."""
        return Solved(self.held, self.ridge, self.values[:width], self.first[:, :width], self.second[:, :width])

    def ranks(self, widths: Sequence[int], power: float) -> Iterator[tuple[int, IntArray]]:
        """(H,) ranks of own positives for each width, ascending."""
        return self.held.ranks_by_width(*self._scaled(power), widths)

    def losses(self, widths: Sequence[int]) -> Iterator[tuple[int, Float64]]:
        """(H,) terms for each width, whose mean is the loss of the balanced map on the held-out pairs, unbiased."""
        first, second = self._scaled(0.5)
        for width in widths:
            products = (first[:, :width] @ second[:, :width].T).astype(np.float64)
            own = np.diagonal(products)
            squares = np.square(products)  # of independent pairs where a row meets another's positive
            both = (squares.sum(axis=0) + squares.sum(axis=1)) / 2 - np.square(own)
            yield width, both / (len(own) - 1) - 2 * own

    def correlations(self) -> Float64:
        """(r,) correlations of both sides along each direction."""
        first, second = (side - side.mean(axis=0) for side in (self.first, self.second))
        lengths = np.linalg.norm(first, axis=0) * np.linalg.norm(second, axis=0)
        found: Float64 = ((first * second).sum(axis=0) / np.maximum(lengths, 1e-30)).astype(np.float64)
        return found

    def first_hits(self, power: float) -> IntArray:
        """See `HeldOut`."""
        by_features = self.held.first_hits(self.held.first, self.held.second)
        return np.stack([self.held.rows, by_features, self.held.first_hits(*self._scaled(power))], axis=1)

    def _scaled(self, power: float) -> tuple[Array, Array]:
        scale = (self.values**power).astype(np.float32)
        return self.first * scale, self.second * scale


def choose(
    folds: Sequence[Fold], total: int, grid: Grid, criterion: Criterion = "rank"
) -> HeldOut:  # fmt: skip
    """Try every setting on held-out pairs and take the narrowest that is not clearly worse than the best.

    By rank, the score is the mean of -log(rank) of every held-out pair's own positive; by loss, minus the loss that the
    map minimises. Settings whose paired difference to the best lies within 1.96 standard errors are alike. The smallest
    width among them is taken, then the power of the best score, then the geometric mean of the ridges: a mean of
    settings that held-out pairs do not tell apart varies less between samples than the best of them. For the fit to all
    pairs that ridge is scaled down by the share of the pairs that a fold is fitted to.

    Args:
        folds: held-out pairs, and covariances of the others.
        total: number of all pairs.
        grid: what to try.
        criterion: "rank" or "loss".

    Raises:
        SpectralError: no setting has as many directions as asked for.
    """
    by_ridge = {ridge: [fold.solved(ridge, grid.most) for fold in folds] for ridge in grid.ridges}
    tried: dict[Key, Float64] = {}
    for solved in by_ridge.values():
        tried |= _joined([each.scores(grid, criterion) for each in solved])
    if not tried:
        available = min(len(each.values) for each in by_ridge[grid.ridges[0]])
        raise TooWideError(min(grid.given_widths or (1,)), available)
    best = max(tried.values(), key=lambda each: float(each.mean()))
    settings = [_setting(key, scores, best) for key, scores in tried.items()]
    settings.sort(key=lambda each: (-each.score, each.dimensions))
    near = [each for each in settings if each.behind <= _Z * each.error]
    chosen = min(near, key=lambda each: (each.dimensions, -each.score))
    alike = tuple(each for each in near if (each.dimensions, each.power) == (chosen.dimensions, chosen.power))
    ridge = chosen.ridge
    if len(alike) > 1 and min(each.ridge for each in alike) > 0:
        ridge = math.exp(sum(math.log(each.ridge) for each in alike) / len(alike))
    if ridge == chosen.ridge:
        solved = [each.narrowed(chosen.dimensions) for each in by_ridge[ridge]]
    else:
        solved = [fold.solved(ridge, chosen.dimensions) for fold in folds]
        one = Grid.of(ridge, chosen.dimensions, chosen.power)
        ((key, scores),) = _joined([each.scores(one, criterion) for each in solved]).items()
        chosen = _setting(key, scores, best)
    fitted = sum(fold.fitted for fold in folds) / len(folds)
    adapted, frozen, gain = _rankings(solved, chosen)
    return HeldOut(
        pairs=len(best), left_out=round(total - fitted - len(best) / len(folds)), criterion=criterion, chosen=chosen,
        ridge=ridge * (fitted / total if len(grid.ridges) > 1 else 1.0), alike=alike, settings=tuple(settings),
        eigenvalues=np.mean([each.values for each in solved], axis=0),
        correlations=np.mean([each.correlations() for each in solved], axis=0),
        adapted=adapted, frozen=frozen, gain=gain,
        first_hits=None if frozen is None else solved[0].first_hits(chosen.power),
    )  # fmt: skip


def _joined(folds: Sequence[dict[Key, Float64]]) -> dict[Key, Float64]:
    """(H,) scores in all folds, of the settings that every fold has."""
    shared = [key for key in folds[0] if all(key in each for each in folds)]
    return {key: np.concatenate([each[key] for each in folds]) for key in shared}


def _setting(key: Key, scores: Float64, best: Float64) -> Setting:
    gap = best - scores
    return Setting(*key, float(scores.mean()), float(gap.mean()), float(gap.std()) / math.sqrt(len(gap)))


def _rankings(
    solved: Sequence[Solved], chosen: Setting
) -> tuple[Ranking, Ranking | None, tuple[float, float] | None]:  # fmt: skip
    """Adapted and frozen rankings, and the difference of both, as `HeldOut` has them."""
    found = [each.ranks([chosen.dimensions], chosen.power) for each in solved]
    ranks = np.concatenate([ranks for each in found for _, ranks in each])
    if solved[0].held.first.shape[1] != solved[0].held.second.shape[1]:
        return Ranking.of(ranks), None, None
    before = np.concatenate([each.held.ranks(each.held.first, each.held.second) for each in solved])
    gaps = 1 / ranks - 1 / before
    gain = float(gaps.mean()), _Z * float(gaps.std()) / math.sqrt(len(gaps))
    return Ranking.of(ranks), Ranking.of(before), gain


def row_keys(features: Array) -> NDArray[np.uint64]:
    """(N,) numbers that are equal for equal rows, and for others with a chance of about 2^-60."""
    rows = np.ascontiguousarray(features)
    if rows.shape[1] * rows.itemsize % 8:
        rows = np.pad(rows, ((0, 0), (0, 1)))
    words = rows.view(np.uint64)
    factors = np.random.default_rng(0).integers(0, 2**64, words.shape[1], np.uint64) | np.uint64(1)
    keys: NDArray[np.uint64] = np.einsum("ij,j->i", words, factors)
    return keys
