"""The spaces in which embeddings are compared, and clusters in them."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

# Rows drawn elsewhere with the same seed (planted mixes, say) must not be the rows that a scan learns from.
_STREAM = 2501
# Share of the mean eigenvalue in every direction that a scan whitens: keeps directions of mere noise small.
_SHRINKAGE = 0.1


def principal_axes(features: FloatArray) -> tuple[FloatArray, NDArray[np.float64], NDArray[np.float64]]:
    """Centre (D,), variances (D,) ascending and axes (D, D), in columns, of features (N, D)."""
    centre = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    gram = np.zeros((features.shape[1], features.shape[1]))
    for start in range(0, len(features), 4096):
        centred = (features[start : start + 4096] - centre).astype(np.float64)
        gram += centred.T @ centred
    values, vectors = np.linalg.eigh(gram / len(features))
    return centre, np.maximum(values, 0), vectors


def shrinkage_whitening(
    values: NDArray[np.float64], vectors: NDArray[np.float64], shrinkage: float = _SHRINKAGE
) -> FloatArray:
    """Matrix (D, D) that whitens centred features with these principal axes: `(x - centre) @ whitening`."""
    scale = np.sqrt((1 - shrinkage) * values + shrinkage * values.mean())
    whitening: FloatArray = (vectors / scale).astype(np.float32)
    return whitening


def generator(seed: int) -> np.random.Generator:
    """The scan's own stream of a seed."""
    return np.random.default_rng([seed, _STREAM])


def unit_rows(rows: FloatArray) -> FloatArray:
    """Rows of unit length; a row at the centre stays zero, alike to nothing."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: FloatArray = np.ascontiguousarray(rows / np.maximum(norms, np.finfo(np.float32).tiny), dtype=np.float32)
    return unit


def kmeans(unit: FloatArray, clusters: int, seed: int) -> FloatArray:
    """Unit centres (clusters, D) of spherical k-means."""
    fit = faiss.Kmeans(unit.shape[1], clusters, niter=20, seed=seed, spherical=True, min_points_per_centroid=1)
    fit.train(unit)
    centres: FloatArray = np.asarray(fit.centroids)
    return centres
