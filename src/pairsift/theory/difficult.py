"""Which labelled examples are difficult (Section 7 of arXiv 2501.01317)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsift._base.extras import needs
from pairsift.theory.arrays import BoolArray, IntArray


def difficult_examples(features: NDArray[Any], labels: IntArray, fraction: float = 0.08) -> BoolArray:
    """The examples with the smallest gap between the two largest probabilities of a linear classifier, class by class.

    The classifier is L2-regularised logistic regression on standardised features, fitted to all of them.

    Args:
        features: (N, D).
        labels: (N,) classes.
        fraction: share of each class, in (0, 1); at least one example of each is taken.

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
        # By a power of two, which rounds nothing: entries of any size have squares in float32 then.
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
