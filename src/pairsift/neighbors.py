"""Unit rows, principal components, whitening, k-means and nearest neighbours of embeddings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

# Up to so many rows every row is compared; above that an inverted file is searched, which is approximate.
FLAT_LIMIT = 50_000

# Separates this stream of random numbers from others with the same seed: rows that another function drew by that seed
# (planted mixtures, say) must not be the rows that are drawn here.
_STREAM = 2501
# Share of the mean eigenvalue in every whitened direction: keeps directions that only hold noise small.
_SHRINKAGE = 0.1
# Rows that k-means++ picks its first centres from.
_START_ROWS = 5000
# Rows tried for each of these centres: with few, one centre often lies between two classes and another class has two.
_TRIALS = 30
# Rows on which recall is measured.
_RECALL_ROWS = 500


def generator(seed: int) -> np.random.Generator:
    """Random numbers of a seed, independent of other streams of the same seed."""
    return np.random.default_rng([seed, _STREAM])


def unit_rows(rows: FloatArray) -> FloatArray:
    """Rows (N, D) of unit length; a zero row stays zero, so that its cosine with every row is 0."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: FloatArray = np.ascontiguousarray(rows / np.maximum(norms, np.finfo(np.float32).tiny), dtype=np.float32)
    return unit


def principal_axes(
    features: FloatArray, weights: FloatArray | None = None
) -> tuple[FloatArray, NDArray[np.float64], NDArray[np.float64]]:
    """Centre (D,), variances (D,) ascending, and axes (D, D) in columns.

    Args:
        features: (N, D).
        weights: (N,) of the rows, positive; None weighs all alike.
    """
    if weights is None:
        centre, total = features.mean(axis=0, dtype=np.float64).astype(np.float32), float(len(features))
    else:
        total = float(weights.sum(dtype=np.float64))
        sums = [
            weights[i : i + 4096].astype(np.float64) @ features[i : i + 4096] for i in range(0, len(features), 4096)
        ]
        centre = (np.sum(sums, axis=0) / total).astype(np.float32)
    gram = np.zeros((features.shape[1], features.shape[1]))
    for start in range(0, len(features), 4096):
        centred = (features[start : start + 4096] - centre).astype(np.float64)
        scaled = centred if weights is None else centred * weights[start : start + 4096, None]
        gram += scaled.T @ centred
    values, vectors = np.linalg.eigh(gram / total)
    return centre, np.maximum(values, 0), vectors


def shrinkage_whitening(
    values: NDArray[np.float64], vectors: NDArray[np.float64], shrinkage: float = _SHRINKAGE
) -> FloatArray:
    """Matrix (D, D) that whitens centred features with these principal axes: `(x - centre) @ whitening`."""
    scale = np.sqrt((1 - shrinkage) * values + shrinkage * values.mean())
    whitening: FloatArray = (vectors / scale).astype(np.float32)
    return whitening


def kmeans(
    rows: FloatArray, clusters: int, seed: int, *, weights: FloatArray | None = None, spherical: bool = True,
    spread: bool = False,
) -> FloatArray:  # fmt: skip
    """Centres (clusters, D) of k-means.

    Args:
        rows: (N, D), of unit length where `spherical`.
        clusters: number of centres, at most N.
        seed: of the first centres.
        weights: (N,) of the rows, positive; None weighs all alike.
        spherical: by cosine, with centres of unit length; else by Euclidean distance.
        spread: start from centres far apart (k-means++, Arthur and Vassilvitskii, 2007), so that small clusters get
            one too; else from rows drawn at random.
    """
    fit = faiss.Kmeans(rows.shape[1], clusters, niter=20, seed=seed, spherical=spherical, min_points_per_centroid=1)
    start = _far_apart(rows, clusters, seed, weights) if spread else None
    fit.train(rows, weights=weights, init_centroids=start)
    centres: FloatArray = np.asarray(fit.centroids)
    return centres


def _far_apart(rows: FloatArray, clusters: int, seed: int, weights: FloatArray | None) -> FloatArray:
    from sklearn.cluster import kmeans_plusplus

    most = max(_START_ROWS, clusters)
    chosen = np.sort(generator(seed).choice(len(rows), min(len(rows), most), replace=False))
    some = None if weights is None else weights[chosen]
    return np.ascontiguousarray(
        kmeans_plusplus(rows[chosen], clusters, sample_weight=some, random_state=seed, n_local_trials=_TRIALS)[0],
        dtype=np.float32,
    )


