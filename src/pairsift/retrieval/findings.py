"""What was found in a table of pairs: rates of false negatives, reasons of every row, and which rows stay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pairsift.retrieval.checks import BoolArray, FalseNegatives, GuideScores, NegativeChecks
from pairsift.retrieval.columns import IntArray, PairLabels
from pairsift.retrieval.config import PairsConfig
from pairsift.retrieval.index import Cells, Pairing, State, UnitFeatures
from pairsift.retrieval.near import CloseTexts

# Batch sizes that false negatives are counted for.
BATCHES = (32, 256, 4096, 32_768)
# Candidates compared with the sample of rows at once.
_CANDIDATES = 4096
_STATES = {State.MISSING: "missing", State.EMPTY: "empty", State.NOT_FINITE: "not finite"}


# Rates


@dataclass(frozen=True)
class Rate:
    """A share of the other rows, mean over rows, with half of its 95 % interval."""

    mean: float
    half_width: float

    def __add__(self, other: Rate) -> Rate:
        """The rate of either, one of them exact."""
        return Rate(self.mean + other.mean, self.half_width + other.half_width)

    def expected(self, batch: int) -> tuple[float, float, float]:
        """False negatives of a row in a random batch of this size: mean, lower and upper end."""
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


def measure_rates(
    pairing: Pairing, features: UnitFeatures | None, scores: GuideScores | None, sample: int, seed: int
) -> Rates | None:
    """Rates on a sample of rows against every candidate; None for a single row, which shares no batch."""
    n = len(pairing)
    if n < 2:
        return None
    rows = np.sort(np.random.default_rng(seed).choice(n, min(n, sample), replace=False))
    identical = _rate(pairing.twins, n)
    if features is None or scores is None:
        return Rates(len(rows), identical, identical, None)
    likely, alone = _counts(pairing, features, scores, rows)
    return Rates(len(rows), identical, identical + _rate(likely, n), identical + _rate(alone, n))


def _counts(pairing: Pairing, features: UnitFeatures, scores: GuideScores, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Rows whose positive the guide takes for a false negative of each of some rows: with the floor, and without."""
    texts = pairing.anchors[rows]
    anchors = features.take(texts)
    # A row that the guide is not used for has no likely false negatives.
    least = [np.where(scores.reliable[rows], each[rows], np.inf) for each in (scores.thresholds, scores.edges)]
    counts = np.zeros((2, len(rows)), np.int64)
    for start, block in features.blocks(pairing.candidates, _CANDIDATES):
        candidates = pairing.candidates[start : start + len(block)]
        similar = anchors @ block.T
        similar[pairing.positions(texts, candidates, denied=True)] = -np.inf
        places, columns = np.nonzero(similar > np.minimum(*least)[:, None])
        weights, found = pairing.carriers[candidates[columns]], similar[places, columns]
        for count, edge in zip(counts, least, strict=True):
            above = found > edge[places]
            count += np.bincount(places[above], weights[above], len(rows)).astype(np.int64)
    return counts[0], counts[1]


def _rate(counts: IntArray, n: int) -> Rate:
    """Mean share of the n - 1 other rows; rows that were not drawn make the interval."""
    shares = counts / (n - 1)
    drawn = len(shares)
    error = shares.std(ddof=1) / math.sqrt(drawn) * math.sqrt(1 - drawn / n) if drawn < n else 0.0
    return Rate(float(shares.mean()), float(stats.t.ppf(0.975, drawn - 1) * error) if error else 0.0)


# All findings


@dataclass(frozen=True)
class GuideChecks:
    """Everything that a guide found.

    Attributes:
        name: of the guide.
        scores, false_negatives: of the pairs.
        recall: share of the ten nearest that an approximate search finds; None where it is exact.
    """

    name: str
    scores: GuideScores
    false_negatives: FalseNegatives
    recall: float | None


