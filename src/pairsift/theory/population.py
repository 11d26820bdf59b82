"""Losses of a whole population, their exact minimiser, and the exact linear probe on it.

`adjacency` is always a symmetric (N, N) matrix of similarities with positive row sums, such as that of a
`SimilarityGraph`, a noisy one (`relax`) or a measured one. Its degrees divided by its volume are the probabilities w of
the vertices. Its entries divided by its volume are the probabilities of positive pairs (HaoChen et al., arXiv
2106.04156).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsift._base.extras import needs
from pairsift.theory.graph import BoolArray, FloatArray, IntArray

# A dense solver finds leading eigenpairs up to this number of vertices, and Lanczos iterations above it.
_DENSE = 1000


def weights(adjacency: FloatArray) -> FloatArray:
    """Probability of every vertex, which is its degree divided by the volume: (N,).

    Raises:
        ValueError: adjacency is not a symmetric square matrix of finite numbers with positive row sums.
    """
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1] or adjacency.size == 0:
        raise ValueError(f"an adjacency matrix is square and not empty, got shape {adjacency.shape}")
    degrees = adjacency.sum(axis=1)
    if not np.isfinite(degrees).all():
        raise ValueError(f"row {int(np.argmin(np.isfinite(degrees)))} of the adjacency matrix is not finite")
    if not np.allclose(adjacency, adjacency.T, rtol=1e-10, atol=1e-12):
        raise ValueError("the adjacency matrix is not symmetric: similarities of a pair must agree")
    if degrees.min() <= 0:
        raise ValueError(f"vertex {int(degrees.argmin())} has degree {degrees.min():.6g}: degrees must be positive")
    shares: FloatArray = degrees / degrees.sum()
    return shares


def normalize(adjacency: FloatArray) -> FloatArray:
    """A_bar = D^-1/2 A D^-1/2."""
    scale: FloatArray = 1 / np.sqrt(adjacency.sum(axis=1))
    return adjacency * (scale[:, None] * scale)


def spectral_loss(features: FloatArray, adjacency: FloatArray) -> float:
    """The population spectral contrastive loss `-2 E[f.f+] + E[(f.f')^2]` of features f, (N, k)."""
    return margin_loss(features, adjacency, np.zeros_like(adjacency))


def margin_loss(features: FloatArray, adjacency: FloatArray, margins: FloatArray) -> float:
    """The population loss with margins m, (N, N), in the second term: `E[(f.f' + m)^2]` (Eq. 31)."""
    w, products = _pairs(features, adjacency)
    return float(-2 * (adjacency * products).sum() / adjacency.sum() + w @ (products + margins) ** 2 @ w)


def temperature_loss(features: FloatArray, adjacency: FloatArray, temperatures: FloatArray) -> float:
    """The population loss with temperatures, (N, N), in both terms: `f.f+ / tau` and `(f.f' / tau)^2` (Eq. 40)."""
    w, products = _pairs(features, adjacency)
    scaled = products / temperatures
    return float(-2 * (adjacency * scaled).sum() / adjacency.sum() + w @ scaled**2 @ w)


def factorization_loss(features: FloatArray, adjacency: FloatArray, margins: FloatArray | None = None) -> float:
    """`||A_bar - M_bar - F F^T||_F^2` with rows `F = sqrt(w) f` and `M_bar = W^1/2 M W^1/2` (Thm 4.2).

    It differs from `spectral_loss`, or with margins from `margin_loss`, by the constant
    `||A_bar - M_bar||^2 - ||M_bar||^2`, which does not depend on the features.
    """
    w, products = _pairs(features, adjacency)
    outer = np.sqrt(w[:, None] * w)
    target = normalize(adjacency) - (0 if margins is None else margins * outer)
    return float(((target - outer * products) ** 2).sum())


def solved_whole(n: int, k: int) -> bool:
    """Whether `leading_eigenpairs` of n vertices uses a dense solver instead of Lanczos iterations."""
    return n <= _DENSE or k > n // 10


def leading_eigenpairs(matrix: Any, k: int) -> tuple[FloatArray, FloatArray]:
    """The k largest eigenvalues of a symmetric matrix, descending, and their eigenvectors (N, k).

    Args:
        matrix: (N, N) array, or a sparse matrix or scipy operator where `solved_whole` is false.
        k: from 1 to N.

    Raises:
        ValueError: k outside [1, N].
    """
    n = matrix.shape[0]
    if not 1 <= k <= n:
        raise ValueError(f"k must lie in [1, {n}], got {k}")
    with needs("theory", "an eigensolver"):
        from scipy.linalg import eigh
        from scipy.sparse.linalg import eigsh
    if solved_whole(n, k):
        # All eigenpairs, because a solver of some may return fewer where k cuts through equal eigenvalues.
        values, vectors = (each[..., n - k :] for each in eigh(matrix, driver="evd"))
    else:
        # The start is random, because a constant one is an eigenvector where all vertices have equal weight.
        start = np.random.default_rng(0).standard_normal(n)
        values, vectors = eigsh(matrix, k=k, which="LA", v0=start, ncv=min(n, max(4 * k, 100)))
        order = np.argsort(values)
        values, vectors = values[order], vectors[:, order]
    return values[::-1], vectors[:, ::-1]


def optimal_features(adjacency: FloatArray, k: int) -> FloatArray:
    """The exact minimiser of the population spectral loss, (N, k): `U_k Lambda_k^1/2 / sqrt(w)`.

    Negative eigenvalues among the k largest give zero columns. The minimiser is unique up to a rotation where
    lambda_k > lambda_{k+1}.

    Raises:
        ValueError: k outside [1, N], or adjacency is not an adjacency matrix.
    """
    w = weights(adjacency)
    values, vectors = leading_eigenpairs(normalize(adjacency), k)
    features: FloatArray = vectors * np.sqrt(np.maximum(values, 0)) / np.sqrt(w)[:, None]
    return features


def nystroem_features(adjacency: FloatArray, removed: BoolArray, k: int) -> FloatArray:
    """Optimal features of the graph without some vertices, extended to the removed vertices: (N, k).

    The eigenfunctions of the kept graph extend to a removed vertex x as `f(x) = sum_y (A_xy / d_x) f(y) / lambda`. The
    sum and d_x run over kept y (Bengio et al., NIPS 2003).

    Args:
        adjacency: (N, N) of the whole graph.
        removed: (N,) bool.
        k: feature dimension.

    Raises:
        ValueError: k outside [1, number of kept vertices], or a degree among the kept vertices that is not positive.
    """
    kept = ~removed
    inner, outer = adjacency[np.ix_(kept, kept)], adjacency[np.ix_(removed, kept)]
    degrees = outer.sum(axis=1)
    if not (degrees > 0).all():
        raise ValueError(f"a removed vertex has degree {degrees.min():.6g} among the kept ones: it must be positive")
    roots = np.sqrt(weights(inner))
    values, vectors = leading_eigenpairs(normalize(inner), k)
    features = np.empty((len(adjacency), k))
    features[kept] = vectors * np.sqrt(np.maximum(values, 0)) / roots[:, None]
    # Columns of eigenvalues that are not positive are zero for any divisor.
    features[removed] = outer @ features[kept] / degrees[:, None] / np.where(values > 0, values, 1)
    return features


def linear_probe_error(adjacency: FloatArray, features: FloatArray, labels: IntArray) -> float:
    """Error of the least-squares linear classifier on the population, in [0, 1].

    The classifier is `argmax` of `B f(x)`, where B is the exact minimiser of `sum_x w_x ||onehot(y_x) - B f(x)||^2`. It
    has no intercept, as in the theorems. The error is weighted by w. Ties go to the first class.

    Args:
        adjacency: (N, N).
        features: (N, k).
        labels: (N,) classes.

    Raises:
        ValueError: shapes that do not fit, or fewer than two classes.
    """
    w = weights(adjacency)
    if features.ndim != 2 or len(features) != len(w) or labels.shape != (len(w),):
        raise ValueError(
            f"{len(w)} vertices need (N, k) features and (N,) labels, got {features.shape}, {labels.shape}"
        )
    classes, numbers = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"a probe needs at least two classes, but every label is {classes[0]}")
    root = np.sqrt(w)[:, None]
    solution = np.linalg.lstsq(root * features, root * np.eye(len(classes))[numbers], rcond=1e-10)[0]
    return float(w[(features @ solution).argmax(axis=1) != numbers].sum())


def labelling_error(adjacency: FloatArray, labels: IntArray) -> float:
    """The smallest delta that the graph allows, which is half the probability that a positive pair has two labels.

    A classifier of augmentations with error delta gives two views of an image different labels with probability at
    most 2 delta (arXiv 2106.04156, Appendix B). No smaller delta fits this graph and these labels.
    """
    crossing = adjacency[labels[:, None] != labels].sum() / adjacency.sum()
    return float(crossing / 2)


def relax(adjacency: FloatArray, epsilon: float, seed: int) -> FloatArray:
    """The random relaxation of Thms B.4 and B.5: `A + epsilon E` with E symmetric, standard normal off-diagonal.

    The diagonal stays 1. Degrees may become negative; `weights` checks them.

    Raises:
        ValueError: epsilon negative or not finite.
    """
    if not (np.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be finite and >= 0, got {epsilon}")
    noise = np.triu(np.random.default_rng(seed).standard_normal(adjacency.shape), 1)
    relaxed: FloatArray = adjacency + epsilon * (noise + noise.T)
    return relaxed


def _pairs(features: FloatArray, adjacency: FloatArray) -> tuple[FloatArray, FloatArray]:
    w = weights(adjacency)
    if features.ndim != 2 or len(features) != len(w):
        raise ValueError(f"{len(w)} vertices need features of shape ({len(w)}, k), got {features.shape}")
    products: NDArray[np.float64] = features @ features.T
    return w, products
