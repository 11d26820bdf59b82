"""Chooses parts of a data set by features without labels, for the study of subsets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsift.scanning import scan

Rows = NDArray[np.int64]
Chooser = Callable[[NDArray[np.float32], int, int, int], Rows]


def by_scan(features: NDArray[np.float32], count: int, classes: int, seed: int) -> Rows:
    """The rows with the lowest difficulty."""
    return _smallest(scan(features, n_classes=classes, seed=seed, threads=1).scores, count)


def by_prototypes(features: NDArray[np.float32], count: int, classes: int, seed: int) -> Rows:
    """The rows nearest to the centre of their cluster (arXiv 2206.14486)."""
    unit = _unit(features)
    similarity, _ = _clusters(unit, classes, seed)
    return _smallest(-similarity, count)


def by_augmentation_similarity(features: NDArray[np.float32], count: int, classes: int, seed: int) -> Rows:
    """The rows of SAS (arXiv 2302.09195), which are similar to other rows of their cluster, and not to each other.

    Of every cluster, in proportion to its size, rows S are chosen greedily that maximise the sum of similarities
    between S and the other rows of the cluster. Clusters replace latent classes, and features of one view replace the
    expected similarity of augmented pairs.
    """
    unit = _unit(features)
    _, cluster = _clusters(unit, classes, seed)
    sizes = np.bincount(cluster, minlength=classes)
    # Whole numbers that add up to the count.
    wanted = np.diff(np.rint(np.cumsum(sizes) * count / len(unit)).astype(int), prepend=0)
    chosen = [_most_cut(unit[rows], n, rows) for rows, n in _parts(cluster, wanted)]
    return np.sort(np.concatenate(chosen))


CHOOSERS: dict[str, Chooser] = {
    "scan": by_scan, "prototypes": by_prototypes, "sas": by_augmentation_similarity,
}  # fmt: skip


def _parts(cluster: Rows, wanted: NDArray[np.int64]) -> list[tuple[Rows, int]]:
    return [(np.flatnonzero(cluster == each), int(n)) for each, n in enumerate(wanted)]


def _most_cut(unit: NDArray[np.float32], count: int, rows: Rows) -> Rows:
    """Choose rows greedily by their similarity to other rows minus that to chosen rows."""
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, 0)
    gain = similarity.sum(axis=1)
    chosen = []
    for _ in range(count):
        best = int(gain.argmax())
        chosen.append(best)
        gain -= 2 * similarity[best]
        gain[best] = -np.inf
    return rows[chosen]


def _clusters(unit: NDArray[np.float32], classes: int, seed: int) -> tuple[NDArray[np.float32], Rows]:
    """Similarity to the nearest centre, and its number."""
    from sklearn.cluster import KMeans

    found = KMeans(classes, random_state=seed, n_init=3).fit(unit)
    similarity = (unit @ _unit(found.cluster_centers_.astype(np.float32)).T).max(axis=1)
    return similarity, found.labels_.astype(np.int64)


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return unit


def _smallest(scores: NDArray[np.floating[Any]], count: int) -> Rows:
    return np.sort(np.argsort(scores, kind="stable")[:count]).astype(np.int64)
