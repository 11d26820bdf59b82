"""How well a score finds examples that are known to be difficult."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score


class Detection(NamedTuple):
    """How well a score finds what was planted; see `detection`.

    Attributes:
        auroc: area under the ROC curve, in [0, 1]; 0.5 is chance.
        average_precision: in (0, 1]; the planted share is chance.
    """

    auroc: float
    average_precision: float


def detection(scores: NDArray[Any], planted: NDArray[Any]) -> Detection:
    """Score a difficulty score against planted truth.

    Args:
        scores: (N,), higher means more difficult; nan rows are left out.
        planted: (N,) bool.

    Raises:
        ValueError: other shapes, or all or none of the scored examples are planted.

    Example:
        >>> import numpy as np
        >>> from pairsift.evaluate import detection
        >>> planted = np.array([False, True, False, True])
        >>> detection(np.array([0.1, 0.9, 0.4, 0.3]), planted).auroc  # of four pairs three are in order
        0.75
    """
    scores, planted = np.asarray(scores), np.asarray(planted, dtype=bool)
    if scores.shape != planted.shape or scores.ndim != 1:
        raise ValueError(f"scores and planted must be (N,) alike, got {scores.shape} and {planted.shape}")
    good = np.isfinite(scores)
    scores, planted = scores[good], planted[good]
    if not 0 < planted.sum() < len(planted):
        raise ValueError(f"{planted.sum()} of {len(planted)} scored examples are planted: detection needs both kinds")
    return Detection(float(roc_auc_score(planted, scores)), float(average_precision_score(planted, scores)))
