"""Weights of the reference rows that make clusters of unequal size count alike.

The mean of a set lies in its largest class. Whatever is measured from there (whitened norms, mean cosines, centred
cosines) then finds the largest class difficult. Rows therefore weigh inversely to the size of their cluster, in the
mean, the covariance, the scales and the clusterings.

This is right only where clusters are real: where they overlap, the sizes of k-means clusters are arbitrary, and such
weights add noise. So clusters are tested first. K-means makes more clusters than there are classes. Then the two
clusters that are separated least are merged, again and again. The separation of two clusters is the distance of their
means over the sum of their standard deviations, along the line between the means, on rows that the line was not fitted
to. The halves of a normal cluster are separated by about 1.3. Where classes are real, the separation jumps from
there to more than 2 as soon as all halves are merged. Without such a jump all rows weigh alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from pairsift.neighbors import FloatArray, IntArray, generator, kmeans, principal_axes

FloatsArray = NDArray[np.float64]

# Rows that clusters are sought on, and leading principal components that they are sought in.
_ROWS, _COMPONENTS = 20_000, 32
_BLOCK = 4096
# Clusters to start from, as a multiple of the number of classes; at most so many, and with so many rows each.
_MULTIPLE, _MOST, _FEWEST_ROWS = 3, 600, 16
# The numbers of groups to accept, as multiples of the number of classes, which is a rough one.
_RANGE = (0.5, 2.0)
# The separation of the groups must be so large, and exceed all separations inside of groups by this factor.
_SEPARATION, _JUMP = 2.0, 1.15
# Largest separation of two parts of a group, of this share of its rows at least, with which it counts as one.
_HALVES, _PART = 1.6, 0.25
# Where one group holds more than this share of the rows, the others are outliers and no classes.
_NEARLY_ALL = 0.95
# Rows of groups smaller than this share of the median one weigh like its rows: a few outliers are no class.
_SMALLEST = 0.25
# So do rows of groups smaller than the median one that lie so near between larger groups, in standard deviations.
_BETWEEN = 2.0


def balancing_weights(features: FloatArray, n_classes: int, seed: int) -> FloatArray | None:
    """Weight of every row, inverse to the size of its cluster; None where clusters are not clearly separated.

    Args:
        features: (N, D) finite.
        n_classes: rough number of classes.
        seed: of the draws and the clusterings.

    Returns:
        (N,) positive, with mean 1.
    """
    groups = separated_groups(features, n_classes, seed)
    if groups is None:
        return None
    sizes = np.bincount(groups).astype(np.float64)
    median = float(np.median(sizes))
    if sizes.max() > _NEARLY_ALL * sizes.sum():
        return None
    no_class = (sizes < _SMALLEST * median) | _between_larger(features, groups, sizes, median)
    weights = 1 / np.where(no_class, median, sizes)[groups]
    balanced: FloatArray = (weights / weights.mean()).astype(np.float32)
    return balanced


def _between_larger(features: FloatArray, groups: IntArray, sizes: FloatsArray, median: float) -> NDArray[np.bool_]:
    """Whether a group (K,) is a clump of mixtures: its mean lies near the convex hull of the means of larger groups."""
    means = np.stack([features[groups == each].mean(axis=0, dtype=np.float64) for each in range(len(sizes))])
    hull, clumps = means[sizes >= median], np.zeros(len(sizes), bool)
    # A heavy last row makes the shares sum to 1.
    heavy = 1e3 * float(np.abs(means).max())
    corners = np.vstack([hull.T, np.full(len(hull), heavy)])
    for each in np.flatnonzero(sizes < median):
        shares, _ = nnls(corners, np.append(means[each], heavy))
        away = means[each] - shares @ hull
        along = (features[groups == each] - means[each]) @ away  # deviations, times the distance
        clumps[each] = away @ away <= _BETWEEN * float(along.std())
    return clumps


def separated_groups(features: FloatArray, n_classes: int, seed: int) -> IntArray | None:
    """Group (N,) of every row, if the set falls into clearly separated groups; else None."""
    rng = generator(seed)
    centre, _, vectors = principal_axes(features)
    axes = np.ascontiguousarray(vectors[:, ::-1][:, :_COMPONENTS], dtype=np.float32)
    everywhere: FloatArray = np.concatenate([
        (features[start : start + _BLOCK] - centre) @ axes for start in range(0, len(features), _BLOCK)
    ])  # fmt: skip
    places = everywhere[np.sort(rng.choice(len(features), min(len(features), _ROWS), replace=False))]
    clusters = max(2, min(_MULTIPLE * n_classes, _MOST, len(places) // _FEWEST_ROWS))
    fitted = rng.random(len(places)) < 0.5
    centres = kmeans(places[fitted], clusters, seed, spherical=False, spread=True)
    # Half the squared distance, up to a constant of the row.
    offsets = (centres**2).sum(axis=1) / 2
    nearest = (places @ centres.T - offsets).argmax(axis=1)
    merged = _merged(
        _Moments.of(places[fitted], nearest[fitted], clusters),
        _Moments.of(places[~fitted], nearest[~fitted], clusters),
        n_classes,
    )
    if merged is None or not _all_are_one(places, merged[nearest], fitted, seed):
        return None
    nearest = np.concatenate([
        (everywhere[start : start + _BLOCK] @ centres.T - offsets).argmax(axis=1)
        for start in range(0, len(features), _BLOCK)
    ])  # fmt: skip
    groups: IntArray = merged[nearest]
    return groups


def _all_are_one(places: FloatArray, groups: IntArray, fitted: NDArray[np.bool_], seed: int) -> bool:
    """Whether no large group falls into two: then one of its classes would be taken for many rows of one."""
    sizes = np.bincount(groups)
    for group in np.flatnonzero(sizes > sizes.mean()):
        own, line = places[groups == group], fitted[groups == group]
        centres = kmeans(own[line], 2, seed, spherical=False, spread=True)
        half = (own @ centres.T - (centres**2).sum(axis=1) / 2).argmax(axis=1)
        both = [_Moments.of(own[part], half[part], 2) for part in (line, ~line)]
        # A few outliers are no second class.
        if half.mean() > _PART and 1 - half.mean() > _PART and _separations(both[0], both[1], 0)[1] > _HALVES:
            return False
    return True


class _Moments:
    """Number (K,), mean (K, d) and covariance (K, d, d) of the rows of each cluster."""

    def __init__(self, counts: FloatsArray, means: FloatsArray, covariances: FloatsArray) -> None:
        self.counts, self.means, self.covariances = counts, means, covariances

    @classmethod
    def of(cls, rows: FloatArray, clusters: IntArray, number: int) -> _Moments:
        dimensions = rows.shape[1]
        counts = np.bincount(clusters, minlength=number).astype(np.float64)
        means, covariances = np.zeros((number, dimensions)), np.zeros((number, dimensions, dimensions))
        for each in np.flatnonzero(counts):
            own = rows[clusters == each].astype(np.float64)
            means[each] = own.mean(axis=0)
            covariances[each] = (own - means[each]).T @ (own - means[each]) / len(own)
        return cls(counts, means, covariances)

    def merge(self, one: int, other: int) -> None:
        """Take the rows of `other` into `one`."""
        total = self.counts[one] + self.counts[other]
        if not total:
            return
        shares = self.counts[[one, other]] / total
        apart = self.means[one] - self.means[other]
        self.covariances[one] = (
            shares[0] * self.covariances[one] + shares[1] * self.covariances[other]
            + shares[0] * shares[1] * np.outer(apart, apart)
        )  # fmt: skip
        self.means[one] = shares @ self.means[[one, other]]
        self.counts[one] = total


def _merged(fitted: _Moments, held_out: _Moments, n_classes: int) -> IntArray | None:
    """Group of every cluster after merging up to the jump; None where there is none."""
    number = len(fitted.counts)
    groups = np.arange(number)
    between = np.full((number, number), np.inf)
    for each in range(number):
        between[each, :each] = _separations(fitted, held_out, each)[:each]
    inside, best, found = 0.0, _JUMP, None
    for left in range(number, 1, -1):
        one, other = divmod(int(between.argmin()), number)
        separation = between[one, other]
        jump = separation / inside if inside else 0.0
        in_range = _RANGE[0] * n_classes <= left <= _RANGE[1] * n_classes
        if in_range and separation >= _SEPARATION and jump >= best:
            best, found = jump, groups.copy()
        inside = max(inside, separation)
        fitted.merge(one, other)
        held_out.merge(one, other)
        groups[groups == other] = one
        gone = np.isinf(between[other]) & np.isinf(between[:, other])
        between[other], between[:, other] = np.inf, np.inf
        separations = np.where(gone, np.inf, _separations(fitted, held_out, one))
        alive = np.unique(groups)
        below, above = alive[alive < one], alive[alive > one]
        between[one, below], between[above, one] = separations[below], separations[above]
    return None if found is None else np.unique(found, return_inverse=True)[1].astype(np.int64)


def _separations(fitted: _Moments, held_out: _Moments, one: int) -> FloatsArray:
    """Separation (K,) of a cluster from every other; 0 where there are too few rows to tell."""
    line = fitted.means[one] - fitted.means
    distance = np.einsum("kd,kd->k", line, held_out.means[one] - held_out.means)
    own = np.einsum("kd,de,ke->k", line, held_out.covariances[one], line, optimize=True)
    theirs = np.einsum("kd,kde,ke->k", line, held_out.covariances, line, optimize=True)
    spread = np.sqrt(np.maximum(own, 0)) + np.sqrt(np.maximum(theirs, 0))
    known = (held_out.counts >= 2) & (fitted.counts >= 1)
    if not known[one]:
        known[:] = False
    separations: FloatsArray = np.where(known, distance / np.maximum(spread, 1e-12), 0.0)
    return np.maximum(separations, 0)
