"""Which pairs of near rows are of different classes, without labels: the order of the list of bridging pairs.

Two estimates are combined. One is the logit that an affinity, fitted on reference rows, gives two codes. It is averaged
with the logit of the mean codes of both neighbourhoods: near pairs differ little, their neighbourhoods differ more. The
other is the share of many random clusterings that keep two rows together. Where there is a guide, both look at its
features. A row that neither knows borrows from the nearest rows that they know.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsift.neighbors import FloatArray, NearestIndex, generator, kmeans, principal_axes, unit_rows
from pairsift.same_class import Affinity

IntArray = NDArray[np.int64]

# Reference rows that the affinity is fitted on, at most.
FITTED = 10_000
# Nearest rows that a row without a code borrows from; a power of two, so that the mean of equals is exact.
_LENDERS = 4
# Nearest rows that count, with the row itself, as its neighbourhood.
_AROUND = 4
# Pairs in one step: their codes take some tens of MB.
_PAIRS = 16_384


class PairModel:
    """Estimates how probably two near rows are of different classes.

    Args:
        sample: (R, D) finite features of the reference rows, those of a guide where there is one.
        near: (R, k) positions of the nearest of each, -1 past the end.
        rows, others: (P,) positions of some pairs of near reference rows, to learn from what is usual for such pairs.
        seed: seed of the draw, the affinity and the clusterings.

    Raises:
        AffinityError: no affinity can be fitted on the sample.
    """

    def __init__(self, sample: FloatArray, near: IntArray, rows: IntArray, others: IntArray, seed: int) -> None:
        chosen = np.sort(generator(seed).choice(len(sample), min(len(sample), FITTED), replace=False))
        fitted = Affinity.fit(sample[chosen], seed=seed).codes.numpy()
        self._codes = np.empty((len(sample), fitted.shape[1]), np.float32)
        self._codes[chosen] = fitted
        rest = np.setdiff1d(np.arange(len(sample)), chosen, assume_unique=True)
        if len(rest):
            centre = sample[chosen].mean(axis=0)
            index = NearestIndex.of(unit_rows(sample[chosen] - centre), inverted=True, seed=seed)
            for start in range(0, len(rest), _PAIRS):
                borrowing = rest[start : start + _PAIRS]
                lenders = index.search(unit_rows(sample[borrowing] - centre), _LENDERS)[1]
                self._codes[borrowing] = fitted[np.where(lenders < 0, lenders[:, :1], lenders)].mean(axis=1)
        self._around = np.concatenate([
            self._mean_codes(np.arange(start, min(start + _PAIRS, len(sample))), near[start : start + _PAIRS])
            for start in range(0, len(sample), _PAIRS)
        ])  # fmt: skip
        self._labels = random_clusterings(sample, seed)
        logits = _logits(self._codes[rows], self._codes[others]).astype(np.float64)
        logits = (logits + _logits(self._around[rows], self._around[others])) / 2
        agreement = self._agreement(rows[:, None], others)
        self._usual = Usual.of(logits, agreement)

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
        codes, around = self._codes[lenders].mean(axis=1), self._around[lenders].mean(axis=1)
        parts = [np.zeros(0, np.float32)]
        for start in range(0, len(anchors), _PAIRS):
            rows, partners = anchors[start : start + _PAIRS], others[start : start + _PAIRS]
            logits = _logits(codes[rows], self._codes[partners]) + _logits(around[rows], self._around[partners])
            logits = self._usual.combined(logits / 2, self._agreement(lenders[rows], partners))
            parts.append((1 / (1 + np.exp(logits))).astype(np.float32))
        return np.concatenate(parts)

    def _mean_codes(self, rows: IntArray, near: IntArray) -> FloatArray:
        """Mean code (B, M) of rows and of the nearest of each."""
        around = np.concatenate([rows[:, None], near[:, :_AROUND]], axis=1)
        mean: FloatArray = self._codes[np.where(around < 0, rows[:, None], around)].mean(axis=1)
        return mean

    def _agreement(self, lenders: IntArray, others: IntArray) -> NDArray[np.float64]:
        """Share of the clusterings that keep pairs (P,) together, as a mean over the lenders (P, L) of one row."""
        agreement: NDArray[np.float64] = (self._labels[lenders] == self._labels[others][:, None]).mean(axis=(1, 2))
        return agreement


@dataclass(frozen=True)
class Usual:
    """What the two estimates are for near pairs of a set: mean and spread of the affinity's logits, of the agreement of
    clusterings, and of the sum of both on these scales."""

    logits: tuple[float, float]
    agreement: tuple[float, float]
    total: float

    @classmethod
    def of(cls, logits: NDArray[Any], agreement: NDArray[Any]) -> Usual:
        """Measured on the same pairs."""
        usual = cls(_moments(logits), _moments(agreement), 1.0)
        return replace(usual, total=_moments(usual._sum(logits, agreement))[1])

    def combined(self, logits: NDArray[Any], agreement: NDArray[Any]) -> NDArray[np.float64]:
        """Logits of P(same class) that order pairs by both estimates alike, with the mean and the spread of the
        affinity's, so that as many pairs as it says are of one class."""
        mean, spread = self.logits
        return mean + spread * self._sum(logits, agreement) / self.total

    def _sum(self, logits: NDArray[Any], agreement: NDArray[Any]) -> NDArray[np.float64]:
        (a, b), (c, d) = self.logits, self.agreement
        total: NDArray[np.float64] = (logits.astype(np.float64) - a) / b + (agreement - c) / d
        return total


