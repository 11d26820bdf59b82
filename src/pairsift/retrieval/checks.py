"""Compares texts under a guide: likely false negatives of every row, and bad mined negatives and their replacements.

Candidate c of anchor a with positive p is a likely false negative when `g(a, c) > g(a, p) - margin * |g(a, p)|`
(GISTEmbed, arXiv 2402.16829, with its relative margin) and `g(a, c) > floor`, the rule of `GuideMask`. A guide that
ranks the known positive of a row below many candidates is not used for that row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pairsift.pairs.guide_table import likely_floor, spread_margin
from pairsift.retrieval.columns import FloatArray, IntArray
from pairsift.retrieval.config import PairsConfig
from pairsift.retrieval.guides import PairScorer, ScoredPairs
from pairsift.retrieval.index import BLOCK, Cells, Pairing, Search, UnitFeatures, dots
from pairsift.retrieval.near import NO_PAIRS, TextPairs, joined

BoolArray = NDArray[np.bool_]

# A product in float32 is no closer than this.
_ROUNDING = 1e-6
# Nearest texts of an anchor among which the nearest other one is taken.
_FIRST = 3
# Texts that are drawn for a negative to refill, before all are tried.
_DRAWS = 8
# Margins below the own positive within which a negative is suspicious: 92 % of false negatives, where similarities are
# normal (`Phi(2 / sqrt 2)`).
_SUSPICIOUS = 2.0
# Texts that a judge may refuse for a cell before it stays empty.
_ROUNDS = 4


# Scores of a guide


@dataclass(frozen=True)
class GuideScores:
    """Similarities of n pairs under a guide, and the thresholds that follow from them.

    Attributes:
        own: (n,) similarity of each anchor with its positive.
        margin, floor: see the module.
        ranks: (n,) share, in [0, 1], of a sample of candidates that are more similar to the anchor than its positive.
        cap: the rank above which the guide is not used for a row.
        unrelated: similarities of a sample of anchors with positives of other rows.
    """

    own: FloatArray
    margin: float
    floor: float
    ranks: NDArray[np.float64]
    cap: float
    unrelated: FloatArray

    @cached_property
    def reliable(self) -> BoolArray:
        """(n,) rows that the guide is used for: none where it is off."""
        return np.asarray((self.ranks <= self.cap) & (not self.off_because))

    @cached_property
    def edges(self) -> FloatArray:
        """(n,) similarity that a likely false negative exceeds by the margin alone."""
        return np.asarray(self.own - self.margin * np.abs(self.own), np.float32)

    @cached_property
    def thresholds(self) -> FloatArray:
        """(n,) similarity that a likely false negative exceeds."""
        return np.asarray(np.maximum(self.edges, np.float32(self.floor)))

    def suspicious(self, pairs: IntArray, similarity: FloatArray) -> BoolArray:
        """(M,) which negatives a judge should score: those not far below the positive, or all where the guide is off.

        Args:
            pairs: (M,) pair of each negative.
            similarity: (M,) of the anchor with the negative.
        """
        own = self.own[pairs]
        near = similarity > own - _SUSPICIOUS * self.margin * np.abs(own)
        return np.asarray(near | bool(self.off_because))

    @cached_property
    def off_because(self) -> str:
        """Why the guide is used for no row; empty where it is used."""
        rank = float(np.median(self.ranks))
        if rank <= self.cap:
            return ""
        return (
            f"the guide is off: it ranks half of the known positives below {100 * rank:.0f} % of the candidates, and "
            f"the cap is {100 * self.cap:.0f} %. A guide that ranks positives so low cannot find false negatives; only "
            "identical texts are counted"
        )


def score_pairs(pairing: Pairing, features: UnitFeatures, config: PairsConfig) -> GuideScores:
    """Compare every anchor with its positive and with a sample of candidates."""
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
        places, columns = pairing.positions(pairing.anchors[rows], candidates)
        similar[places, columns] = np.nan  # the same text again is no rival
        rivals = np.maximum(len(candidates) - np.bincount(places, minlength=len(similar)), 1)
        ranks[rows] = (similar > own[rows, None] + _ROUNDING).sum(axis=1) / rivals
        if sum(len(each) for each in unrelated) < BLOCK:
            drawn = similar[np.arange(len(similar)), rng.integers(0, len(candidates), len(similar))]
            unrelated.append(drawn[np.isfinite(drawn)])
    # A text paired with itself does not show how similar positives are; where all are, there is nothing else.
    unlike = pairing.anchors != pairing.positives
    known = torch.from_numpy(own[unlike] if unlike.any() else own)
    margin = spread_margin(known) if config.margin is None else config.margin
    floor = likely_floor(known) if config.floor is None else config.floor
    return GuideScores(own, float(margin), float(floor), ranks, config.cap, np.concatenate(unrelated))


# Pairs of texts that must not meet


@dataclass(frozen=True)
class FalseNegatives:
    """Likely false negatives of n rows.

    Attributes:
        counts: (n,) different texts found for each row, at most `PairsConfig.neighbours`.
        worst: (n,) the most similar of them, -1 where there is none.
        similarity: (n,) of the worst, nan where there is none.
        conflicts: anchors with candidates, each pair once.
        cut: rows that may have more than were compared.
        left_out: conflicts beyond `max_conflicts`.
        nearest: largest similarity of a row and a candidate; nan where none was compared.
    """

    counts: IntArray
    worst: IntArray
    similarity: FloatArray
    conflicts: TextPairs
    cut: int
    left_out: int
    nearest: float


def find_false_negatives(
    pairing: Pairing, features: UnitFeatures, scores: GuideScores, search: Search, config: PairsConfig,
    tell: Callable[[int], None],
) -> FalseNegatives:  # fmt: skip
    """Search the positives for those that are likely false negatives; `tell` gets the number of rows that are done."""
    n, nearest = len(pairing), -np.inf
    counts, worst = np.zeros(n, np.int64), np.full(n, -1)
    similarity = np.full(n, np.nan, np.float32)
    kept, cut = _MostSimilar(config.max_conflicts), 0
    used = np.flatnonzero(scores.reliable)
    for start in range(0, len(used), BLOCK):
        rows = used[start : start + BLOCK]
        anchors = pairing.anchors[rows]
        # A row's own positive takes a place among the neighbours.
        cosines, texts = search(features.take(anchors), config.neighbours + 1)
        nearest = max(nearest, _nearest(pairing, anchors, cosines[:, :_FIRST], texts[:, :_FIRST]))
        places, columns = np.nonzero(cosines > scores.thresholds[rows][:, None])
        cut += int((cosines[:, -1] > scores.thresholds[rows]).sum()) if cosines.shape[1] > config.neighbours else 0
        other = _others(pairing, anchors[places], texts[places, columns])
        places, columns = places[other], columns[other]
        counts[rows] = np.bincount(places, minlength=len(rows))
        first = np.unique(places, return_index=True)[1]  # neighbours come most similar first
        worst[rows[places[first]]] = texts[places[first], columns[first]]
        similarity[rows[places[first]]] = cosines[places[first], columns[first]]
        kept.add(anchors[places], texts[places, columns], cosines[places, columns])
        tell(start + len(rows))
    conflicts, left_out = kept.pairs()
    return FalseNegatives(
        counts, worst, similarity, conflicts, cut, left_out, nearest if np.isfinite(nearest) else math.nan
    )


def _others(pairing: Pairing, anchors: IntArray, texts: IntArray) -> BoolArray:
    """Where a text is neither a known positive of the anchor nor labelled as none of it."""
    return ~(pairing.identical(anchors, texts) | pairing.denied(anchors, texts))


def _nearest(pairing: Pairing, anchors: IntArray, cosines: FloatArray, texts: IntArray) -> float:
    """The largest similarity of an anchor and another text among its nearest (R, K)."""
    other = _others(pairing, np.repeat(anchors, texts.shape[1]), texts.ravel())
    return float(cosines.ravel()[other].max(initial=-np.inf))


class _MostSimilar:
    """The most similar pairs of texts, each once; no more than twice as many as wanted are held."""

    def __init__(self, most: int) -> None:
        self._most, self._waiting, self._dropped = most, 0, 0
        self._parts: list[TextPairs] = []

    def add(self, first: IntArray, second: IntArray, similarity: FloatArray) -> None:
        """Take more pairs."""
        self._parts.append(TextPairs(first.astype(np.int32), second.astype(np.int32), similarity))
        self._waiting += len(first)
        if self._waiting > 2 * self._most:
            self._settle()

    def pairs(self) -> tuple[TextPairs, int]:
        """The pairs that are kept, and how many are left out."""
        found = self._settle()
        return TextPairs(found.first.astype(np.int64), found.second.astype(np.int64), found.similarity), self._dropped

    def _settle(self) -> TextPairs:
        found = joined(self._parts) if self._parts else NO_PAIRS
        self._dropped += max(0, len(found) - self._most)
        found = found.taken(slice(self._most))
        self._parts, self._waiting = [found], len(found)
        return found


# Mined negatives


class Compared(NamedTuple):
    """Features and scores of a guide, and the search that finds texts to refill from."""

    features: UnitFeatures
    scores: GuideScores
    search: Search


@dataclass(frozen=True)
class NegativeChecks:
    """M mined negatives, and K cells of negatives that need another text.

    Attributes:
        identical: (M,) the negative is the anchor itself, or in some row its positive.
        likely: (M,) the guide takes it for a positive.
        alone: (M,) the guide would take it for a positive without the floor.
        similarity: (M,) with the anchor; nan without a guide.
        scored: the scores of a judge; None without one.
        judged: (M,) the judge takes it for a positive.
        relabelled: (M,) it becomes the positive of a row of its own.
        open_pairs, open_columns: (K,) pair and column of negatives, where a cell is bad or missing, or a list loses all
            its elements.
        refills: (K,) texts to put there, -1 where there is none; empty unless negatives are refilled.
    """

    identical: BoolArray
    likely: BoolArray
    alone: BoolArray
    similarity: FloatArray
    scored: ScoredPairs | None
    judged: BoolArray
    relabelled: BoolArray
    open_pairs: IntArray
    open_columns: IntArray
    refills: IntArray

    @property
    def bad(self) -> BoolArray:
        """(M,) negatives that look like positives. Where a judge was asked it decides, elsewhere the guide."""
        return self.identical | self.judged | self._unasked(self.likely)

    @property
    def bad_without_floor(self) -> BoolArray:
        """(M,) the same for a guide without the floor."""
        return self.identical | self.judged | self._unasked(self.alone)

    def _unasked(self, chosen: BoolArray) -> BoolArray:
        return chosen if self.scored is None else chosen & np.isnan(self.scored.negatives)


def check_negatives(
    pairing: Pairing,
    cells: list[Cells],
    config: PairsConfig,
    guide: Compared | None = None,
    scorer: PairScorer | None = None,
) -> NegativeChecks:
    """Compare every mined negative with its anchor, and choose texts for the places of those that are bad or missing.

    Args:
        pairing, cells: the rows, and the cells of each column of negatives.
        config: the settings.
        guide: None without one.
        scorer: decides about suspicious negatives; None without a judge.
    """
    mined = pairing.mined
    anchors = pairing.anchors[mined.pairs]
    identical = pairing.identical(anchors, mined.texts)
    similarity = np.full(len(anchors), np.nan, np.float32)
    likely, alone, asked = np.zeros((3, len(anchors)), bool)
    free = ~identical & ~pairing.denied(anchors, mined.texts)
    if guide is not None:
        features, scores = guide.features, guide.scores
        for start in range(0, len(anchors), BLOCK):
            some = slice(start, start + BLOCK)
            similarity[some] = dots(features.take(anchors[some]), features.take(mined.texts[some]))
        used = free & scores.reliable[mined.pairs]
        likely = used & (similarity > scores.thresholds[mined.pairs])
        alone = used & (similarity > scores.edges[mined.pairs])
    scored, judged, relabelled = None, asked, asked
    if scorer is not None:
        asked = free if guide is None else free & guide.scores.suspicious(mined.pairs, similarity)
        scored, judged, relabelled = _judged(pairing, config, guide, scorer, asked)
    checks = NegativeChecks(
        identical, likely, alone, similarity, scored, judged, relabelled, *_open_cells(
            pairing, cells, identical | judged | (likely & ~asked)
        ), np.zeros(0, np.int64),
    )  # fmt: skip
    if config.bad_negatives != "refill":
        return checks
    return replace(checks, refills=_Refilling(pairing, checks, config, guide, scorer).texts())


def _judged(
    pairing: Pairing, config: PairsConfig, guide: Compared | None, scorer: PairScorer, asked: BoolArray
) -> tuple[ScoredPairs, BoolArray, BoolArray]:
    """Score some negatives, the positives of their rows, and positives that the guide ranks low.

    Returns:
        The scores, (M,) which negatives are bad, and (M,) which become positives.
    """
    mined = pairing.mined
    rows = np.zeros(len(pairing), bool)
    rows[mined.pairs[asked]] = True
    if guide is not None and not guide.scores.off_because:
        rows |= ~guide.scores.reliable
    positives, negatives = np.full(len(pairing), np.nan), np.full(len(asked), np.nan)
    positives[rows] = scorer(pairing.anchors[rows], pairing.positives[rows])
    negatives[asked] = scorer(pairing.anchors[mined.pairs[asked]], mined.texts[asked])
    own = positives[mined.pairs]
    with np.errstate(invalid="ignore"):
        bad = (negatives >= config.judge_floor) & (negatives >= config.judge_share * own)
        relabelled = bad & (negatives >= own) & (config.judged_positives == "relabel")
    # A text that stands twice in a row becomes a positive once.
    codes = pairing.code(pairing.anchors[mined.pairs], mined.texts)
    first = np.zeros(len(asked), bool)
    first[np.unique(np.where(relabelled, codes, -1), return_index=True)[1]] = True
    scored = ScoredPairs(scorer.name, scorer.asked, positives, negatives, config.judge_floor)
    return scored, bad, relabelled & first


def _open_cells(pairing: Pairing, cells: list[Cells], bad: BoolArray) -> tuple[IntArray, IntArray]:
    """Pair and column of every cell of negatives that needs another text, pairs ascending."""
    mined, pairs, columns = pairing.mined, [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for i, each in enumerate(cells):
        good = mined.pairs[(mined.columns == i) & ~bad]
        filled = np.bincount(good, minlength=len(pairing)) > 0
        wanted = np.ones(len(pairing), bool)
        if each.column.listed:  # a list that was empty stays so
            place = np.full(int(max(pairing.rows.max(), each.rows.max(initial=0))) + 1, -1)
            place[pairing.rows] = np.arange(len(pairing))
            owners = place[each.rows]
            wanted = np.bincount(owners[owners >= 0], minlength=len(pairing)) > 0
        pairs.append(np.flatnonzero(wanted & ~filled))
        columns.append(np.full(len(pairs[-1]), i))
    found, of = np.concatenate(pairs), np.concatenate(columns)
    order = np.argsort(found, kind="stable")
    return found[order], of[order]


class _Refilling:
    """Chooses negatives for the cells that need one, none twice for a pair.

    With a guide, the text most similar to the anchor that stays below a share of its positive's similarity is taken
    (positive-aware mining, arXiv 2407.15831), and without one a random text. Where a judge has scored the row's
    positive, it can refuse the text.
    """

    def __init__(
        self,
        pairing: Pairing,
        checks: NegativeChecks,
        config: PairsConfig,
        guide: Compared | None,
        scorer: PairScorer | None,
    ) -> None:
        self._pairing, self._config, self._guide, self._scorer = pairing, config, guide, scorer
        self._scored, self._pairs = checks.scored, checks.open_pairs
        mined, kept = pairing.mined, ~checks.bad
        self._taken = np.unique(pairing.code(mined.pairs[kept], mined.texts[kept]))
        more = pairing.further.get("corpus")
        self._pool = pairing.candidates if more is None else np.union1d(pairing.candidates, more)

    def texts(self) -> IntArray:
        """(K,) texts for the open cells, -1 where there is none."""
        out = np.full(len(self._pairs), -1)
        for _ in range(_ROUNDS if self._scorer is not None else 1):
            open_ = np.flatnonzero(out < 0)
            if not len(open_):
                break
            found = self._round(self._pairs[open_])
            good = found >= 0
            good[good] = self._accepted(self._pairs[open_][good], found[good])
            # What is refused is not offered again.
            codes = self._pairing.code(self._pairs[open_], found)[found >= 0]
            self._taken = np.union1d(self._taken, codes)
            out[open_[good]] = found[good]
        return out

    def _accepted(self, pairs: IntArray, texts: IntArray) -> BoolArray:
        """(K,) texts that the judge calls negatives, or was not asked about."""
        fine = np.ones(len(pairs), bool)
        if self._scorer is None or self._scored is None:
            return fine
        asked = np.flatnonzero(np.isfinite(self._scored.positives[pairs]))
        own = self._scored.positives[pairs[asked]]
        scores = self._scorer(self._pairing.anchors[pairs[asked]], texts[asked])
        fine[asked] = (scores < self._config.judge_floor) | (scores < self._config.judge_share * own)
        return fine

    def _round(self, pairs: IntArray) -> IntArray:
        """(K,) texts for pairs, ascending; -1 where there is none."""
        out = np.full(len(pairs), -1)
        turn = np.arange(len(pairs)) - np.searchsorted(pairs, pairs)
        if self._guide is not None:
            self._mine(self._guide, pairs, turn, out)
        for number in range(int(turn.max(initial=-1)) + 1):
            slots, done = np.flatnonzero((turn == number) & (out < 0)), out >= 0
            held = np.union1d(self._taken, self._pairing.code(pairs[done], out[done]))
            rng = np.random.default_rng([self._config.seed, number])
            out[slots] = _drawn(self._pairing, self._pool, pairs[slots], held, rng)
        return out

    def _mine(self, guide: Compared, pairs: IntArray, turn: IntArray, out: IntArray) -> None:
        """Put the most similar texts below the limit into `out`."""
        pairing, scores, config = self._pairing, guide.scores, self._config
        share = config.refill_share
        limits = scores.edges if share is None else scores.own - (1 - share) * np.abs(scores.own)
        able = np.flatnonzero(scores.reliable[pairs])
        for start in range(0, len(able), BLOCK):
            slots = able[start : start + BLOCK]
            rows = pairs[slots]
            cosines, texts = guide.search(guide.features.take(pairing.anchors[rows]), config.neighbours + 1)
            repeated = np.repeat(rows, texts.shape[1])
            free = ~_held(pairing, repeated, texts.ravel(), self._taken).reshape(texts.shape)
            denied = pairing.denied(pairing.anchors[repeated], texts.ravel()).reshape(texts.shape)
            free &= np.isfinite(cosines) & ((cosines <= limits[rows][:, None]) | denied)
            chosen = (free.cumsum(axis=1) == turn[slots][:, None] + 1) & free
            found = chosen.any(axis=1)
            out[slots[found]] = texts[found, chosen[found].argmax(axis=1)]


def _drawn(
    pairing: Pairing, pool: IntArray, pairs: IntArray, taken: IntArray, rng: np.random.Generator
) -> IntArray:  # fmt: skip
    """(K,) random texts of a pool that a pair may have as a negative, -1 where there is none."""
    drawn = pool[rng.integers(0, len(pool), (len(pairs), _DRAWS))]
    free = ~_held(pairing, np.repeat(pairs, _DRAWS), drawn.ravel(), taken).reshape(drawn.shape)
    out = np.where(free.any(axis=1), drawn[np.arange(len(pairs)), free.argmax(axis=1)], -1)
    for at in np.flatnonzero(out < 0).tolist():
        left = pool[~_held(pairing, np.full(len(pool), pairs[at]), pool, taken)]
        out[at] = rng.choice(left) if len(left) else -1
    return out


def _held(pairing: Pairing, pairs: IntArray, texts: IntArray, taken: IntArray) -> BoolArray:
    """Where a text is the anchor of a pair, a known positive of it, or a negative that its row holds already."""
    codes = pairing.code(pairs, texts)
    at = np.minimum(np.searchsorted(taken, codes), max(len(taken) - 1, 0))
    again = taken[at] == codes if len(taken) else np.zeros(len(codes), bool)
    return np.asarray(pairing.identical(pairing.anchors[pairs], texts) | again)
