"""The difficulty score: what is learned once from a sample of the embeddings, and how any row is then scored.

A difficult example bridges clusters. That shows in five ways, and each alone is blind to some kind of difficult
example (lab/notes/scan.md has the figures):

- *degree*: mean cosine to all examples, whitened. The theory's own indicator: a difficult vertex has the larger degree.
- *centrality*: a small norm after whitening; what lies between clusters lies nearer to the middle of everything.
- *isolation*: mean cosine distance to the nearest neighbours, centred.
- *ambiguity*: a small gap between the cosines to the nearest two cluster centres (Table 10's gap without labels).
- *mixture*: entropy of the clusters that the nearest neighbours belong to.

Each is put on a robust scale of its own: 0 at the median, 1 as far above it as the 16 % quantile lies below, which is
the spread of *easy* examples. The last three are local: they look at what is near. The first two are global, and say
something about bridges in some sets and something else in others; so they are weighted by how far they agree with the
local ones. Centrality also weighs more where more rows lie toward the centre than away from it: what lies between
clusters is there. The weighted mean, on a robust scale again, is mapped to (0, 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pairsift.neighbors import (
    FloatArray,
    IntArray,
    NearestIndex,
    generator,
    kmeans,
    principal_axes,
    shrinkage_whitening,
    unit_rows,
)
from pairsift.scanning.balance import balance
from pairsift.scanning.config import MOST_WITHIN
from pairsift.scanning.duplicates import REDUCED, Nearness, keepers, links_of

INDICATORS = ("degree", "centrality", "isolation", "ambiguity", "mixture")
# Nearest neighbours whose distance counts as isolation.
NEAREST = 10
# Neighbours whose clusters are looked at.
NEIGHBOURS = 50
# Nearest rows that a result keeps of every row.
KEPT = 4
# Neighbours that are known of every row; bridging pairs are among the first `within` of them.
CANDIDATES = MOST_WITHIN
# Rows scored at once: keeps their products and neighbours within some tens of MB.
BLOCK_ROWS = 2048

# Numbers of clusters as multiples of the number of classes: few classes are one round cluster.
_MULTIPLES = (1, 2, 3)
# A neighbour counts exp(cosine / temperature), as in the kNN classifier.
_TEMPERATURE = 0.1
# A global indicator weighs 10 times its mean rank correlation with the local ones, from 0 to 2; those weigh 1.
_GLOBAL, _AGREEMENT, _MOST = 2, 10.0, 2.0
# Centrality gains so much weight for each lower spread by which its 84 % quantile lies farther above the median than
# its 16 % quantile lies below.
_SKEW, _HIGH, _CENTRALITY = 8.0, 0.84, INDICATORS.index("centrality")
# Reference rows that the robust scales are measured on.
_CALIBRATION = 10_000
# The lower spread reaches from the first to the second.
_QUANTILES = (0.16, 0.5)


@dataclass(frozen=True)
class Graph:
    """Nearest neighbours of all rows: positions (N, k), nearest first, without the row itself, and cosines (N, k)."""

    neighbours: IntArray
    cosines: FloatArray


@dataclass(frozen=True)
class RowScores:
    """A scored block: `score` (B,) in [0, 1], `indicators` (B, 5) in robust units, `cluster` (B,), `plane` (B, 2)
    principal components, `neighbours` (B, k) reference positions (-1 past the end) by descending `cosines` (B, k), and
    `candidates`, `candidate_cosines` the same of more neighbours, among which bridging pairs are sought. `spacing` (B,)
    is the local scale that distances of copies are divided by."""

    score: NDArray[np.float64]
    indicators: FloatArray
    cluster: IntArray
    plane: FloatArray
    neighbours: IntArray
    cosines: FloatArray
    candidates: IntArray
    candidate_cosines: FloatArray
    spacing: NDArray[np.float64]


class Reference:
    """What a scan learns from a sample of the rows. Given it, the score of a row depends on no other row.

    Args:
        sample: (R, D) finite features of the sampled rows, divided by `scale`.
        scale: what features are divided by, their largest entry say, so that no square vanishes.
        rows: (R,) their positions in the whole set, ascending, so that no row is its own neighbour.
        n_classes: rough number of classes, at least 2.
        inverted: search neighbours by an inverted file instead of among all reference rows.
        seed: seed of the clusterings.
        graph: (N, k) neighbours of *all* rows as positions in the whole set, and their centred cosines, to use instead
            of a search; None searches.

    Attributes:
        scale: what features are divided by.
        balance: weights of the rows, so that classes of unequal size count alike.
        nearness: how near two rows must be to count as copies.
        spacing: (R,) local scale of each reference row, see `Nearness`.
        keepers, keeper_cosines: (R,) for each reference row the position of the row to keep of its copies, and the
            cosine to it. Neighbours of any row are rows to keep, without the row's own copies: copies count once.
        reduced: (D, d) axes of the largest variance, to search a large set in.
        clusters: (R,) cluster of each reference row.
        recall: share of the true neighbours that the inverted file finds on a sample; 1 where the search is exact.
        explained: shares of the variance in the two axes of the plane.
        weights: (5,) weight of each indicator in the score, summing to 1.
        bridges: (n_classes, n_classes) counts of nearest-neighbour links between clusters, rows the anchors' clusters.
    """

    def __init__(
        self, sample: FloatArray, scale: float, rows: IntArray, n_classes: int, inverted: bool, seed: int,
        graph: Graph | None = None,
    ) -> None:  # fmt: skip
        self.rows, self.n_classes, self._graph, self.scale = rows, n_classes, graph, np.float32(scale)
        self.balance = balance(sample, n_classes, seed)
        self._row_weights = self.balance.weights
        self._centre, values, vectors = principal_axes(sample, self._row_weights)
        self._whitening = shrinkage_whitening(values, vectors)
        self._axes = np.pad(vectors[:, :-3:-1], ((0, 0), (0, max(0, 2 - len(values)))))
        top = np.pad(values[::-1], (0, 1))[:2] / values.sum()
        self.explained: tuple[float, float] = (float(top[0]), float(top[1]))
        centred: FloatArray = sample - self._centre
        white = unit_rows(centred @ self._whitening)
        self._pole = _mean(white, self._row_weights)
        most, balanced = max(2, len(sample) // 4), self._row_weights is not None
        self._centres = [
            kmeans(white, min(times * n_classes, most), seed + i, weights=self._row_weights, spread=balanced)
            for i, times in enumerate(_MULTIPLES)
        ]
        self._groups = np.stack([_nearest(white, centres) for centres in self._centres], axis=1)
        self.clusters: IntArray = self._groups[:, 0]
        unit = unit_rows(centred)
        self._index = None if graph is not None else NearestIndex.of(unit, inverted=inverted, seed=seed)
        self.recall = 1.0 if self._index is None else self._index.sampled_recall(unit, NEIGHBOURS, seed)
        self.reduced = np.ascontiguousarray(vectors[:, ::-1][:, :REDUCED], dtype=np.float32)
        self._indexed: IntArray = np.arange(len(rows))
        self._near = self._search_all(unit, np.arange(len(rows)))
        self.nearness = Nearness.of(*self._near)
        self.spacing = self.nearness.scale(*self._near)
        self.keepers, self.keeper_cosines = keepers(links_of(*self._near, self.nearness), len(rows))
        if graph is None:
            self._count_copies_once(unit, inverted, seed)
        self._calibrate(sample, generator(seed))

    @property
    def searches(self) -> bool:
        """Whether neighbours of any row can be sought: not where a graph was given."""
        return self._index is not None

    def unit(self, features: FloatArray) -> FloatArray:
        """Centred rows (B, D) of unit length, as neighbours are sought among them."""
        return unit_rows(features / self.scale - self._centre)

    def nearest(self, unit: FloatArray, count: int) -> tuple[IntArray, FloatArray]:
        """Reference positions (B, count) of the rows nearest to unit rows from anywhere, and their cosines.

        Rows that are copies of others are not among them. Needs a reference that was searched, not a graph.
        """
        assert self._index is not None
        cosines, found = self._index.search(unit, min(count, len(self._indexed)))
        return np.where(found >= 0, self._indexed[found], -1), np.clip(cosines, -1, 1)

    def positions(self, rows: IntArray) -> IntArray:
        """Reference positions of rows of the whole set, -1 for those that are not in the reference."""
        at = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where(self.rows[at] == rows, at, -1)

    def score(self, features: FloatArray, rows: IntArray) -> RowScores:
        """Score a block of rows.

        Args:
            features: (B, D), finite.
            rows: (B,) their positions in the whole set.
        """
        features = features / self.scale
        candidates = self._neighbours(unit_rows(features - self._centre), rows)
        raw, cluster, plane, neighbours, cosines = self._measure(features, rows, candidates)
        indicators = _on_scale(raw, self._scales)
        total = _on_scale(indicators @ self.weights[:, None], self._total_scale)[:, 0]
        # Algebraic, not logistic: an example ten spreads out must not round to the same 1 as one a hundred out.
        score = 0.5 + 0.5 * total / np.hypot(1, total)
        positions = self.positions(rows)
        spacing = np.where(positions >= 0, self.spacing[positions], self.nearness.scale(*candidates))
        return RowScores(
            score, indicators.astype(np.float32), cluster, plane, neighbours, cosines, *candidates, spacing
        )

    def near(self, positions: IntArray) -> IntArray:
        """Reference positions (B, k) of the nearest of reference rows (B,), nearest first, -1 past the end."""
        return self._near[0][positions]

    def radius(self, within: int) -> FloatArray:
        """Cosine (R,) of each reference row to its neighbour of this rank, to the last where it has fewer."""
        found, cosines = self._near
        last = np.minimum(within, np.maximum((found >= 0).sum(axis=1), 1)) - 1
        radius: FloatArray = cosines[np.arange(len(found)), last]
        return radius

    def _measure(
        self, features: FloatArray, rows: IntArray, candidates: tuple[IntArray, FloatArray] | None = None
    ) -> tuple[NDArray[np.float64], IntArray, FloatArray, IntArray, FloatArray]:
        """Indicators of rows, each in its own unit, their clusters, places in the plane, neighbours and cosines."""
        centred: FloatArray = features - self._centre
        white: FloatArray = centred @ self._whitening
        norm = np.linalg.norm(white, axis=1)
        white = unit_rows(white)
        neighbours, cosines = candidates or self._neighbours(unit_rows(centred), rows)
        if self._graph is None:
            neighbours, cosines = neighbours[:, :NEIGHBOURS], cosines[:, :NEIGHBOURS]
        gap, entropy, cluster = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows), np.int64)
        weights = np.exp((cosines - 1) / _TEMPERATURE, dtype=np.float64) * (neighbours >= 0)
        if self._row_weights is not None:
            weights *= self._row_weights[neighbours]
        for i, centres in enumerate(self._centres):
            similarities = white @ centres.T
            if i == 0:
                cluster = similarities.argmax(axis=1)
            top = np.partition(similarities, -2, axis=1)[:, -2:]
            gap += top[:, 1] - top[:, 0]
            entropy += _entropy(self._groups[neighbours, i], weights, len(centres))
        isolation = 1 - cosines[:, :NEAREST].mean(axis=1, dtype=np.float64)
        raw = np.stack([white @ self._pole, -norm, isolation, -gap, entropy], axis=1).astype(np.float64)
        return raw, cluster, (centred @ self._axes).astype(np.float32), neighbours, cosines

    def _neighbours(self, unit: FloatArray, rows: IntArray) -> tuple[IntArray, FloatArray]:
        """Neighbours of rows of the whole set: those of reference rows are known, others are sought."""
        positions = self.positions(rows)
        found, cosines = self._near[0][positions], self._near[1][positions]
        strange = np.flatnonzero(positions < 0)
        if len(strange):
            found[strange], cosines[strange] = self._without_copies(*self._search(unit[strange], positions[strange]))
        return found, cosines

    def _search(self, unit: FloatArray, own: IntArray) -> tuple[IntArray, FloatArray]:
        """Nearest reference rows (B, k) of unit rows without `own` (B,), the position of the row itself or -1."""
        width = min(CANDIDATES, len(self.rows) - 1)
        found, cosines = self.nearest(unit, width + 1)
        itself = (found >= 0) & (found == own[:, None])
        # Among many identical rows an anchor may not find itself: then the last neighbour goes.
        itself[~itself.any(axis=1), -1] = True
        shape, missing = (len(unit), -1), ((0, 0), (0, width + 1 - found.shape[1]))
        found, cosines = found[~itself].reshape(shape), cosines[~itself].reshape(shape)
        # Where all other rows are copies of a row, none is left: it is as near to others as can be.
        cosines = np.pad(cosines, missing, "edge") if cosines.size else np.ones((len(unit), width), np.float32)
        return np.pad(found, missing, constant_values=-1), cosines

    def _search_all(self, unit: FloatArray, own: IntArray) -> tuple[IntArray, FloatArray]:
        """The same for many rows, block by block."""
        if self._graph is not None:
            return self.positions(self._graph.neighbours), self._graph.cosines
        cuts = [slice(start, start + BLOCK_ROWS) for start in range(0, len(unit), BLOCK_ROWS)]
        parts = [self._search(unit[cut], own[cut]) for cut in cuts]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _count_copies_once(self, unit: FloatArray, inverted: bool, seed: int) -> None:
        """Search among rows to keep only, and search again for the rows that had copies among their neighbours."""
        kept = self.keepers == np.arange(len(self.keepers))
        if kept.all():
            return
        self._indexed = np.flatnonzero(kept)
        self._index = NearestIndex.of(unit[kept], inverted=inverted, seed=seed)
        found, cosines = self._near
        changed = np.flatnonzero(~kept | (~kept[found] & (found >= 0)).any(axis=1))
        found[changed], cosines[changed] = self._search_all(unit[changed], self.keepers[changed])

    def _without_copies(self, found: IntArray, cosines: FloatArray) -> tuple[IntArray, FloatArray]:
        """Neighbours (B, k) of rows beyond the reference without copies of the rows, -1 past the end."""
        scale = self.nearness.scale(found, cosines)
        copies = (found >= 0) & self.nearness.copies(cosines, scale[:, None], self.spacing[found])
        order = np.argsort(copies, axis=1, kind="stable")
        found = np.take_along_axis(np.where(copies, -1, found), order, axis=1)
        last = np.take_along_axis(cosines, np.argsort(~copies, axis=1, kind="stable")[:, -1:], axis=1)
        return found, np.where(np.take_along_axis(copies, order, axis=1), last, np.take_along_axis(cosines, order, 1))

    def _calibrate(self, sample: FloatArray, rng: np.random.Generator) -> None:
        """Measure the robust scales, and count the links between clusters, on reference rows."""
        chosen = np.sort(rng.choice(len(sample), min(len(sample), _CALIBRATION), replace=False))
        parts, bridges = [], np.zeros((self.n_classes, self.n_classes), np.int64)
        for start in range(0, len(chosen), BLOCK_ROWS):
            block = chosen[start : start + BLOCK_ROWS]
            raw, cluster, _, neighbours, _ = self._measure(sample[block], self.rows[block])
            parts.append(raw)
            near = neighbours[:, :NEAREST]
            anchors = np.broadcast_to(cluster[:, None], near.shape)
            np.add.at(bridges, (anchors[near >= 0], self.clusters[near[near >= 0]]), 1)
        raw = np.concatenate(parts)
        row_weights = None if self._row_weights is None else self._row_weights[chosen]
        self._scales = _robust_scale(raw, row_weights)
        indicators = _on_scale(raw, self._scales)
        self.weights = _agreement_weights(indicators, row_weights)
        self._total_scale = _robust_scale(indicators @ self.weights[:, None], row_weights)
        self.bridges = bridges


def _nearest(unit: FloatArray, centres: FloatArray) -> IntArray:
    blocks = [
        (unit[start : start + BLOCK_ROWS] @ centres.T).argmax(axis=1) for start in range(0, len(unit), BLOCK_ROWS)
    ]
    return np.concatenate(blocks).astype(np.int64)


def _entropy(groups: IntArray, weights: NDArray[np.float64], n_groups: int) -> NDArray[np.float64]:
    """Entropy of the weighted groups of every row's neighbours, in nats."""
    cells = (np.arange(len(groups))[:, None] * n_groups + groups).ravel()
    shares = np.bincount(cells, weights.ravel(), len(groups) * n_groups).reshape(-1, n_groups)
    shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    entropy: NDArray[np.float64] = -(shares * np.log(shares, out=np.zeros_like(shares), where=shares > 0)).sum(axis=1)
    return entropy


