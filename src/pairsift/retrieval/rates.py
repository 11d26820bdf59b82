"""How many false negatives a row meets in a batch: their share among all candidates, measured on a sample of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pairsift.retrieval.judging import Judged, positions
from pairsift.retrieval.pairing import Pairing
from pairsift.retrieval.vectors import UnitFeatures

BATCHES = (32, 256, 4096, 32_768)
# Candidates compared with the sample at once.
_CANDIDATES = 4096


@dataclass(frozen=True)
class Rate:
    """A share of the other rows, mean over rows, with half of its 95 % interval."""

    mean: float
    half_width: float

    def __add__(self, other: Rate) -> Rate:
        """The rate of either, one of them exact."""
        return Rate(self.mean + other.mean, self.half_width + other.half_width)

    def expected(self, batch: int) -> tuple[float, float, float]:
        """False negatives of a row in a batch of so many rows drawn at random: mean, lower and upper end."""
        others = batch - 1
        return (
            others * self.mean,
            others * max(0.0, self.mean - self.half_width),
            others * (self.mean + self.half_width),
        )


@dataclass(frozen=True)
class Rates:
    """Shares of false negatives among the positives of other rows.

    Attributes:
        sample: rows measured.
        identical: by identity of texts, of all rows.
        likely: by identity or by the guide; `identical` without one.
        margin_alone: the same without the floor; None without a guide.
    """

    sample: int
    identical: Rate
    likely: Rate
    margin_alone: Rate | None

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        out: dict[str, Any] = {"sample_rows": self.sample}
        for name in ("identical", "likely", "margin_alone"):
            rate: Rate | None = getattr(self, name)
            out[name] = None if rate is None else {
                "rate": rate.mean, "half_width": rate.half_width,
                "expected": {
                    str(batch): dict(zip(("mean", "low", "high"), rate.expected(batch), strict=True))
                    for batch in BATCHES
                },
            }  # fmt: skip
        return out


def measure_rates(
    pairing: Pairing, features: UnitFeatures | None, judged: Judged | None, sample: int, seed: int
) -> Rates | None:
    """Rates on a sample of rows against every candidate; None for a single row, which meets nobody."""
    n = len(pairing)
    if n < 2:
        return None
    rows = np.sort(np.random.default_rng(seed).choice(n, min(n, sample), replace=False))
    identical = _rate(pairing.twins, n)
    if features is None or judged is None:
        return Rates(len(rows), identical, identical, None)
    likely, alone = _counts(pairing, features, judged, rows)
    return Rates(len(rows), identical, identical + _rate(likely, n), identical + _rate(alone, n))


def _counts(
    pairing: Pairing, features: UnitFeatures, judged: Judged, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows whose positive the guide takes for a false negative of each of some rows: with the floor, and without."""
    texts = pairing.anchors[rows]
    anchors = features.take(texts)
    # A row that the guide is not believed for has no likely false negatives.
    least = [np.where(judged.reliable[rows], each[rows], np.inf) for each in (judged.thresholds, judged.edges)]
    counts = np.zeros((2, len(rows)), np.int64)
    for start, block in features.blocks(pairing.candidates, _CANDIDATES):
        candidates = pairing.candidates[start : start + len(block)]
        similar = anchors @ block.T
        similar[positions(pairing, texts, candidates)] = -np.inf
        weights = pairing.carriers[candidates].astype(np.float64)
        for i, edge in enumerate(least):
            counts[i] += ((similar > edge[:, None]) @ weights).astype(np.int64)
    return counts[0], counts[1]


def _rate(counts: NDArray[np.int64], n: int) -> Rate:
    """Mean share of the n - 1 other rows; rows that were not drawn are what the interval is about."""
    shares = counts / (n - 1)
    drawn = len(shares)
    error = shares.std(ddof=1) / math.sqrt(drawn) * math.sqrt(1 - drawn / n) if drawn < n else 0.0
    return Rate(float(shares.mean()), float(stats.t.ppf(0.975, drawn - 1) * error) if error else 0.0)
