"""What a guide holds of every pair: its similarity, the threshold of false negatives, and whether it may be believed.

Candidate c of anchor a with positive p is a likely false negative when `g(a, c) > g(a, p) - margin * |g(a, p)|`
(GISTEmbed, arXiv 2402.16829, with its relative margin) and `g(a, c) > floor`, as `GuideMask` has it. A guide that ranks
the known positive below many candidates knows nothing of the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pairsift.pairs.guide_table import likely_floor, spread_margin
from pairsift.retrieval.config import PairsConfig
from pairsift.retrieval.pairing import Pairing
from pairsift.retrieval.vectors import BLOCK, FloatArray, IntArray, UnitFeatures, dots

# A product in float32 is no closer than this.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Judged:
    """What the guide says of n pairs.

    Attributes:
        own: (n,) similarity of each anchor with its positive.
        margin, floor: see the module.
        ranks: (n,) share of the candidates that are more similar to the anchor than its positive, in [0, 1], on a
            sample of candidates.
        cap: the share above which a row is not believed.
        unrelated: similarities of anchors with positives of other rows, a sample.
    """

    own: FloatArray
    margin: float
    floor: float
    ranks: NDArray[np.float64]
    cap: float
    unrelated: FloatArray

    @cached_property
    def reliable(self) -> NDArray[np.bool_]:
        """(n,) rows that the guide is believed for: none where it is off."""
        return np.asarray((self.ranks <= self.cap) & (not self.off_because))

    @cached_property
    def edges(self) -> FloatArray:
        """(n,) similarity that a likely false negative exceeds by the margin alone."""
        return np.asarray(self.own - self.margin * np.abs(self.own), np.float32)

    @cached_property
    def thresholds(self) -> FloatArray:
        """(n,) similarity that a likely false negative exceeds."""
        return np.asarray(np.maximum(self.edges, np.float32(self.floor)))

    @cached_property
    def off_because(self) -> str:
        """Why the guide is believed for no row; empty where it is."""
        rank = float(np.median(self.ranks))
        if rank <= self.cap:
            return ""
        return (
            f"the guide is off: it ranks half of the known positives below {100 * rank:.0f} % of the candidates, more "
            f"than the cap of {100 * self.cap:.0f} %, so what it holds for close is no false negative; only identical "
            "texts are counted"
        )


def judge(pairing: Pairing, features: UnitFeatures, config: PairsConfig) -> Judged:
    """Compare every pair with itself and with a sample of candidates."""
    rng = np.random.default_rng(config.seed)
    sample = np.sort(rng.choice(len(pairing), min(len(pairing), config.sample), replace=False))
    candidates = pairing.positives[sample]
    other = features.take(candidates)
    own, ranks = np.empty(len(pairing), np.float32), np.zeros(len(pairing))
    unrelated: list[FloatArray] = []
    for start in range(0, len(pairing), BLOCK):
        rows = slice(start, start + BLOCK)
        anchors = features.take(pairing.anchors[rows])
        own[rows] = dots(anchors, features.take(pairing.positives[rows]))
        similar = anchors @ other.T
        places, columns = positions(pairing, pairing.anchors[rows], candidates)
        similar[places, columns] = np.nan  # the same text again is no rival
        rivals = np.maximum(len(candidates) - np.bincount(places, minlength=len(similar)), 1)
        ranks[rows] = (similar > own[rows, None] + ROUNDING).sum(axis=1) / rivals
        if sum(len(each) for each in unrelated) < BLOCK:
            drawn = similar[np.arange(len(similar)), rng.integers(0, len(candidates), len(similar))]
            unrelated.append(drawn[np.isfinite(drawn)])
    # A text paired with itself says nothing of how similar a positive is; where all are, there is nothing else.
    unlike = pairing.anchors != pairing.positives
    known = torch.from_numpy(own[unlike] if unlike.any() else own)
    margin = spread_margin(known) if config.margin is None else config.margin
    floor = likely_floor(known) if config.floor is None else config.floor
    return Judged(own, float(margin), float(floor), ranks, config.cap, np.concatenate(unrelated))


def positions(pairing: Pairing, anchors: IntArray, candidates: IntArray) -> tuple[IntArray, IntArray]:
    """Row and column of every candidate that is identical to an anchor, or known as its positive, in a matrix of both.

    Args:
        pairing: knows what is identical.
        anchors: (R,) texts of the rows.
        candidates: (C,) texts of the columns, repeated ones too.
    """
    places, texts = pairing.known(anchors)
    order = np.argsort(candidates, kind="stable")
    low, high = (np.searchsorted(candidates[order], texts, side) for side in ("left", "right"))
    counts = high - low
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(places, counts), order[np.repeat(low, counts) + within]