def _mean(rows: FloatArray, weights: FloatArray | None) -> FloatArray:
    if weights is None:
        plain: FloatArray = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        return plain
    mean: FloatArray = np.average(rows, axis=0, weights=weights).astype(np.float32)
    return mean


def _agreement_weights(indicators: NDArray[np.float64], row_weights: FloatArray | None = None) -> NDArray[np.float64]:
    """Weights that sum to 1: local indicators alike, a global one as far as it ranks examples as they do.

    Args:
        indicators: (R, 5) on their robust scales, so that the median is 0 and the 16 % quantile -1.
        row_weights: (R,) of the rows; None weighs all alike.
    """
    ranks = stats.rankdata(indicators, axis=0)
    rows = np.ones(len(ranks)) if row_weights is None else row_weights.astype(np.float64)
    ranks = ranks - np.average(ranks, axis=0, weights=row_weights)
    spread = np.sqrt(np.average(ranks**2, axis=0, weights=row_weights))
    # An indicator that is constant ranks nothing, and agrees with nothing.
    ranks = np.divide(ranks, spread, out=np.zeros_like(ranks), where=spread > 0)
    agreement = ((ranks[:, :_GLOBAL] * rows[:, None]).T @ ranks[:, _GLOBAL:]).mean(axis=1) / rows.sum()
    weights = np.ones(len(INDICATORS))
    weights[:_GLOBAL] = np.maximum(_AGREEMENT * agreement, 0)
    central = indicators[:, _CENTRALITY]
    equal = np.ones(len(central), np.float32) if row_weights is None else row_weights
    weights[_CENTRALITY] += _SKEW * max(0.0, float(_weighted_quantiles(central, equal, (_HIGH,))[0]) - 1)
    weights = np.minimum(weights, _MOST)
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised


def _robust_scale(values: NDArray[np.float64], row_weights: FloatArray | None) -> NDArray[np.float64]:
    """Median and lower spread of every column: (2, columns)."""
    if row_weights is None:
        low, median = np.quantile(values, _QUANTILES, axis=0)
    else:
        low, median = np.stack([_weighted_quantiles(column, row_weights, _QUANTILES) for column in values.T], axis=1)
    return np.stack([median, median - low])


def _weighted_quantiles(
    values: NDArray[np.float64], row_weights: FloatArray, wanted: tuple[float, ...]
) -> NDArray[np.float64]:
    order = np.argsort(values, kind="stable")
    weights = row_weights[order].astype(np.float64)
    below = (np.cumsum(weights) - weights / 2) / weights.sum()
    quantiles: NDArray[np.float64] = np.interp(wanted, below, values[order])
    return quantiles


def _on_scale(values: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    median, spread = scale
    # A column that is constant on its lower half (identical rows, say) cannot tell examples apart and says nothing.
    out: NDArray[np.float64] = np.divide(
        values - median, spread, out=np.zeros_like(values), where=spread > 1e-9 * (1 + np.abs(median))
    )
    return out
