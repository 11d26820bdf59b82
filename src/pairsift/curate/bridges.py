"""Which pairs of near rows are of different classes, without labels: what the list of bridging pairs is sorted by.

Two estimates are combined. An affinity, fitted on reference rows, gives every row a code and two codes a probability;
and the share of many random clusterings that part two rows. Where there is a guide, both look at its features. A row
for which neither knows anything borrows from the nearest rows for which they do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsift.affinity import Affinity
from pairsift.curate.clusterings import random_clusterings
from pairsift.curate.neighbours import build_index
from pairsift.curate.spaces import FloatArray, generator, unit_rows

IntArray = NDArray[np.int64]

# Reference rows that the affinity is fitted on, at most.
FITTED = 10_000
# Nearest rows that a row without a code borrows from; a power of two, so that the mean of equals is exact.
_LENDERS = 4
# Pairs judged at once: their codes take some tens of MB.
_PAIRS = 16_384
# logit P(different) = offset - slope * logit P(same; affinity) + apart * share of clusterings that part the pair.
_OFFSET, _SLOPE, _APART = 0.0, 1.0, 4.0


class Judge:
    """Probability that two near rows are of different classes.

    Args:
        sample: (R, D) finite features of the reference rows, those of a guide where there is one.
        seed: seed of the draw, the affinity and the clusterings.

    Raises:
        AffinityError: no affinity can be fitted on the sample.
    """

    def __init__(self, sample: FloatArray, seed: int) -> None:
        chosen = np.sort(generator(seed).choice(len(sample), min(len(sample), FITTED), replace=False))
        fitted = Affinity.fit(sample[chosen], seed=seed).codes.numpy()
        self._codes = np.empty((len(sample), fitted.shape[1]), np.float32)
        self._codes[chosen] = fitted
        rest = np.setdiff1d(np.arange(len(sample)), chosen, assume_unique=True)
        if len(rest):
            centre = sample[chosen].mean(axis=0)
            index: Any = build_index(unit_rows(sample[chosen] - centre), True, seed)
            for start in range(0, len(rest), _PAIRS):
                rows = rest[start : start + _PAIRS]
                lenders = index.search(unit_rows(sample[rows] - centre), _LENDERS)[1]
                self._codes[rows] = fitted[np.where(lenders < 0, lenders[:, :1], lenders)].mean(axis=1)
        self._labels = random_clusterings(sample, seed)

    def different(
        self, positions: IntArray, neighbours: IntArray, anchors: IntArray, others: IntArray
    ) -> NDArray[np.float32]:
        """Probability that the rows of some pairs are of different classes.

        Args:
            positions: (B,) reference positions of a block's rows, -1 for those beyond the reference.
            neighbours: (B, k) reference positions of their neighbours, nearest first, -1 past the end.
            anchors: (P,) rows of the block, with a neighbour each.
            others: (P,) reference positions.

        Returns:
            (P,) in [0, 1].
        """
        # Its own lender where a row is in the reference, the nearest one where too few are found.
        lenders = neighbours[:, :_LENDERS]
        lenders = np.where(lenders < 0, lenders[:, :1], lenders)
        lenders = np.where(positions[:, None] >= 0, positions[:, None], lenders)
        codes = self._codes[lenders].mean(axis=1)
        parts = [np.zeros(0, np.float32)]
        for start in range(0, len(anchors), _PAIRS):
            rows, partners = anchors[start : start + _PAIRS], others[start : start + _PAIRS]
            logit = _logits(codes[rows], self._codes[partners])
            apart = (self._labels[lenders[rows]] != self._labels[partners][:, None]).mean(axis=(1, 2))
            parts.append((1 / (1 + np.exp(_SLOPE * logit - _APART * apart - _OFFSET))).astype(np.float32))
        return np.concatenate(parts)


def _logits(codes: FloatArray, others: FloatArray) -> FloatArray:
    """Logit of P(same class) of pairs of codes (P, M) each, as `Affinity` has it."""
    logits: FloatArray = np.einsum("pm,pm->p", codes[:, :-1], others[:, :-1]) + codes[:, -1] + others[:, -1]
    return logits
