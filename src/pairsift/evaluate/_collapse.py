"""Class collapse in features: the share of variance within classes, and NC1."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pairsift._base.checks import class_labels, feature_matrix

# Quantile of the normal distribution for 95 %.
_NORMAL = 1.959964
# Directions between class means with less than this share of the greatest variance count as none.
_RELATIVE = 1e-10


@dataclass(frozen=True)
class Collapse:
    """The degree to which classes have collapsed to points.

    Attributes:
        within_class: share of the variance that lies within classes, in [0, 1]. It is 0 where every class is a point.
        low, high: 95 % interval of `within_class` by the jackknife, which leaves out one example at a time.
        nc1: tr(S_w pinv(S_b)) / m, with the covariances of m classes within and between (arXiv 2008.08186). It is 0
            where every class is a point.
        per_class: by class, the mean squared distance to the class mean divided by the mean squared distance to the
            mean of all examples. The mean over examples is `within_class`.
        n: number of examples used.
    """

    within_class: float
    low: float
    high: float
    nc1: float
    per_class: dict[int, float] = field(repr=False)
    n: int

    def __str__(self) -> str:
        return (
            f"{self.within_class:.1%} of the variance within classes ({self.low:.1%} to {self.high:.1%}), "
            f"NC1 {self.nc1:.3g}, {self.n:,} examples of {len(self.per_class)} classes"
        )


def collapse(features: ArrayLike, labels: ArrayLike, *, normalise: bool = True) -> Collapse:
    """Measure whether the examples of every class lie on one point, which supervised contrastive training can cause.

    `theory.within_class_share` predicts the result (arXiv 2503.08203).

    Args:
        features: (N, D), finite.
        labels: (N,) whole numbers. Examples with a negative label, or alone in their class, are left out.
        normalise: whether rows are scaled to unit length, as contrastive losses do.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, zero rows to normalise, fewer than two classes
            with two examples, or examples that are all equal.

    Warns:
        UserWarning: classes with one example, which are left out.

    Example:
        >>> import numpy as np
        >>> import pairsift as ps
        >>> rng, labels = np.random.default_rng(0), np.arange(600) % 3
        >>> means = 4 * np.eye(3, 8)[labels]
        >>> print(ps.evaluate.collapse(means + rng.standard_normal((600, 8)), labels))
        41.4% of the variance within classes (39.8% to 43.0%), NC1 0.0909, 600 examples of 3 classes
    """
    x, y = _checked(features, labels, normalise)
    classes, place, sizes = np.unique(y, return_inverse=True, return_counts=True)
    means = np.zeros((len(classes), x.shape[1]))
    np.add.at(means, place, x)
    means /= sizes[:, None]
    deviations = x - means[place]
    within, total = (deviations**2).sum(axis=1), ((x - x.mean(axis=0)) ** 2).sum(axis=1)
    if not total.sum() > 0:
        raise ValueError("all examples are one point: there is no variance to share")
    share = float(within.sum() / total.sum())
    # Sums of squares about means, which move when an example is left out.
    own = sizes[place]
    left = (within.sum() - within * own / (own - 1)) / (total.sum() - total * len(x) / (len(x) - 1))
    half = _NORMAL * float(np.sqrt((len(x) - 1) / len(x) * ((left - left.mean()) ** 2).sum()))
    per_class = np.bincount(place, within) / sizes / total.mean()
    between = means - means.mean(axis=0)
    return Collapse(
        share, max(0.0, share - half), min(1.0, share + half), _nc1(deviations, between),
        dict(zip(classes.tolist(), per_class.tolist(), strict=True)), len(x),
    )  # fmt: skip


def _nc1(deviations: NDArray[np.float64], between: NDArray[np.float64]) -> float:
    """tr(S_w pinv(S_b)) / m, in the few directions along which class means differ."""
    _, values, directions = np.linalg.svd(between / np.sqrt(len(between)), full_matrices=False)
    used = values**2 > _RELATIVE * max(float(values[0] ** 2), np.finfo(float).tiny)
    if not used.any():
        return float("inf")
    spread = ((deviations @ directions[used].T) ** 2).mean(axis=0)
    return float((spread / values[used] ** 2).sum() / len(between))


def _checked(features: ArrayLike, labels: ArrayLike, normalise: bool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    x, y = feature_matrix(features, "features", np.float64), class_labels(labels, "labels")
    if y.shape != (len(x),) or y.dtype.kind not in "iub":
        raise ValueError(f"labels must be {len(x)} whole numbers, got {y.dtype} of shape {y.shape}")
    if normalise:
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        if not lengths.all():
            raise ValueError(f"features row {int((lengths == 0).argmax())} is zero: give normalise=False to keep it")
        x = x / lengths
    known = y >= 0
    classes, place, sizes = np.unique(y[known], return_inverse=True, return_counts=True)
    if len(classes) and (sizes == 1).any():
        alone = classes[sizes == 1]
        warnings.warn(
            f"classes with one example are left out: {len(alone)} of {len(classes)}, the first of them {alone[0]}",
            stacklevel=3,
        )
        known[known] = sizes[place] > 1
    if (sizes > 1).sum() < 2:
        raise ValueError(f"collapse needs two classes of two examples or more, got {int((sizes > 1).sum())}")
    return x[known], y[known].astype(np.int64)