def _moments(values: NDArray[Any]) -> tuple[float, float]:
    # A spread of nothing (all pairs alike) would be blown up to a difference.
    return float(values.mean(dtype=np.float64)), max(float(values.std(dtype=np.float64)), 1e-3)


def _logits(codes: FloatArray, others: FloatArray) -> FloatArray:
    """Logit of P(same class) of pairs of codes (P, M) each, as `Affinity` has it."""
    logits: FloatArray = np.einsum("pm,pm->p", codes[:, :-1], others[:, :-1]) + codes[:, -1] + others[:, -1]
    return logits


_CLUSTERINGS = 40
# Numbers of clusters, drawn log-uniformly; at most an eighth of the rows.
_FEWEST, _MOST = 6, 80
# Share of the dimensions that a clustering sees, and rows that it is fitted on at most.
_DIMENSIONS, _ROWS = 2 / 3, 3000
# Shrinkage of the whitening, in mean eigenvalues: so much orders near pairs better than what only decorrelates.
_SHRINKAGE = 1.0
_BLOCK = 4096


def random_clusterings(features: FloatArray, seed: int) -> NDArray[np.uint8]:
    """Cluster of every row in each of 40 spherical k-means clusterings.

    Each sees two thirds of the dimensions, drawn at random, of the centred features and of the whitened ones by turns,
    and has 6 to 80 clusters (evidence accumulation: Fred and Jain, 2005).

    Args:
        features: (N, D), finite, N >= 16.
        seed: of all draws.

    Returns:
        (N, 40).
    """
    rng = generator(seed)
    centre, values, vectors = principal_axes(features)
    whitening = (vectors / np.sqrt(values + _SHRINKAGE * values.mean())).astype(np.float32)
    identity = np.eye(len(centre), dtype=np.float32)
    sample = features[np.sort(rng.choice(len(features), min(len(features), _ROWS), replace=False))]
    most = max(2, min(_MOST, len(features) // 8))
    centres = []
    for each in range(_CLUSTERINGS):
        space = whitening if each % 2 else identity
        space = space[:, rng.choice(len(centre), max(1, round(_DIMENSIONS * len(centre))), replace=False)]
        clusters = round(float(np.exp(rng.uniform(np.log(min(_FEWEST, most)), np.log(most)))))
        centres.append(space @ kmeans(unit_rows((sample - centre) @ space), clusters, seed + each).T)
    labels = np.empty((len(features), _CLUSTERINGS), np.uint8)
    ends, together = np.cumsum([each.shape[1] for each in centres]), np.concatenate(centres, axis=1)
    for start in range(0, len(features), _BLOCK):
        # A row's length changes no order of its cosines to the centres.
        products = (features[start : start + _BLOCK] - centre) @ together
        for each, part in enumerate(np.split(products, ends[:-1], axis=1)):
            labels[start : start + _BLOCK, each] = part.argmax(axis=1)
    return labels
