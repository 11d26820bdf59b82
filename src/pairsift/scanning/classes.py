"""A rough number of classes, where nobody says it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score

from pairsift.neighbors import generator, kmeans, principal_axes, shrinkage_whitening, unit_rows

# Examples looked at: silhouettes compare all pairs of them.
_EXAMPLES = 1500


@dataclass(frozen=True)
class ClassEstimate:
    """An estimated number of classes with its evidence.

    Attributes:
        n_classes: geometric mean of the numbers of clusters with the largest silhouettes in both spaces.
        candidates: the numbers tried.
        centred, whitened: mean silhouette of each, in [-1, 1]; about 0 means no clusters.
    """

    n_classes: int
    candidates: tuple[int, ...]
    centred: tuple[float, ...]
    whitened: tuple[float, ...]

    @property
    def words(self) -> str:
        """The estimate and how far it is to be trusted, in words."""
        best = [self.candidates[int(np.argmax(each))] for each in (self.centred, self.whitened)]
        rough = ", which is rough" if max(best) > 2 * min(best) else ""
        return (
            f"about {self.n_classes} classes{rough}: the best silhouettes are those of {best[0]} clusters (centred, "
            f"{max(self.centred):.2f}) and {best[1]} (whitened, {max(self.whitened):.2f})"
        )


def estimate_classes(features: NDArray[np.float32], seed: int = 0) -> ClassEstimate:
    """A rough number of classes: k-means clusterings with the largest mean silhouettes, on a sample.

    Silhouettes of centred features see the few coarsest groups, those of whitened ones the finest that are separate;
    the number of classes lay between them on most sets tried, within a factor of three of their geometric mean.
    Candidates grow by a factor of about 1.4 from 2 to a tenth of the sample.

    Args:
        features: (N, D) finite, N >= 10.
        seed: seed of the sample and the clusterings.
    """
    rng = generator(seed)
    chosen = np.sort(rng.choice(len(features), min(len(features), _EXAMPLES), replace=False))
    most = max(2, len(chosen) // 10)
    candidates = tuple(sorted({round(2 * 2 ** (i / 2)) for i in range(15)} & set(range(2, most + 1))))
    centre, values, vectors = principal_axes(features)
    centred: NDArray[np.float32] = features[chosen] - centre
    whitened: NDArray[np.float32] = centred @ shrinkage_whitening(values, vectors)
    silhouettes = [
        tuple(_silhouette(unit_rows(space), number, seed) for number in candidates) for space in (centred, whitened)
    ]
    best = [candidates[int(np.argmax(each))] for each in silhouettes]
    return ClassEstimate(round(math.sqrt(best[0] * best[1])), candidates, silhouettes[0], silhouettes[1])


def _silhouette(unit: NDArray[np.float32], clusters: int, seed: int) -> float:
    labels = (unit @ kmeans(unit, clusters, seed).T).argmax(axis=1)
    fair = 1 < len(np.unique(labels)) < len(unit)
    return float(silhouette_score(unit, labels, metric="cosine")) if fair else -1.0
