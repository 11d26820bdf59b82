"""Measures that need no classifier: detection of planted examples, semantic hits, and intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pairsift._base.checks import real_array, unmasked
from pairsift._base.extras import needs


class Detection(NamedTuple):
    """The quality of a difficulty score; see `detection`.

    Attributes:
        auroc: area under the ROC curve, in [0, 1]. Chance is 0.5.
        average_precision: in (0, 1]. Chance is the planted share.
    """

    auroc: float
    average_precision: float


def detection(scores: NDArray[Any], planted: NDArray[Any]) -> Detection:
    """Measure how well a difficulty score finds planted examples.

    Args:
        scores: (N,), higher means more difficult. Rows with nan are left out.
        planted: (N,) bool.

    Raises:
        MissingExtraError: SciPy or scikit-learn is not installed.
        ValueError: other shapes, values that are not numbers, or all or none of the scored examples are planted.

    Example:
        >>> import numpy as np
        >>> from pairsift.evaluate import detection
        >>> planted = np.array([False, True, False, True])
        >>> detection(np.array([0.1, 0.9, 0.4, 0.3]), planted).auroc  # three of four pairs are in order
        0.75
    """
    scores, planted = real_array(scores, "scores"), real_array(planted, "planted")
    if planted.size and not np.isin(planted, (0, 1)).all():
        raise ValueError(f"planted must be bool, got other values than 0 and 1 in {planted.dtype}")
    if scores.shape != planted.shape or scores.ndim != 1:
        raise ValueError(f"scores and planted must be (N,) alike, got {scores.shape} and {planted.shape}")
    with needs("theory", "pairsift.evaluate.detection"):
        from scipy.stats import rankdata
        from sklearn.metrics import average_precision_score, roc_auc_score
    good = ~np.isnan(scores)
    # Only the order counts, and ranks keep it for infinite scores too.
    scores, planted = rankdata(scores[good]), planted[good].astype(bool)
    if not 0 < planted.sum() < len(planted):
        raise ValueError(f"{planted.sum()} of {len(planted)} scored examples are planted: detection needs both kinds")
    return Detection(float(roc_auc_score(planted, scores)), float(average_precision_score(planted, scores)))


def semantic_hits(original: ArrayLike, synonym: ArrayLike, antonym: ArrayLike) -> float:
    """Share of texts that are nearer to their synonym version than to their antonym version (arXiv 2107.00440).

    Args:
        original: (N, D) features of texts.
        synonym: (N, D) features of versions with the same meaning.
        antonym: (N, D) features of versions with another meaning.

    Returns:
        The share by cosine similarity, in [0, 1]. Ties count half.

    Raises:
        ValueError: shapes that differ, no rows, or a row that is zero or not finite.

    Example:
        >>> import pairsift as ps
        >>> ps.evaluate.semantic_hits([[1, 0], [0, 1]], [[1, 0], [1, 1]], [[1, 1], [0, 1]])
        0.5
    """
    units: list[NDArray[np.float64]] = []
    for name, features in (("original", original), ("synonym", synonym), ("antonym", antonym)):
        x = real_array(features, name).astype(np.float64)
        if x.ndim != 2 or 0 in x.shape or (units and x.shape != units[0].shape):
            raise ValueError(f"{name} must be a non-empty (N, D) matrix of the shape of the others, got {x.shape}")
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
        if len(bad):
            raise ValueError(f"{name} row {bad[0]} has no direction: it is zero or not finite")
        units.append(x / lengths)
    near, far = ((units[0] * each).sum(axis=1) for each in units[1:])
    return float(np.mean((near > far) + 0.5 * (near == far)))


def t_interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """The mean of values and the half-width of its 95 % Student t interval.

    Pass the differences of each pair for runs that are paired by seed.

    Args:
        values: (N,) one value per seed.

    Returns:
        ``(mean, half_width)``. The half-width of a single value is nan.

    Raises:
        MissingExtraError: SciPy is not installed.

    Example:
        >>> mean, half = t_interval([1.0, 2.0, 3.0])
        >>> f"{mean:.2f} ± {half:.2f}"
        '2.00 ± 2.48'
    """
    with needs("theory", "pairsift.evaluate.t_interval"):
        from scipy import stats
    sample = unmasked(values, "values").astype(np.float64)
    count = len(sample)
    half = stats.t.ppf(0.975, count - 1) * sample.std(ddof=1) / math.sqrt(count) if count > 1 else math.nan
    return float(sample.mean()), float(half)
