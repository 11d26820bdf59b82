"""Means and covariances of positive pairs, summed block by block; sums of parts can be added."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from pairsift.spectral.errors import SpectralError

Array = NDArray[np.floating]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Covariances:
    """What the spectral loss needs of the law of the pairs: means and covariances, float64.

    Attributes:
        first_mean: (D,) mean of the first features.
        second_mean: (E,) mean of the second features; of one tower the same array.
        first: (D, D) covariance `A` of the first features.
        second: (E, E) covariance `B` of the second features; of one tower the same array.
        cross: (D, E) covariance `C` of pairs; of one tower symmetric.
    """

    first_mean: Float64
    second_mean: Float64
    first: Float64
    second: Float64
    cross: Float64

    @property
    def one_tower(self) -> bool:
        """Whether both sides share one map."""
        return self.first is self.second


class Moments:
    """Running means and scatter matrices of pairs `(a, b)`.

    Every block is centred by its own mean, multiplied in its own precision and added in float64 by the pairwise
    update of Chan, Golub and LeVeque (1983). So the sums of parts can be merged, and a large mean costs no precision.

    Args:
        first: width D of the first features.
        second: width E of the second features; None for views of one example, which share the sums of one side.

    Attributes:
        count: pairs, or examples with views, that were added.
    """

    def __init__(self, first: int, second: int | None) -> None:
        self.count = 0
        self.views = second is None
        width = first if second is None else second
        self.means = (np.zeros(first), np.zeros(width))
        self.scatter = np.zeros((first, first))
        self.second_scatter = self.scatter if second is None else np.zeros((width, width))
        self.cross_scatter = np.zeros((first, width))

    @property
    def widths(self) -> tuple[int, int]:
        """D and E."""
        return self.cross_scatter.shape[0], self.cross_scatter.shape[1]

    def empty(self) -> Moments:
        """Sums of the same shape without a pair."""
        return Moments(self.widths[0], None if self.views else self.widths[1])

    def add_pairs(self, a: Array, b: Array, numbers: NDArray[np.int64] | None = None) -> None:
        """Add pairs.

        Args:
            a: (N, D) first features.
            b: (N, E) second features.
            numbers: (N,) of the pairs, for errors; None counts from 0.

        Raises:
            SpectralError: a row is not finite; it is named.
        """
        (mean_a, a), (mean_b, b) = _centred(a, "first", numbers), _centred(b, "second", numbers)
        self._join(len(a), (mean_a, mean_b), _wide(a.T @ a), _wide(b.T @ b), _wide(a.T @ b))

    def add_views(self, x: Array, numbers: NDArray[np.int64] | None = None) -> None:
        """Add examples of several views, each as the mean over its ordered pairs of different views.

        Args:
            x: (N, V, D) features, V >= 2.
            numbers: (N,) of the examples, for errors; None counts from 0.

        Raises:
            SpectralError: a view is not finite; its example is named.
        """
        n, views, width = x.shape
        mean, flat = _centred(x.reshape(n * views, width), "views", numbers, views)
        own = _wide(flat.T @ flat)
        total = flat.reshape(n, views, width).sum(axis=1)
        cross = (_wide(total.T @ total) - own) / (views * (views - 1))
        self._join(n, (mean, mean), own / views, None, cross)

    def _join(
        self, n: int, means: tuple[Float64, Float64], first: Float64, second: Float64 | None, cross: Float64
    ) -> None:  # fmt: skip
        """Add the scatter of n pairs about their own means."""
        if self.views is not (second is None):
            raise SpectralError("pairs and views of examples cannot be added to one map: fit one for each")
        total = self.count + n
        gap_a, gap_b = (new - old for new, old in zip(means, self.means, strict=True))
        weight = self.count * n / total
        self.scatter += first + weight * np.outer(gap_a, gap_a)
        if second is not None:
            self.second_scatter += second + weight * np.outer(gap_b, gap_b)
        self.cross_scatter += cross + weight * np.outer(gap_a, gap_b)
        self.means = (self.means[0] + gap_a * (n / total), self.means[1] + gap_b * (n / total))
        self.count = total

    def merge(self, other: Moments) -> Self:
        """Add the sums of another part, which stays as it is.

        Raises:
            SpectralError: features of other widths, or views where these are pairs.
        """
        if other.widths != self.widths:
            raise SpectralError(
                f"parts have features of {self.widths[0]} and {self.widths[1]}, and of {other.widths[0]} and "
                f"{other.widths[1]} dimensions: merge parts of the same encoders"
            )
        if other.count:
            self._join(
                other.count, other.means, other.scatter, None if other.views else other.second_scatter,
                other.cross_scatter,
            )  # fmt: skip
        return self

    def without(self, part: Moments) -> Moments:
        """The sums of the pairs that are not in a part of these pairs."""
        n, total = part.count, self.count
        left = total - n
        made = self.empty()
        if left < 1:
            return made
        made.count = left
        means = [(total * all_ - n * some) / left for all_, some in zip(self.means, part.means, strict=True)]
        gap_a, gap_b = (some - mean for some, mean in zip(part.means, means, strict=True))
        weight = left * n / total
        made.means = (means[0], means[1])
        made.scatter = self.scatter - part.scatter - weight * np.outer(gap_a, gap_a)
        made.second_scatter = made.scatter if self.views else (
            self.second_scatter - part.second_scatter - weight * np.outer(gap_b, gap_b)
        )  # fmt: skip
        made.cross_scatter = self.cross_scatter - part.cross_scatter - weight * np.outer(gap_a, gap_b)
        return made

    def covariances(self, towers: int) -> Covariances:
        """Means and covariances of the pairs added so far.

        Args:
            towers: 1 joins both sides to one law; 2 keeps them apart.
        """
        n = self.count
        first_mean, second_mean = self.means
        if towers == 2:
            second = self.second_scatter / n
            return Covariances(first_mean, second_mean, self.scatter / n, second, self.cross_scatter / n)
        half = (first_mean - second_mean) / 2
        between = np.outer(half, half)
        own = (self.scatter + self.second_scatter) / (2 * n) + between
        cross = (self.cross_scatter + self.cross_scatter.T) / (2 * n) - between
        mean = (first_mean + second_mean) / 2
        return Covariances(mean, mean, own, own, cross)


def _wide(products: Array) -> Float64:
    return products.astype(np.float64, copy=False)


def _centred(x: Array, name: str, numbers: NDArray[np.int64] | None, views: int = 1) -> tuple[Float64, Array]:
    """The (D,) mean of rows, float64, and the rows less it."""
    ones = np.full(len(x), 1 / len(x), x.dtype)
    centre = ones @ x
    if not np.isfinite(centre).all():
        wrong = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if len(wrong):
            row = int(wrong[0]) // views
            number = row if numbers is None else int(numbers[row])
            raise SpectralError(
                f"{name} row {number:,} is not finite: look for a diverged encoder or an overflow in half precision"
            )
        raise SpectralError(f"{name}: features are too large to be summed: scale them to unit length")
    rows = x - centre
    rest = ones @ rows  # what rounding left of the mean
    rows -= rest
    return _wide(centre) + _wide(rest), rows
