"""Alpha, beta and gamma of real embeddings (Tables 10 and 11 of arXiv 2501.01317), and the treatment they imply.

With labels, means and variances over all pairs are exact in O(N D^2) time and O(D^2) memory (`GroupSums`). Nothing of
size N x N is computed. Without labels a rank band replaces them, and pairs are read in row tiles.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pairsift._base.checks import class_labels, real_array, unmasked
from pairsift._base.extras import needs
from pairsift.pairs import BandMasks, RankBand, tile_rows
from pairsift.theory import bounds
from pairsift.theory.graph import BoolArray, FloatArray, IntArray, SimilarityGraph
from pairsift.treatments import Treatment

# Number of rows that are converted to float64 and normalised at a time.
_TILE_ROWS = 4096


@dataclass(frozen=True)
class Level:
    """Cosine similarity over one kind of pairs.

    Attributes:
        mean: in [-1, 1]; nan without pairs.
        variance: sample variance.
        pairs: number of pairs. By rank band every pair counts once from each side.
    """

    mean: float
    variance: float
    pairs: int


@dataclass(frozen=True)
class Levels:
    """Measured similarity levels.

    Attributes:
        alpha: pairs of the same class. Without labels: pairs ranked above the band.
        beta: pairs of different classes with two easy examples. Without labels: pairs ranked below the band.
        gamma: pairs of different classes with at least one difficult example, as in the paper's tables. Without labels:
            pairs in the band.
        gamma_both: pairs of different classes with two difficult examples, which is gamma in the similarity graph.
            None without labels.
        t, p: Welch's test of gamma against beta, as in the paper. Pairs that share an example are not independent, so
            p is far too small to be a probability. None without labels.
        n: mean number of examples of a class. Without labels it follows from `n_classes`.
        n_classes: r + 1.
        n_d: mean number of difficult examples of a class. None without labels.
        difficult: (N,) bool, the examples taken as difficult. None without labels.
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
        """gamma - beta, the margin sigma of the theory."""
        return self.gamma.mean - self.beta.mean

    def graph(self, pairing: str = "block", views: int = 2) -> SimilarityGraph:
        """The similarity graph with these levels and `views` augmentations of every example.

        Raises:
            ValueError: the levels do not satisfy beta <= gamma < alpha, or n_d is unknown.
        """
        if self.n_d is None:
            raise ValueError(
                "levels that were measured by ranks have no number of difficult examples: pass labels to measure_levels"
            )
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
        labels: (N,) classes. Rows with -1 are unlabelled and left out. None measures by `band`.
        difficult: (N,) bool. None takes the examples that `difficult_examples` finds.
        fraction: share of each class taken as difficult, in (0, 1).
        band: used without labels. Pairs ranked above, in and below it give alpha, gamma and beta.
        n_classes: used without labels: the number of classes. None takes round(1 / band.start).

    Raises:
        ValueError: shapes that do not fit, rows that are not finite, constant features, fewer than two classes, a class
            with one example, a fraction out of range, neither labels nor a band, or a band without a lower end.

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
    known = labels >= 0 if labels.dtype.kind in "if" else np.ones(len(labels), bool)
    if not known.any():
        raise ValueError("levels need labels of two classes, but every row is unlabelled (-1)")
    if difficult is not None:
        difficult = _checked_marks(difficult, labels.shape)[known]
    features, labels = features[known], labels[known]
    classes, numbers = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"levels need at least two classes, but every label is {classes[0]}")
    counts = np.bincount(numbers)
    if counts.min() < 2:
        raise ValueError(f"class {classes[counts.argmin()]} has {counts.min()} example: pairs in a class need two")
    if difficult is None:
        difficult = difficult_examples(features, numbers, fraction)
    return _levels_by_labels(features, numbers, difficult, len(classes))


