"""How well a score finds examples that are known to be difficult."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score

from pairsift._base.checks import real_array


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
        ValueError: other shapes, no numbers, or all or none of the scored examples are planted.

    Example:
        >>> import numpy as np
        >>> from pairsift.evaluate import detection
        >>> planted = np.array([False, True, False, True])
        >>> detection(np.array([0.1, 0.9, 0.4, 0.3]), planted).auroc  # of four pairs three are in order
        0.75
    """
    scores, planted = real_array(scores, "scores"), real_array(planted, "planted")
    if planted.size and not np.isin(planted, (0, 1)).all():
        raise ValueError(f"planted must be bool, got other values than 0 and 1 in {planted.dtype}")
    if scores.shape != planted.shape or scores.ndim != 1:
        raise ValueError(f"scores and planted must be (N,) alike, got {scores.shape} and {planted.shape}")
    good = ~np.isnan(scores)
    # Only the order counts: ranks hold it where scores are infinite, too.
    scores, planted = rankdata(scores[good]), planted[good].astype(bool)
    if not 0 < planted.sum() < len(planted):
        raise ValueError(f"{planted.sum()} of {len(planted)} scored examples are planted: detection needs both kinds")
    return Detection(float(roc_auc_score(planted, scores)), float(average_precision_score(planted, scores)))
