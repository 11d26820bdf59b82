"""The minimiser of the spectral contrastive loss among linear maps, in closed form.

For positive pairs with centred features `a` and `b` and maps `f = W'a`, `g = V'b` the loss of HaoChen et al. (2021,
arXiv 2106.04156) is a quadratic function of `M = W V'`:

    L(M) = -2 E_pos f.g + E_indep (f.g)^2 = -2 tr(M'C) + tr(M'A M B)

Its minimisers of rank k come from the singular values of `A^-1/2 C B^-1/2`: canonical correlation analysis (Hotelling
1936). Balestriero and LeCun (2022, arXiv 2205.11508) derive closed forms of this kind for several spectral losses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from pairsift.spectral.moments import Covariances, Float64

# Eigenvalues of a covariance below this share of the largest one count as zero when nothing is added (ridge 0).
_RANGE = 1e-10
# Correlations below this are rounding errors.
_LEAST = 1e-9


@dataclass(frozen=True)
class Solution:
    """Directions of both sides before their scaling.

    Attributes:
        first: (D, r) directions `A^-1/2 U` of the first side, strongest first.
        second: (E, r) directions `B^-1/2 Q` of the second side; of one tower the same array.
        values: (r,) singular values s; of one tower the positive eigenvalues.
    """

    first: Float64
    second: Float64
    values: Float64

    def maps(self, width: int, power: float) -> tuple[Float64, Float64]:
        """The (D, k) and (E, k) matrices `W = A^-1/2 U s^p` and `V = B^-1/2 Q s^p` of the first k directions."""
        scale = self.values[:width] ** power
        # By rows, as files give them back: the same numbers in another order are multiplied with other roundings.
        first = np.ascontiguousarray(self.first[:, :width] * scale)
        return first, first if self.second is self.first else np.ascontiguousarray(self.second[:, :width] * scale)


def solve(covariances: Covariances, ridge: float, most: int | None = None) -> Solution:
    """The directions that minimise the ridged loss.

    Args:
        covariances: of the pairs.
        ridge: `A + ra I` and `B + rb I` are inverted, `ra = ridge tr(A) / D`; 0 inverts on the range of `A` and `B`.
        most: directions wanted; None takes all.

    Returns:
        Directions with a positive value, `most` at the most.
    """
    first = _Whitening(covariances.first, ridge)
    if covariances.one_tower:
        kernel = first.into(first.into(covariances.cross).T)
        kernel += kernel.T
        kernel /= 2
        size = len(kernel)
        kept = size if most is None else min(most, size)
        values, vectors = scipy.linalg.eigh(kernel.T, subset_by_index=(size - kept, size - 1), overwrite_a=True)
        values, vectors = values[::-1].copy(), vectors[:, ::-1]
        kept = int((values > _LEAST).sum())
        directions = first.out_of(vectors[:, :kept])
        directions *= _signs(directions)
        return Solution(directions, directions, values[:kept])
    second = _Whitening(covariances.second, ridge)
    left, values, right = np.linalg.svd(first.into(second.into(covariances.cross.T).T), full_matrices=False)
    kept = int((values > _LEAST).sum())
    kept = kept if most is None else min(most, kept)
    signs = _signs(left[:, :kept])
    return Solution(first.out_of(left[:, :kept] * signs), second.out_of(right[:kept].T * signs), values[:kept])


class _Whitening:
    """The columns of a matrix `T` (D, r) with `T'(A + ra I) T = I`; with ridge 0 they span the range of `A`.

    Args:
        covariance: (D, D) `A`.
        ridge: see `solve`.
    """

    def __init__(self, covariance: Float64, ridge: float) -> None:
        added = ridge * float(np.trace(covariance)) / len(covariance)
        self._lower: Float64 | None = None
        if added > 0:  # T is the inverse of a triangle, which is never made
            self._lower = np.linalg.cholesky(covariance + added * np.eye(len(covariance))).astype(
                np.float64, copy=False
            )
            return
        values, vectors = np.linalg.eigh(covariance)
        there = values > _RANGE * values[-1]
        self._columns: Float64 = vectors[:, there] / np.sqrt(values[there])

    def into(self, matrix: Float64) -> Float64:
        """(r, n) `T'X` of a (D, n) matrix."""
        found: Float64
        if self._lower is None:
            found = self._columns.T @ matrix
        else:
            found = scipy.linalg.solve_triangular(self._lower, matrix, lower=True, check_finite=False)
        return found

    def out_of(self, vectors: Float64) -> Float64:
        """(D, n) `TY` of an (r, n) matrix."""
        found: Float64
        if self._lower is None:
            found = self._columns @ vectors
        else:
            found = scipy.linalg.solve_triangular(self._lower, vectors, lower=True, trans=1, check_finite=False)
        return found


def population_loss(covariances: Covariances, first: Float64, second: Float64) -> float:
    """`-2 tr(M'C) + tr(M'A M B)` of maps `W` (D, k) and `V` (E, k), `M = W V'`."""
    positive = np.einsum("dk,dk->", first, covariances.cross @ second)
    own = first.T @ covariances.first @ first
    other = second.T @ covariances.second @ second
    return float(-2 * positive + np.einsum("kl,kl->", own, other))


def _signs(vectors: Float64) -> Float64:
    """(r,) signs that make the largest entry of every column positive, so that equal input gives equal maps."""
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return np.where(largest < 0, -1.0, 1.0)