def _checked_marks(difficult: NDArray[Any], shape: tuple[int, ...]) -> BoolArray:
    marks: BoolArray = unmasked(difficult, "difficult")
    if marks.shape != shape or marks.dtype != bool:
        raise ValueError(f"difficult must be bool of shape {shape}, got {marks.dtype} {marks.shape}")
    return marks


def difficult_examples(features: NDArray[Any], labels: IntArray, fraction: float = 0.08) -> BoolArray:
    """Find the difficult examples of every class with a linear classifier (Section 7 of arXiv 2501.01317).

    They have the smallest gap between the two largest class probabilities. The classifier is L2-regularised logistic
    regression, fitted to all standardised features.

    Args:
        features: (N, D).
        labels: (N,) classes.
        fraction: share of each class, in (0, 1). At least one example of each class is taken.

    Returns:
        (N,) bool.

    Raises:
        ValueError: fraction out of range.
    """
    if not isinstance(fraction, (int, float)) or not 0 < fraction < 1:
        raise ValueError(f"fraction must lie in (0, 1), got {fraction}")
    with needs("theory", "finding difficult examples by labels"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the order of gaps settles long before the loss does
        # A power of two rounds nothing. After scaling, entries of any size have squares in float32.
        scale = np.exp2(-np.round(np.log2(np.abs(features).max().astype(np.float64))))
        scaled = StandardScaler().fit_transform((features * scale).astype(np.float32))
        probabilities = LogisticRegression(max_iter=100).fit(scaled, labels).predict_proba(scaled)
    top = np.partition(probabilities, -2, axis=1)[:, -2:]
    gap = top[:, 1] - top[:, 0]
    difficult = np.zeros(len(gap), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        difficult[rows[np.argsort(gap[rows], kind="stable")[: max(1, round(fraction * len(rows)))]]] = True
    return difficult


@dataclass(frozen=True)
class Advice:
    """The theory's settings for measured levels, with a reason for each.

    Attributes:
        margin: sigma = gamma - beta, or 0 where gamma does not exceed beta.
        temperature_scale: rho = beta / gamma, or None where the ratio has no meaning.
        band_start: upper edge of the rank band, 1 / number of classes.
        removal_pays: whether removing difficult examples lowers the printed bound (Cor 4.1). None where this is
            unknown.
        reasons: one sentence each.
    """

    margin: float
    temperature_scale: float | None
    band_start: float
    removal_pays: bool | None
    reasons: tuple[str, ...]

    def treatment(self) -> Treatment:
        """The combined treatment of margin and temperature with these settings."""
        return Treatment(margin=self.margin, temperature_scale=self.temperature_scale or 1.0)


def advise(levels: Levels) -> Advice:
    """Derive the theory's settings: sigma = gamma - beta, rho = beta / gamma, band_start = 1 / classes, and Cor 4.1.

    Args:
        levels: measured with or without labels.

    Example:
        >>> import numpy as np
        >>> from pairsift.theory import advise, measure_levels
        >>> labels = np.arange(200) % 4
        >>> features = np.eye(8)[labels] + 0.2 * np.random.default_rng(0).standard_normal((200, 8))
        >>> advise(measure_levels(features, labels)).reasons[0].startswith("margin = gamma - beta")
        True
    """
    alpha, beta, gamma = levels.alpha.mean, levels.beta.mean, levels.gamma.mean
    start, gap, reasons = 1 / levels.n_classes, levels.gap, []
    if gap > 0:
        reasons.append(f"margin = gamma - beta = {gap:.4f}: lowers difficult pairs to the level of easy ones (Thm 4.3)")
    else:
        reasons.append(f"no margin: gamma {gamma:.4f} does not exceed beta {beta:.4f}, so no pair is difficult")
    scale = None
    if gap > 0 and beta > 0:
        scale = beta / gamma
        reasons.append(f"temperature_scale = beta / gamma = {scale:.3f} (Thm 4.5)")
    else:
        reasons.append(
            f"no temperature: beta / gamma has a meaning only for 0 < beta < gamma, got {beta:.4f}, {gamma:.4f}"
        )
    reasons.append(f"band_start = 1 / {levels.n_classes} classes = {start:.4g}: the share of same-class pairs in a row")
    if levels.difficult is None:
        reasons.append(
            "levels were measured by ranks, where gamma exceeds beta by construction: read the settings as upper limits"
        )
    pays, reason = _removal(levels)
    reasons.append(reason)
    if gamma >= alpha:
        reasons.append(
            f"gamma {gamma:.4f} >= alpha {alpha:.4f}: difficult pairs are more similar than same-class pairs, which "
            "the theory's graph excludes; the features have not formed classes"
        )
    return Advice(max(0.0, gap), scale, start, pays, tuple(reasons))


class GroupSums:
    """Count, sum and Gram matrix of a group of unit rows, from which the moments of its cosines follow.

    The cosines of the group sum to `||sum u||^2`, and their squares to `||sum u u^T||_F^2`.
    """

    def __init__(self, dimensions: int) -> None:
        self.n, self.total, self.gram = 0, np.zeros(dimensions), np.zeros((dimensions, dimensions))

    def add(self, rows: FloatArray) -> None:
        """Add unit rows, (R, D)."""
        self.n += len(rows)
        self.total += rows.sum(axis=0)
        self.gram += rows.T @ rows

    def merge(self, other: GroupSums) -> GroupSums:
        """Add the rows of another group. Returns self."""
        self.n += other.n
        self.total += other.total
        self.gram += other.gram
        return self

    def pairs(self) -> FloatArray:
        """Number of unordered pairs of different rows, the sum of their cosines, and the sum of the squares: (3,)."""
        n = self.n
        return np.array([n * (n - 1), self.total @ self.total - n, (self.gram**2).sum() - n]) / 2


def band_parts(features: Tensor, band: RankBand) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Similarities above, in and below a rank band, a few anchors at a time. Every pair comes once from each side.

    Args:
        features: (B, D), any float dtype.
        band: rank fractions.

    Yields:
        Three flat float32 tensors. An empty band yields nothing.

    Raises:
        TypeError, ValueError: see `select_pairs`.
    """
    masks = BandMasks(features, band)
    rows = tile_rows(masks.columns)
    for start in range(0, 0 if masks.empty else masks.rows, rows):
        similarities, high, low = masks.similarities(start, min(start + rows, masks.rows))
        similarities.diagonal(start).fill_(torch.nan)  # neither above, in nor below
        within = (similarities < high) & (similarities >= low)
        yield similarities[similarities >= high], similarities[within], similarities[similarities < low]


def band_sums(features: Tensor, band: RankBand) -> NDArray[np.float64]:
    """Count, sum and sum of squares of the similarities above, in and below the band, over all rows.

    Returns:
        (3, 3) with the rows above, in and below the band; see `band_parts`. Zeros where the band is empty.
    """
    sums = np.zeros((3, 3))
    for parts in band_parts(features, band):
        for row, part in zip(sums, parts, strict=True):
            wide = part.double()
            row += [len(wide), float(wide.sum()), float(wide @ wide)]
    return sums


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
        raise ValueError(f"{len(features)} examples are too few for {band}: it needs pairs above, in and below it")
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


def _removal(levels: Levels) -> tuple[bool | None, str]:
    if levels.n_d is None:
        return None, "whether removal pays is unknown: only labels give the number of difficult examples"
    try:
        condition = bounds.removal_pays(levels.graph())
    except ValueError as error:
        return None, f"whether removal pays is unknown: {error}"
    relation = ">" if condition.holds else "<="
    return condition.holds, (
        f"removal {'pays' if condition.holds else 'does not pay'} by Cor 4.1: "
        f"gamma - beta = {condition.left:.4g} {relation} {condition.right:.4g}"
    )
