"""The self-tuned graph of nearest neighbours and its leading eigenvectors."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from pairsift.neighbors import FloatArray, NearestIndex
from pairsift.same_class.errors import AffinityError

IntArray = NDArray[np.int64]

# Lists that a search of an inverted file reads.
_PROBES = 8
# Neighbour whose distance is a row's own scale (the seventh, as Zelnik-Manor & Perona have it).
_SCALE_RANK = 7
# Smallest distance of an eigenvalue from 1 that counts: below it parts of the graph are as good as separate.
_LEAST_GAP = 1e-3
# Directions of a graph are wanted, not their digits; a tighter tolerance doubles the time.
_TOLERANCE = 1e-2


def nearest(unit: FloatArray, count: int, seed: int) -> tuple[FloatArray, IntArray]:
    """Cosines and positions (N, count) of the nearest other rows of unit rows (N, D), nearest first."""
    index = NearestIndex.of(unit, probes=_PROBES, seed=seed)
    cosines, found = index.search(unit, count + 1)
    # Of exact copies the row itself need not come first; where it is not found at all, the last one is left out. An
    # inverted file that finds too few says -1: the row itself stands in, at the lowest cosine found.
    itself = found == np.arange(len(unit))[:, None]
    itself[~itself.any(axis=1), -1] = True
    shape = (len(unit), count)
    cosines, found = cosines[~itself].reshape(shape), found[~itself].reshape(shape)
    missing = found < 0
    found = np.where(missing, np.arange(len(unit))[:, None], found)
    cosines = np.where(missing, np.float32(0), cosines)
    return np.ascontiguousarray(cosines), np.ascontiguousarray(found)


def eigenvectors(cosines: FloatArray, neighbours: IntArray, count: int, start: FloatArray) -> FloatArray:
    """Leading eigenvectors (N, count) of the random walk on the self-tuned graph of nearest neighbours.

    An edge weighs `exp(-d_ij^2 / (s_i s_j))` with `s` the distance to the seventh neighbour (Zelnik-Manor and Perona,
    Self-tuning spectral clustering, 2004); the graph is the mean of both directions. The constant eigenvector is
    projected out beforehand, so that in a graph of several parts what separates the parts comes first. Eigenvectors are
    scaled to the commute-time distance, by `(1 - eigenvalue)^-1/2`: clear clusters outweigh the noise within them.

    Args:
        cosines, neighbours: (N, k), as `nearest` gives them.
        count: eigenvectors, below N - 1.
        start: (N,) start of the iteration.

    Raises:
        AffinityError: a graph of fewer directions.
    """
    n, k = neighbours.shape
    squares = np.maximum(2 - 2 * cosines.astype(np.float64), 1e-6)
    scale = np.sqrt(squares[:, min(_SCALE_RANK, k) - 1])
    weights = np.exp(-squares / (scale[:, None] * scale[neighbours]))
    graph = sparse.csr_matrix((weights.ravel(), neighbours.ravel(), np.arange(0, n * k + 1, k)), (n, n))
    graph = (graph + graph.T) / 2
    degrees = np.asarray(graph.sum(axis=1)).ravel() + 1e-9
    root = np.sqrt(degrees)
    walk = sparse.diags(1 / root) @ graph @ sparse.diags(1 / root)
    constant = root / np.linalg.norm(root)
    operator = LinearOperator((n, n), lambda x: walk @ x - constant * (constant @ x.ravel()), dtype=np.float64)
    try:
        values, vectors = eigsh(operator, count, which="LA", tol=_TOLERANCE, v0=start.astype(np.float64))
    except ArpackError as error:
        raise AffinityError(
            f"the graph of {n:,} rows has fewer than {count} directions that differ: most rows are copies of a few; "
            "leave copies out"
        ) from error
    order = np.argsort(-values)
    commute = 1 / np.sqrt(np.maximum(1 - values[order], _LEAST_GAP))
    ordered: FloatArray = (vectors[:, order] / root[:, None] * commute).astype(np.float32)
    return ordered
