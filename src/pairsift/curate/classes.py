"""A rough number of classes, where nobody says it."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score

# Examples looked at: silhouettes compare all pairs of them.
_EXAMPLES = 1500


@dataclass(frozen=True)
class ClassEstimate:
    """An estimated number of classes with its evidence.

    Attributes:
        n_classes: the candidate with the largest silhouette.
        candidates: the numbers tried.
        silhouettes: mean silhouette of each, in [-1, 1]: about 0 means no clusters, above 0.25 clear ones.
    """

    n_classes: int
    candidates: tuple[int, ...]
    silhouettes: tuple[float, ...]

    @property
    def words(self) -> str:
        """How far it is to be trusted, in words."""
        best = max(self.silhouettes)
        trust = "clear clusters" if best > 0.25 else "weak clusters: rough" if best > 0.05 else "hardly any clusters"
        return f"about {self.n_classes} classes by the best silhouette, {best:.2f} ({trust}); --n-classes sets it"


def estimate_classes(features: NDArray[np.float32], seed: int = 0) -> ClassEstimate:
    """Number of k-means clusters of centred unit features with the largest mean silhouette, on a sample.

    Candidates grow by a factor of about 1.4 from 2 to a tenth of the sample, so the answer is rough by design.

    Args:
        features: (N, D) finite, N >= 10.
        seed: seed of the sample and the clusterings.
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(features), min(len(features), _EXAMPLES), replace=False))
    sample = features[chosen] - features[chosen].mean(axis=0)
    sample /= np.maximum(np.linalg.norm(sample, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    sample = np.ascontiguousarray(sample, dtype=np.float32)
    most = max(2, len(sample) // 10)
    candidates = sorted({round(2 * 2 ** (i / 2)) for i in range(20)} & set(range(2, most + 1)))
    silhouettes = []
    for number in candidates:
        kmeans = faiss.Kmeans(
            sample.shape[1], number, niter=20, nredo=2, seed=seed, spherical=True, min_points_per_centroid=1
        )
        kmeans.train(sample)
        centres: NDArray[np.float32] = np.asarray(kmeans.centroids)
        labels = (sample @ centres.T).argmax(axis=1)
        fair = 1 < len(np.unique(labels)) < len(sample)
        silhouettes.append(float(silhouette_score(sample, labels, metric="cosine")) if fair else -1.0)
    return ClassEstimate(candidates[int(np.argmax(silhouettes))], tuple(candidates), tuple(silhouettes))
