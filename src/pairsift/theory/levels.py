"""Alpha, beta and gamma of real embeddings (Tables 10 and 11 of arXiv 2501.01317).

With labels nothing of size N x N is computed, nor any pair by itself: means and variances of all pairs are exact in
O(N D^2) time and O(D^2) memory (`statistics.GroupSums`). Without labels a rank band stands in for them, by row tiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pairsift._base.checks import class_labels, real_array
from pairsift._base.extras import needs
from pairsift.pairs import RankBand
from pairsift.theory.arrays import BoolArray, FloatArray, IntArray
from pairsift.theory.difficult import difficult_examples
from pairsift.theory.graph import SimilarityGraph
from pairsift.theory.statistics import GroupSums, band_sums

# Rows converted to float64 and normalised at once.
_TILE_ROWS = 4096


@dataclass(frozen=True)
class Level:
    """Cosine similarity over a kind of pairs: mean, sample variance, number (by bands each counts from both sides)."""

    mean: float
    variance: float
    pairs: int


@dataclass(frozen=True)
class Levels:
    """Measured similarity levels.

    Attributes:
        alpha: same class; without labels, ranked above the band.
        beta: different classes, neither difficult; without labels, ranked below the band.
        gamma: different classes, at least one difficult (as in the paper's tables); without labels, in the band.
        gamma_both: different classes, both difficult: what gamma is in the similarity graph; None without labels.
        t, p: Welch's test of gamma against beta. Pairs that share an example are not independent, so p is far too small
            as a probability; it is given because the paper gives it. None without labels.
        n: mean number of examples of a class (without labels: from `n_classes`).
        n_classes: r + 1.
        n_d: mean number of difficult examples of a class; None without labels.
        difficult: (N,) bool, the examples taken as difficult; None without labels.
    """

    alpha: Level
    beta: Level
    gamma: Level
    n: float
    n_classes: int
    gamma_both: Level | None = None
    t: float | None = None
    p: float | None = None
    n_d: float | None = None
    difficult: BoolArray | None = field(default=None, repr=False)

    @property
    def gap(self) -> float:
        """gamma - beta, the sigma that the theory asks for."""
        return self.gamma.mean - self.beta.mean

    def graph(self, pairing: str = "block", views: int = 2) -> SimilarityGraph:
        """The similarity graph with these levels, `views` augmentations of every example.

        Raises:
            ValueError: the levels are not those of a graph (beta <= gamma < alpha), or n_d is not known.
        """
        if self.n_d is None:
            raise ValueError("levels without labels do not know how many examples are difficult: measure with labels")
        return SimilarityGraph(
            n=max(1, round(views * self.n)), r=self.n_classes - 1, n_d=round(views * self.n_d), alpha=self.alpha.mean,
            beta=self.beta.mean, gamma=self.gamma.mean, pairing="matched" if pairing == "matched" else "block",
        )  # fmt: skip


def measure_levels(
    features: NDArray[Any],
    labels: IntArray | NDArray[Any] | None = None,
    difficult: BoolArray | None = None,
    fraction: float = 0.08,
    band: RankBand | None = None,
    n_classes: int | None = None,
) -> Levels:
    """Measure alpha, beta and gamma of embeddings, with labels or by a rank band.

    Args:
        features: (N, D), any float type.
        labels: (N,) classes; None measures by `band`.
        difficult: (N,) bool; None takes, in each class, the `fraction` with the smallest gap between the two largest
            probabilities of a linear classifier fitted to the features (Section 7 of the method).
        fraction: share of each class taken as difficult, in (0, 1).
        band: without labels: pairs ranked above, in and below it give alpha, gamma and beta.
        n_classes: without labels: number of classes; None takes round(1 / band.start).

    Raises:
        ValueError: shapes that do not fit, non-finite rows, constant features, fewer than two classes, a class without
            two examples, a fraction out of range, neither labels nor a band, or a band without a lower end.

    Example:
        >>> import numpy as np
        >>> from pairsift.theory import measure_levels
        >>> labels = np.arange(200) % 4
        >>> features = np.eye(8)[labels] + 0.2 * np.random.default_rng(0).standard_normal((200, 8))
        >>> levels = measure_levels(features, labels)
        >>> levels.alpha.mean > levels.gamma.mean > levels.beta.mean
        True
    """
    features = _check_features(features)
    if labels is None:
        if band is None:
            raise ValueError("levels need labels, or a band=RankBand(start, stop) that stands in for them")
        return _levels_by_band(features, band, n_classes)
    labels = class_labels(labels, "labels")
    if labels.shape != (len(features),):
        raise ValueError(f"{len(features)} features need labels of shape ({len(features)},), got {labels.shape}")
    classes, numbers = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"levels need at least two classes, but every label is {classes[0]}")
    counts = np.bincount(numbers)
    if counts.min() < 2:
        raise ValueError(f"class {classes[counts.argmin()]} has {counts.min()} example: pairs in a class need two")
    if difficult is None:
        difficult = difficult_examples(features, numbers, fraction)
    difficult = np.asarray(difficult)
    if difficult.shape != labels.shape or difficult.dtype != bool:
        raise ValueError(f"difficult must be bool of shape {labels.shape}, got {difficult.dtype} {difficult.shape}")
    return _levels_by_labels(features, numbers, difficult, len(classes))


def _levels_by_labels(features: NDArray[Any], labels: IntArray, difficult: BoolArray, n_classes: int) -> Levels:
    dimensions = features.shape[1]
    everything, easy, hard = GroupSums(dimensions), GroupSums(dimensions), GroupSums(dimensions)
    same, same_easy, same_hard = np.zeros(3), np.zeros(3), np.zeros(3)
    order = np.argsort(labels, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(labels))[:-1]):
        parts = {False: GroupSums(dimensions), True: GroupSums(dimensions)}
        for is_hard, part in parts.items():
            chosen = rows[difficult[rows] == is_hard]
            for start in range(0, len(chosen), _TILE_ROWS):
                part.add(_unit(features[chosen[start : start + _TILE_ROWS]]))
        both = GroupSums(dimensions).merge(parts[False]).merge(parts[True])
        same += both.pairs()
        same_easy += parts[False].pairs()
        same_hard += parts[True].pairs()
        everything.merge(both)
        easy.merge(parts[False])
        hard.merge(parts[True])
    apart, apart_easy = everything.pairs() - same, easy.pairs() - same_easy
    beta, gamma = _level(apart_easy), _level(apart - apart_easy)
    t, p = _welch(gamma, beta)
    return Levels(
        alpha=_level(same), beta=beta, gamma=gamma, gamma_both=_level(hard.pairs() - same_hard), t=t, p=p,
        n=len(labels) / n_classes, n_classes=n_classes, n_d=int(difficult.sum()) / n_classes, difficult=difficult,
    )  # fmt: skip


def _levels_by_band(features: NDArray[Any], band: RankBand, n_classes: int | None) -> Levels:
    if band.stop >= 1:
        raise ValueError(f"a band with stop={band.stop} leaves no pairs below it to measure beta on: choose stop < 1")
    classes = round(1 / band.start) if n_classes is None else n_classes
    if not isinstance(classes, int) or classes < 2:
        raise ValueError(f"levels need at least two classes, got n_classes={classes} (from start={band.start})")
    sums = band_sums(torch.from_numpy(np.array(features)), band)
    if 0 in sums[:, 0]:
        raise ValueError(f"{len(features)} examples are too few for {band}: above, in or below it is no pair")
    alpha, gamma, beta = (_level(row) for row in sums)
    return Levels(alpha, beta, gamma, n=len(features) / classes, n_classes=classes)


def _level(sums: NDArray[np.float64]) -> Level:
    count, total, squares = sums.tolist()
    if count < 1:
        return Level(math.nan, math.nan, 0)
    mean = total / count
    return Level(mean, max(0.0, squares - count * mean**2) / max(1.0, count - 1), round(count))


def _welch(gamma: Level, beta: Level) -> tuple[float, float]:
    if min(gamma.pairs, beta.pairs) < 2 or gamma.variance + beta.variance == 0:
        return math.nan, math.nan
    with needs("theory", "Welch's test of the levels"):
        from scipy import stats
    result = stats.ttest_ind_from_stats(
        gamma.mean, math.sqrt(gamma.variance), gamma.pairs, beta.mean, math.sqrt(beta.variance), beta.pairs,
        equal_var=False,
    )  # fmt: skip
    return float(result.statistic), float(result.pvalue)


def _unit(rows: NDArray[Any]) -> FloatArray:
    wide = rows.astype(np.float64)
    unit: FloatArray = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return unit


def _check_features(features: NDArray[Any]) -> NDArray[Any]:
    features = real_array(features, "features")
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"features must be a non-empty (N, D) matrix, got shape {features.shape}")
    if features.dtype.kind != "f":
        raise ValueError(f"features must be floating point, got {features.dtype}")
    if features.dtype not in (np.float16, np.float32, np.float64) or not features.dtype.isnative:
        features = features.astype(np.float64)
    constant = True
    for start in range(0, len(features), _TILE_ROWS):
        tile = features[start : start + _TILE_ROWS]
        bad = np.flatnonzero(~np.isfinite(tile).all(axis=1))
        if len(bad):
            raise ValueError(f"features row {start + bad[0]} is not finite")
        constant = constant and bool((tile == features[0]).all())
    if constant and len(features) > 1:
        raise ValueError(f"all {len(features)} feature rows are equal: there is nothing to measure")
    return features
