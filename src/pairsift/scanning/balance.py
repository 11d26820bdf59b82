"""Weights of the reference rows, so that classes of unequal size count alike.

The mean of a set lies in its largest class. Whatever is measured from there (whitened norms, mean cosines, centred
cosines) then finds the largest class difficult. Rows of dense clusters therefore weigh less, in the mean, the
covariance, the scales and the clusterings.

A Gaussian kernel counts the rows around each row. K-means makes more clusters than there are classes, and the mean
logarithm of the counts is the density of a cluster. A large class may fill several clusters: each of them is dense.

Density also differs in sets of equal classes, by chance and where features gather around a centre. There, rows of one
cluster differ about as much as clusters do. So the weights are `density ** -power`, and the power lies between 0 and 1.
It grows with the spread of the clusters' densities over the spread within clusters. It also grows with the clarity of
the classes: where the neighbours of a row are far nearer than in a Gaussian cloud of the same covariance, a density is
that of one class, and already a class of twice the size moves the mean into itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairsift.neighbors import FloatArray, IntArray, generator, kmeans, principal_axes

# Rows that densities are measured on, rows that the reach of the kernel is measured on, and rows assigned at once.
_ROWS, _REACH_ROWS, _BLOCK = 5000, 1000, 4096
# Leading principal components that distances are taken in, as many as classes from 2 to 10. More of them hold noise,
# or density that has nothing to do with classes.
_FEWEST, _MOST = 2, 10
# Clusters for each of these components, and rows of a cluster at least.
_MULTIPLE, _FEWEST_ROWS = 3, 16
# The kernel reaches to the neighbour that is at this share of a class, and at this rank at least.
_SHARE, _LEAST_RANK = 0.1, 3
# The power rises from 0 to its most between these ratios of the spreads. Its most is 1 and 3/4 at these squared
# distances of neighbours over those in such a cloud. Where classes are not clear, they may differ in density and not in
# size.
_RATIOS, _DISTANCES, _UNCLEAR = (1.6, 2.0), (0.45, 0.5), 0.75
# It is 1 and 0 at these distances, whatever the ratio.
_CLEAR = (0.28, 0.33)


class Balance(NamedTuple):
    """What makes classes of unequal size count alike.

    Attributes:
        ratio: spread of the clusters' log densities over the spread within clusters; about 1 for classes of one size.
        distance: squared distance of neighbours over that in a Gaussian cloud; below 0.3 classes are clear.
        power: how far densities are evened out, in [0, 1].
        weights: (N,) positive, with mean 1; None where the power is 0.
    """

    ratio: float
    distance: float
    power: float
    weights: FloatArray | None


def balance(features: FloatArray, n_classes: int, seed: int) -> Balance:
    """Weigh rows inversely to the density of their cluster, as far as clusters differ in density.

    Args:
        features: (N, D) finite.
        n_classes: rough number of classes.
        seed: of the sample and the clusters.
    """
    rng, n = generator(seed), len(features)
    classes = min(max(n_classes, _FEWEST), _MOST)
    centre, variances, vectors = principal_axes(features)
    axes = np.ascontiguousarray(vectors[:, ::-1][:, :classes], dtype=np.float32)
    chosen = np.sort(rng.choice(n, min(n, _ROWS), replace=False))
    places = _places(features[chosen], centre, axes)
    clusters = min(_MULTIPLE * classes, len(places) // _FEWEST_ROWS)
    if clusters < 2:
        return Balance(0.0, 1.0, 0.0, None)
    centres = kmeans(places, clusters, seed, spherical=False, spread=True)
    rank = min(max(_LEAST_RANK, round(_SHARE * len(places) / classes)), len(places) - 1)
    reach = _reach(places, rank)
    cloud = (rng.standard_normal(places.shape) * np.sqrt(variances[::-1][: places.shape[1]])).astype(np.float32)
    distance = reach / _reach(cloud, rank)
    density = _log_density(places, reach)
    own = _nearest(places, centres)
    sizes = np.bincount(own, minlength=clusters)
    levels = np.bincount(own, density, minlength=clusters) / np.maximum(sizes, 1)
    within = float(np.sqrt(((density - levels[own]) ** 2).mean()))
    between = float(levels[own].std())
    ratio = between / within if within > 0 else 0.0
    most = np.interp(distance, _DISTANCES, (1, _UNCLEAR))
    power = float(max(most * np.interp(ratio, _RATIOS, (0, 1)), np.interp(distance, _CLEAR, (1, 0))))
    if not power:
        return Balance(ratio, distance, power, None)
    blocks = (features[start : start + _BLOCK] for start in range(0, n, _BLOCK))
    groups = np.concatenate([_nearest(_places(block, centre, axes), centres) for block in blocks])
    weights = np.exp(-power * (levels[groups] - levels.max()))
    return Balance(ratio, distance, power, (weights / weights.mean()).astype(np.float32))


def _places(features: FloatArray, centre: FloatArray, axes: FloatArray) -> FloatArray:
    places: FloatArray = ((features - centre) @ axes).astype(np.float32)
    return places


def _nearest(places: FloatArray, centres: FloatArray) -> IntArray:
    # Half the squared distance, up to a constant of the row.
    nearest: IntArray = (places @ centres.T - (centres**2).sum(axis=1) / 2).argmax(axis=1)
    return nearest


def _reach(places: FloatArray, rank: int) -> float:
    """Median squared distance to the neighbour of this rank. Where most rows are copies of a few, it is about 0."""
    some = places[np.linspace(0, len(places) - 1, min(len(places), _REACH_ROWS)).astype(np.int64)]
    return max(float(np.median(np.partition(_squares(some, places), rank, axis=1)[:, rank])), 1e-12)


def _log_density(places: FloatArray, reach: float) -> NDArray[np.float64]:
    """Logarithm (R,) of the number of rows around each row, itself among them, by a Gaussian kernel."""
    scale = np.float32(-1 / reach)
    blocks = (places[start : start + _REACH_ROWS] for start in range(0, len(places), _REACH_ROWS))
    counts = [np.exp(scale * _squares(block, places)).sum(axis=1, dtype=np.float64) for block in blocks]
    # Rounding may set a row apart from itself.
    logs: NDArray[np.float64] = np.log(np.maximum(np.concatenate(counts), 1))
    return logs


def _squares(rows: FloatArray, others: FloatArray) -> FloatArray:
    """Squared distances (B, R)."""
    products = rows @ others.T
    squares: FloatArray = np.maximum((rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * products, 0)
    return squares
