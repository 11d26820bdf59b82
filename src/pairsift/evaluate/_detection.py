"""How well a score finds examples that are known to be difficult."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score


class Detection(NamedTuple):
    """Area under the ROC curve (0.5 is chance) and average precision (the planted share is chance)."""

    auroc: float
    average_precision: float


def detection(scores: NDArray[Any], planted: NDArray[Any]) -> Detection:
    """Score a difficulty score against planted truth.

    Args:
        scores: (N,), higher means more difficult; nan rows are left out.
        planted: (N,) bool.

    Raises:
        ValueError: other shapes, or all or none of the scored examples are planted.
    """
    scores, planted = np.asarray(scores), np.asarray(planted, dtype=bool)
    if scores.shape != planted.shape or scores.ndim != 1:
        raise ValueError(f"scores and planted must be (N,) alike, got {scores.shape} and {planted.shape}")
    good = np.isfinite(scores)
    scores, planted = scores[good], planted[good]
    if not 0 < planted.sum() < len(planted):
        raise ValueError(f"{planted.sum()} of {len(planted)} scored examples are planted: detection needs both kinds")
    return Detection(float(roc_auc_score(planted, scores)), float(average_precision_score(planted, scores)))
