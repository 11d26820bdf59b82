"""The signs that two rows are of the same class, made of the features of a whole set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairsift.neighbors import FloatArray, principal_axes, shrinkage_whitening, unit_rows
from pairsift.same_class.graph import IntArray, eigenvectors, nearest

# Leading principal axes that are kept.
_AXES = 256
# Leading eigenvectors of the graph in which cosines are taken: the set at three scales, coarse to fine.
_COARSE, _MIDDLE, _FINE = 6, 16, 48
# Neighbours in the graph, and in the density around a row.
_NEIGHBOURS, _DENSE = 30, 50
# Share of the mean eigenvalue in every whitened direction. So much shrinkage tells classes apart better than the
# little that decorrelates (0.1): AUROC on own-class pairs .631 against .609 on CIFAR-10.
_SHRINKAGE = 0.5
# Smallest spread of a sign: less of it is rounding, and would be blown up to evidence.
_LEAST_SPREAD = 0.02


@dataclass(frozen=True)
class Signs:
    """Four signs of a pair: three cosines, and the density around both rows.

    Attributes:
        cosines: unit rows (N, .) whose products are the signs: whitened with strong shrinkage, then on the 6 and the 16
            leading eigenvectors of the self-tuned graph of 30 nearest neighbours.
        density: (N,) mean whitened cosine of a row with its 50 nearest; regions that are dense after whitening are
            purer. The fourth sign of a pair is the mean of both.
        centre, spread: (4,) of every sign over the pairs of all rows with their nearest.
        sharpness: mean cosine of these pairs on the 16 and on the 48 leading eigenvectors: near 1 in sets of clear
            clusters, whose near pairs are mostly of one class.
    """

    cosines: tuple[FloatArray, FloatArray, FloatArray]
    density: FloatArray
    centre: NDArray[np.float64]
    spread: NDArray[np.float64]
    sharpness: tuple[float, float]

    def of_pairs(self, rows: IntArray, others: IntArray) -> FloatArray:
        """(P, 4) standardised signs of pairs, whose positions are (P,) each."""
        return np.asarray((_signs(self.cosines, self.density, rows, others) - self.centre) / self.spread, np.float32)


def signs(unit: FloatArray, seed: int) -> Signs:
    """The signs of a set of unit rows (N, D), N >= 50; `seed` is of the iteration's start."""
    n = len(unit)
    centre, values, vectors = principal_axes(unit)
    values, vectors = values[::-1][:_AXES], vectors[:, ::-1][:, :_AXES]
    # The sign of an axis is the library's choice; the largest entry is made positive instead.
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    whitening = shrinkage_whitening(values, vectors, _SHRINKAGE)
    whitened = unit_rows(np.asarray((unit - centre) @ whitening, np.float32))
    cosines, neighbours = nearest(whitened, min(_DENSE, n // 2), seed)
    k = min(_NEIGHBOURS, n // 4)
    # The start is made of the rows themselves, so that the order of the rows does not matter.
    direction = np.random.default_rng(seed).standard_normal(whitened.shape[1])
    start = np.asarray(np.sin(7 * whitened @ direction) + 0.1, np.float32)
    spectrum = eigenvectors(cosines[:, :k], neighbours[:, :k], min(_FINE, n // 2), start)
    coarse, middle, fine = (unit_rows(spectrum[:, :m]) for m in (_COARSE, _MIDDLE, _FINE))
    density: FloatArray = np.asarray(cosines.mean(axis=1), np.float32)
    near = _moments((whitened, coarse, middle, fine), density, neighbours)
    own = [0, 1, 2, 4]
    return Signs(
        (whitened, coarse, middle), density, near[0][own], near[1][own], (float(near[0][2]), float(near[0][3]))
    )


def _moments(
    cosines: tuple[FloatArray, ...], density: FloatArray, neighbours: IntArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and spread of every sign over the pairs of all rows with their nearest."""
    total, squares = np.zeros(len(cosines) + 1), np.zeros(len(cosines) + 1)
    for start in range(0, len(neighbours), 1000):
        others = neighbours[start : start + 1000]
        rows = np.repeat(np.arange(start, start + len(others)), others.shape[1])
        values = _signs(cosines, density, rows, others.ravel()).astype(np.float64)
        total += values.sum(axis=0)
        squares += (values**2).sum(axis=0)
    mean = total / neighbours.size
    return mean, np.maximum(np.sqrt(np.maximum(squares / neighbours.size - mean**2, 0)), _LEAST_SPREAD)


def _signs(cosines: tuple[FloatArray, ...], density: FloatArray, rows: IntArray, others: IntArray) -> FloatArray:
    """(P, S + 1) signs of pairs: the cosines, and the mean density last."""
    products = [np.einsum("ij,ij->i", part[rows], part[others]) for part in cosines]
    return np.stack([*products, (density[rows] + density[others]) / 2], axis=1)
