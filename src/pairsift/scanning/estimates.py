"""What a scan estimates of a whole set: a rough number of classes, and the levels alpha, beta and gamma."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score

from pairsift.data import UNLABELLED
from pairsift.neighbors import generator, kmeans, principal_axes, shrinkage_whitening, unit_rows
from pairsift.pairs import RankBand
from pairsift.theory import Level, Levels, measure_levels
from pairsift.theory.levels import band_parts

# Examples looked at: silhouettes compare all pairs of them.
_EXAMPLES = 1500


IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Histogram:
    """Numbers of similarities above, in and below the band, (3, bins), between `edges` (bins + 1,), on a sample."""

    edges: NDArray[np.float64]
    counts: IntArray


@dataclass(frozen=True)
class ClassEstimate:
    """An estimated number of classes, with what it was estimated from.

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
        """The estimate in words, between the numbers of clusters that are best in the two spaces."""
        best = sorted(self.candidates[int(np.argmax(each))] for each in (self.centred, self.whitened))
        rough = f" (a rough guess: {best[0]} to {best[1]})" if best[0] < best[1] else ""
        return f"about {self.n_classes} classes{rough}"


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


# Rows that levels by ranks are measured on, in so many disjoint parts for their error; and levels by labels.
_LEVEL_ROWS, _LEVEL_PARTS, _LABELLED_ROWS = 5000, 5, 20_000
_BINS = np.linspace(-1, 1, 101)


def usual_band(n_classes: int) -> RankBand:
    """One to two class shares below the top: where the nearest other class is."""
    high = 1 / n_classes
    return RankBand(high, min(2 * high, (1 + high) / 2))


def levels_by_ranks(
    sample: NDArray[np.float32], band: RankBand, n_classes: int, rng: np.random.Generator
) -> tuple[Levels, tuple[float, float, float], Histogram]:
    """Levels by ranks, their errors, and the similarities' histogram, on at most 5,000 rows."""
    chosen = sample[np.sort(rng.choice(len(sample), min(len(sample), _LEVEL_ROWS), replace=False))]
    counts = np.zeros((3, len(_BINS) - 1), np.int64)
    for parts in band_parts(torch.from_numpy(chosen), band):
        counts += np.stack([np.histogram(part.numpy(), _BINS)[0] for part in parts])
    histogram = Histogram(_BINS, counts)
    if 0 in counts.sum(axis=1):
        empty = Level(float("nan"), float("nan"), 0)
        return Levels(empty, empty, empty, n=len(sample) / n_classes, n_classes=n_classes), (0.0, 0.0, 0.0), histogram
    levels = measure_levels(chosen, band=band, n_classes=n_classes)
    error = np.zeros(3)
    if len(chosen) < len(sample):
        pieces = [measure_levels(chosen[i::_LEVEL_PARTS], band=band, n_classes=n_classes) for i in range(_LEVEL_PARTS)]
        means = [(piece.alpha.mean, piece.beta.mean, piece.gamma.mean) for piece in pieces]
        error = np.std(means, axis=0, ddof=1) / np.sqrt(_LEVEL_PARTS)
    alpha, beta, gamma = error.tolist()
    return replace(levels, n=len(sample) / n_classes), (alpha, beta, gamma), histogram


def levels_by_labels(
    sample: NDArray[np.float32], labels: NDArray[np.int64] | None, rng: np.random.Generator, say: Callable[[str], None]
) -> Levels | None:
    """Levels by labels on at most 20,000 rows; None without labels, or where they cannot be measured."""
    if labels is None:
        return None
    sample, labels = sample[labels != UNLABELLED], labels[labels != UNLABELLED]
    chosen = np.sort(rng.choice(len(sample), min(len(sample), _LABELLED_ROWS), replace=False))
    try:
        return measure_levels(sample[chosen], labels[chosen])
    except ValueError as error:
        say(f"levels by labels cannot be measured: {error}")
        return None