class Findings:
    """Everything that was found in a table of N rows with n usable pairs, and which rows are kept.

    Args:
        cells: of anchors, positives and each column of negatives.
        labels: None where the rows have none.
        pairing: the usable pairs.
        negatives: checks of the mined negatives.
        guided: None without a guide.
        close: near-duplicates and leaks.
        rates: of false negatives; None for a single row.
        config: the settings, by which rows leave.

    Attributes:
        columns: of mined negatives.
        duplicate_of: (n,) position of the first usable row with the same cells and label, itself for that one.
        near_of: (n,) position of the first usable row with near texts, itself where there is no such row before it, or
            where that row has the same two texts.
        bad: (n,) bad negatives of each row.
        kept: (N,) rows of clean.parquet.
    """

    def __init__(
        self, cells: list[Cells], labels: PairLabels | None, pairing: Pairing, negatives: NegativeChecks,
        guided: GuideChecks | None, close: CloseTexts, rates: Rates | None, config: PairsConfig,
    ) -> None:  # fmt: skip
        self.anchors, self.positives = cells[:2]
        self.columns = [each.column for each in cells[2:]]
        self.labels, self.pairing, self.negatives, self.guided = labels, pairing, negatives, guided
        self.close, self.rates, self.config = close, rates, config
        self.duplicate_of = _first_of(_row_numbers(pairing))
        groups = close.anchors.groups[pairing.anchors], close.positives.groups[pairing.positives]
        first, same = _first_of(pairing.code(*groups)), _first_of(pairing.code(pairing.anchors, pairing.positives))
        self.near_of = np.where(same[first] == same, np.arange(len(pairing)), first)
        self.bad = np.bincount(pairing.mined.pairs[negatives.bad], minlength=len(pairing))
        self.kept = self._kept()

    def __len__(self) -> int:
        return len(self.anchors.keys)

    @property
    def duplicates(self) -> BoolArray:
        """(n,) rows that repeat an earlier one."""
        return np.asarray(self.duplicate_of != np.arange(len(self.duplicate_of)))

    @property
    def near(self) -> BoolArray:
        """(n,) rows that nearly repeat an earlier one."""
        return np.asarray(self.near_of != np.arange(len(self.near_of)))

    @cached_property
    def wrong(self) -> BoolArray:
        """(n,) rows whose positive may be wrong: by a judge where it was asked, elsewhere by the guide's cap."""
        scored = self.negatives.scored
        low = np.zeros(len(self.pairing), bool)
        if self.guided is not None and not self.guided.scores.off_because:
            low = ~self.guided.scores.reliable
        return low if scored is None else (low & ~scored.right) | scored.wrong

    @cached_property
    def contradicted(self) -> BoolArray:
        """(N,) rows that one label calls a positive pair and another, on the same two texts, no pair."""
        out = np.zeros(len(self), bool)
        if self.labels is None:
            return out
        fine = self._fine
        numbers = np.unique(self.anchors.keys, return_inverse=True)[1] * np.int64(len(self))
        numbers += np.unique(self.positives.keys, return_inverse=True)[1]
        both = np.intersect1d(numbers[fine & self.labels.positive], numbers[fine & self.labels.negative])
        return np.asarray(fine & ~self.labels.missing & np.isin(numbers, both))

    @cached_property
    def reasons(self) -> dict[str, BoolArray]:
        """For each reason, (N,) the rows of the table it holds for."""
        pairing = self.pairing
        out = {
            f"{name} {word}": cells.states == state
            for name, cells in (("anchor", self.anchors), ("positive", self.positives))
            for state, word in _STATES.items()
        }
        if self.labels is not None:
            out |= {"label missing": self.labels.missing, "labelled negative": self.labels.negative}
            out["labels contradict"] = self.contradicted
        mine: dict[str, BoolArray] = {
            "duplicate": self.duplicates, "near-duplicate": self.near,
            "anchor repeats": np.bincount(pairing.anchors)[pairing.anchors] > 1,
            "positive repeats": pairing.carriers[pairing.positives] > 1,
            "positive is the anchor": pairing.anchors == pairing.positives, "bad negatives": self.bad > 0,
        }  # fmt: skip
        mine["no negative left"] = self._unfilled()
        if self.close.leaks is not None:
            mine |= {"in the evaluation set": self.close.leaks.same, "near the evaluation set": self.close.leaks.near}
        if self.negatives.scored is not None:
            mine["judge: no positive"] = self.negatives.scored.wrong
            mine["judge: a negative is a positive"] = self._owners(self.negatives.judged)
        mine["longer than the guide reads"] = self.close.cut[pairing.anchors] | self.close.cut[pairing.positives]
        if self.guided is not None:
            mine["guide unreliable"] = ~self.guided.scores.reliable
            mine["false negatives likely"] = self.guided.false_negatives.counts > 0
        return out | {name: self.spread(mask, False) for name, mask in mine.items()}

    def spread(self, values: NDArray[np.generic], missing: object) -> NDArray[np.generic]:
        """Values of usable rows as values of all rows of the table."""
        out = np.full(len(self), missing, values.dtype)
        out[self.pairing.rows] = values
        return out

    def _owners(self, negatives: BoolArray) -> BoolArray:
        """(n,) rows that own some of (M,) mined negatives."""
        return np.bincount(self.pairing.mined.pairs[negatives], minlength=len(self.pairing)) > 0

    @cached_property
    def relabelled(self) -> IntArray:
        """(R,) mined negatives that become positives of rows of their own, in the order of their rows; kept ones."""
        mined, chosen = self.pairing.mined, np.flatnonzero(self.negatives.relabelled)
        chosen = chosen[self.kept[self.pairing.rows[mined.pairs[chosen]]]]
        return chosen[np.argsort(mined.pairs[chosen], kind="stable")]

    def _unfilled(self) -> BoolArray:
        """(n,) rows for which no other negative was found."""
        negatives = self.negatives
        missing = negatives.open_pairs[negatives.refills < 0] if len(negatives.refills) else negatives.refills
        return np.bincount(missing, minlength=len(self.pairing)) > 0

    def _kept(self) -> BoolArray:
        kept = ~self.duplicates & ~self._unfilled()
        if self.config.drop_near:
            kept &= ~self.near
        if self.close.leaks is not None and self.config.leaks == "drop":
            kept &= ~(self.close.leaks.same | self.close.leaks.near)
        if self.config.wrong_positives == "drop":
            kept &= ~self.wrong
        if self.config.bad_negatives == "drop":
            kept[self.negatives.open_pairs] = False
            kept &= self.bad == 0
        out = np.asarray(self.spread(kept, False), bool)
        if self.labels is not None and self.config.labelled_negatives == "keep":
            out |= self._fine & self.labels.negative
        return out

    @cached_property
    def denied(self) -> BoolArray:
        """(N,) rows of two texts that are labelled as no pair, and by no row as a pair."""
        labelled = np.zeros(len(self), bool) if self.labels is None else self.labels.negative
        return np.asarray(self._fine & labelled & ~self.contradicted)

    @property
    def _fine(self) -> BoolArray:
        return np.asarray((self.anchors.states == State.FINE) & (self.positives.states == State.FINE))


def _row_numbers(pairing: Pairing) -> IntArray:
    """(n,) equal where rows have the same anchor, positive, label, and negatives in the same order."""
    numbers = np.unique(pairing.code(pairing.anchors, pairing.positives), return_inverse=True)[1]
    numbers = np.unique(numbers * np.int64(pairing.labels.max(initial=0) + 1) + pairing.labels, return_inverse=True)[1]
    order = np.argsort(pairing.mined.pairs, kind="stable")
    owners = pairing.mined.pairs[order]
    place = np.arange(len(owners)) - np.searchsorted(owners, owners)
    for slot in range(int(place.max(initial=-1)) + 1):
        texts = np.zeros(len(pairing), np.int64)
        texts[owners[place == slot]] = pairing.mined.texts[order[place == slot]] + 1
        numbers = np.unique(numbers * np.int64(pairing.n_texts + 1) + texts, return_inverse=True)[1]
    return np.asarray(numbers, np.int64)


def _first_of(values: IntArray) -> IntArray:
    """(n,) position of the first equal value."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], np.int64)
