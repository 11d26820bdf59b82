"""Mined negatives that look like positives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairsift.retrieval.judging import Judged
from pairsift.retrieval.pairing import Pairing
from pairsift.retrieval.vectors import BLOCK, FloatArray, UnitFeatures, dots


@dataclass(frozen=True)
class Suspects:
    """M mined negatives.

    Attributes:
        identical: (M,) the negative is the anchor itself, or in some row its positive.
        likely: (M,) the guide takes it for a positive.
        margin_alone: how many it would take for one without the floor.
        similarity: (M,) with the anchor; nan without a guide.
    """

    identical: NDArray[np.bool_]
    likely: NDArray[np.bool_]
    margin_alone: int
    similarity: FloatArray

    @property
    def bad(self) -> NDArray[np.bool_]:
        """(M,) for either reason."""
        return self.identical | self.likely


def suspect(pairing: Pairing, features: UnitFeatures | None, judged: Judged | None) -> Suspects:
    """Compare every mined negative with its anchor."""
    mined = pairing.mined
    anchors = pairing.anchors[mined.pairs]
    identical = pairing.identical(anchors, mined.texts)
    similarity = np.full(len(anchors), np.nan, np.float32)
    if features is None or judged is None:
        return Suspects(identical, np.zeros(len(anchors), bool), 0, similarity)
    for start in range(0, len(anchors), BLOCK):
        some = slice(start, start + BLOCK)
        similarity[some] = dots(features.take(anchors[some]), features.take(mined.texts[some]))
    asked = judged.reliable[mined.pairs] & ~identical
    likely = asked & (similarity > judged.thresholds[mined.pairs])
    return Suspects(identical, likely, int((asked & (similarity > judged.edges[mined.pairs])).sum()), similarity)