class NearestIndex:
    """Nearest rows by cosine: of all rows, or of an inverted file (approximate), by faiss.

    Args:
        width: D, the dimensions of the rows.
        lists: lists of the inverted file; 0 compares every row.
        probes: lists that a search reads.
        half: keep the rows of an inverted file in half precision.
        iterations: of the k-means that makes the lists.
        seed: of that k-means.
        centres: of the lists, the attribute of another index that has learned as many; None learns them by `train`.

    Attributes:
        exact: whether every row is compared.
        centres: of the lists, a faiss index; None where it is exact.

    Example:
        >>> import numpy as np
        >>> from pairsift.neighbors import NearestIndex
        >>> index = NearestIndex.of(np.eye(3, dtype=np.float32))
        >>> index.search(np.array([[0.6, 0.8, 0]], np.float32), 2)[1].tolist()
        [[1, 0]]
    """

    def __init__(
        self, width: int, *, lists: int = 0, probes: int = 6, half: bool = False, iterations: int = 10, seed: int = 0,
        centres: Any = None,
    ) -> None:  # fmt: skip
        self.exact = lists == 0
        self._index: Any = faiss.IndexFlatIP(width)
        self.centres: Any = None
        if lists:
            # The attribute keeps the centres alive, which faiss does not.
            self.centres = faiss.IndexFlatIP(width) if centres is None else centres
            of = (self.centres, width, lists)
            if half:
                kept = faiss.ScalarQuantizer.QT_fp16
                self._index = faiss.IndexIVFScalarQuantizer(*of, kept, faiss.METRIC_INNER_PRODUCT, False)
            else:
                self._index = faiss.IndexIVFFlat(*of, faiss.METRIC_INNER_PRODUCT)
            clustering = self._index.cp
            clustering.seed, clustering.niter, clustering.spherical = seed, iterations, True
            clustering.min_points_per_centroid = 1
            self._index.nprobe = min(probes, lists)
            self._index.is_trained = centres is not None

    @classmethod
    def of(
        cls, unit: FloatArray, *, inverted: bool | None = None, list_rows: int = 200, probes: int = 6, seed: int = 0
    ) -> NearestIndex:
        """An index of unit rows (N, D).

        Args:
            unit: the rows.
            inverted: search an inverted file; None where there are more than `FLAT_LIMIT` rows.
            list_rows: mean number of rows in a list of the inverted file.
            probes: lists that a search reads.
            seed: of the inverted file.
        """
        inverted = len(unit) > FLAT_LIMIT if inverted is None else inverted
        index = cls(unit.shape[1], lists=max(1, len(unit) // list_rows) if inverted else 0, probes=probes, seed=seed)
        index.train(unit)
        index.add(unit)
        return index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def train(self, sample: FloatArray) -> None:
        """Make the lists of an inverted file from unit rows (N, D); nothing to do where it is exact or has centres."""
        if not self._index.is_trained:
            self._index.train(sample)

    def add(self, unit: FloatArray) -> None:
        """Add unit rows (N, D), which get the next positions."""
        self._index.add(unit)

    def search(self, queries: FloatArray, count: int, probes: int | None = None) -> tuple[FloatArray, IntArray]:
        """Cosines and positions (Q, count), nearest first; -1 where an inverted file finds fewer.

        Args:
            queries: (Q, D) unit rows.
            count: neighbours of each, the row itself among them where it is in the index.
            probes: lists to read, other than those of the index.
        """
        if probes is not None and not self.exact:
            self._index.nprobe = probes
        cosines, found = self._index.search(np.ascontiguousarray(queries), count)
        return cosines, found

    def recall(self, queries: FloatArray, blocks: Iterable[FloatArray], count: int) -> float:
        """Share of the true `count` nearest rows of queries (Q, D) that `search` finds, in [0, 1].

        Args:
            queries: unit rows.
            blocks: all rows of the index, in order.
            count: neighbours to compare.
        """
        if self.exact:
            return 1.0
        true = nearest_of_blocks(queries, blocks, count)[1]
        found = self.search(queries, count)[1]
        return float(np.mean([np.isin(a, b).mean() for a, b in zip(true, found, strict=True)]))

    def sampled_recall(self, unit: FloatArray, count: int, seed: int) -> float:
        """The recall on at most 500 of the rows (N, D) that the index holds."""
        rows = generator(seed).choice(len(unit), min(len(unit), _RECALL_ROWS), replace=False)
        return self.recall(unit[rows], [unit], count)


def nearest_of_blocks(queries: FloatArray, blocks: Iterable[FloatArray], count: int) -> tuple[FloatArray, IntArray]:
    """Cosines and positions (Q, count) of the nearest rows, every row compared, block by block.

    Args:
        queries: (Q, D) unit rows.
        blocks: unit rows, (B, D) each.
        count: neighbours of each query, fewer where there are fewer rows.
    """
    merged = faiss.ResultHeap(len(queries), count, keep_max=True)
    start = 0
    for block in blocks:
        flat = faiss.IndexFlatIP(block.shape[1])
        flat.add(block)
        cosines, found = flat.search(np.ascontiguousarray(queries), min(count, len(block)))
        merged.add_result(cosines, np.ascontiguousarray(found + start))
        start += len(block)
    merged.finalize()
    most = min(count, start)
    return merged.D[:, :most], merged.I[:, :most]
