"""Exact and near copies: a limit from the set itself, groups of copies with one row to keep, and leaks between sets.

How near the nearest row is differs from set to set and from place to place, so no fixed similarity tells a copy. Here
the distance of two rows is divided by a local scale: the median distance to the 5th to 15th neighbours of either row,
whichever is smaller. The logarithms of the ratios of all rows to their nearest are about normal, except for copies.
Rows more than 2.9 robust standard deviations below the median are copies; median and deviation are measured again
without them until nothing changes. Copies are also never farther apart than half the local scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pairsift.neighbors import FloatArray, IntArray

# Neighbours whose median distance is the local scale: so few copies of a row do not reach them.
_FIRST, _LAST = 4, 15
# Weight of the whole set's scale in a geometric mean with the local one: many copies of a row do reach all of them.
_WHOLE = 0.3
# Deviations below the median; the quantile that the deviation comes from; rounds at most.
_DEVIATIONS, _QUARTER, _ROUNDS = 2.9, 0.6745, 50
# Most of the local scale between copies. Texts of one topic can lie far below the median ratio. Of images that were
# compressed again, cropped or brightened, 94 % are within it (lab/notes/scan.md).
_FARTHEST = 0.5
# The 90 % quantile of a normal distribution: the first round looks at the upper half, which copies do not reach.
_TENTH = 1.2816
# Distances of equal float32 rows by their cosine.
_EXACT = 1.5e-3
# Large sets: mean rows of a list of the inverted file, lists and rounds of k-means at most, lists that are read, and
# candidates of each row.
_LIST_ROWS, _MOST_LISTS, _ITERATIONS, _PROBES, _CANDIDATES = 250, 8192, 4, 3, 6
# Dimensions that a large set is searched in.
REDUCED = 32


class Links(NamedTuple):
    """Pairs of copies: `first` and `second` (L,), and their `cosine` (L,)."""

    first: IntArray
    second: IntArray
    cosine: NDArray[np.float32]


@dataclass(frozen=True)
class Nearness:
    """How near two rows of a set must be to count as copies.

    Attributes:
        typical: median local scale of the set.
        limit: largest ratio of the distance of two copies to their local scale.
        growth: dimensions that the rows fill: neighbours within r grow like r to this power.
    """

    typical: float
    limit: float
    growth: float

    @classmethod
    def of(cls, neighbours: IntArray, cosines: FloatArray) -> Nearness:
        """Measure the limit on the nearest rows of all rows: (R, k) positions, -1 past the end, and their cosines."""
        distances = _distances(cosines)
        local = _local(distances, neighbours >= 0)
        typical = float(np.median(local[local > _EXACT])) if (local > _EXACT).any() else 0.0
        if not typical or cosines.shape[1] <= _FIRST:
            return cls(typical, 0.0, 1.0)
        nearness = cls(typical, 1.0, _growth(distances[local > _EXACT]))
        scale = nearness.scale(neighbours, cosines)
        nearest = np.where(neighbours[:, 0] >= 0, neighbours[:, 0], np.arange(len(scale)))
        ratios = distances[:, 0] / np.minimum(scale, scale[nearest])
        return cls(typical, _limit(ratios[distances[:, 0] > _EXACT]), nearness.growth)

    def scale(self, neighbours: IntArray, cosines: FloatArray) -> NDArray[np.float64]:
        """Local scale (B,) of rows, by their nearest (B, k)."""
        local = _local(_distances(cosines), neighbours >= 0)
        scale: NDArray[np.float64] = np.maximum(local, _EXACT) ** (1 - _WHOLE) * max(self.typical, _EXACT) ** _WHOLE
        return scale

    def among(self, share: float) -> Nearness:
        """The limit for a whole set, from a sample of this share: rows of the whole set have nearer neighbours."""
        return Nearness(self.typical, self.limit * share ** (1 / self.growth), self.growth)

    def copies(
        self, cosines: FloatArray, scale: NDArray[np.float64], other_scale: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Whether pairs are copies, from their cosines and the local scales of both rows."""
        return self.near(_distances(cosines), np.minimum(scale, other_scale))

    def near(self, distances: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether pairs are copies, from their distances and the smaller local scale of both rows."""
        found: NDArray[np.bool_] = (distances <= _EXACT) | (distances < self.limit * scale)
        return found


def _distances(cosines: FloatArray) -> NDArray[np.float64]:
    return np.sqrt(np.maximum(2 - 2 * cosines.astype(np.float64), 0))


def _local(distances: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Median distance (R,) to the neighbours of medium rank; an inverted file may find fewer."""
    chosen = np.where(there, distances, np.nan)[:, _FIRST:_LAST]
    chosen = chosen if chosen.shape[1] else distances[:, -1:]
    bare = np.isnan(chosen).all(axis=1)
    chosen[bare, 0] = distances[bare, 0]
    local: NDArray[np.float64] = np.nanmedian(chosen, axis=1)
    return local


def _growth(distances: NDArray[np.float64]) -> float:
    """Intrinsic dimension by the distances of neighbours (Levina and Bickel, 2004), at least 1."""
    some = np.maximum(distances[:, _FIRST:_LAST], _EXACT)
    logs = np.log(some[:, -1:] / some[:, :-1])
    return max(1.0, 1 / max(float(logs.mean()), 1e-3)) if some.shape[1] > 1 else 1.0


def _limit(ratios: NDArray[np.float64]) -> float:
    """Ratio below which rows are copies, by the bulk of the ratios."""
    if not len(ratios):
        return 0.0
    logs = np.log(np.maximum(ratios, 1e-12))
    middle, high = np.quantile(logs, [0.5, 0.9])
    limit = middle - _DEVIATIONS * (high - middle) / _TENTH
    for _ in range(_ROUNDS):
        low, middle = np.quantile(logs[logs >= limit], [0.25, 0.5])
        earlier, limit = limit, middle - _DEVIATIONS * (middle - low) / _QUARTER
        if earlier == limit:
            break
    return min(float(np.exp(limit)), _FARTHEST)


def links_of(neighbours: IntArray, cosines: FloatArray, nearness: Nearness) -> Links:
    """All pairs of copies among rows and their nearest (R, k), each once, the smaller position first."""
    scale = nearness.scale(neighbours, cosines)
    there = neighbours >= 0
    copies = there & nearness.copies(cosines, scale[:, None], scale[np.where(there, neighbours, 0)])
    rows, places = np.nonzero(copies)
    return unique_links(rows, neighbours[rows, places], cosines[rows, places])


def unique_links(rows: IntArray, others: IntArray, cosines: FloatArray) -> Links:
    """Links, each once, the smaller position first."""
    first, second = np.minimum(rows, others), np.maximum(rows, others)
    keep = np.unique(np.stack([first, second]), axis=1, return_index=True)[1]
    return Links(first[keep], second[keep], cosines[keep].astype(np.float32))


def keepers(links: Links, n: int) -> tuple[IntArray, NDArray[np.float32]]:
    """For each of n rows the row of its group to keep, itself where it has no copy, and the cosine to it.

    Exact copies are one row. Of near copies, the row with the most links is kept, then the next of what is left: every
    member is a copy of the row that is kept, so groups do not grow into chains.

    Args:
        links: pairs of copies.
        n: number of rows.
    """
    keeper, cosine = np.arange(n), np.ones(n, np.float32)
    if not len(links.first):
        return keeper, cosine
    exact = _distances(links.cosine) <= _EXACT
    pairs = (links.first[exact], links.second[exact])
    _, same = connected_components(coo_array((np.ones(len(pairs[0]), bool), pairs), shape=(n, n)), directed=False)
    first = np.full(same.max() + 1, n)
    np.minimum.at(first, same, np.arange(n))
    leader: IntArray = first[same]
    keeper = leader.copy()
    near = unique_links(leader[links.first[~exact]], leader[links.second[~exact]], links.cosine[~exact])
    own = near.first != near.second
    a = np.concatenate([near.first[own], near.second[own]])
    b = np.concatenate([near.second[own], near.first[own]])
    c = np.concatenate([near.cosine[own], near.cosine[own]])
    order = np.argsort(a, kind="stable")
    a, b, c = a[order], b[order], c[order]
    nodes, starts, degrees = np.unique(a, return_index=True, return_counts=True)
    spans = {node: slice(at, at + count) for node, at, count in zip(nodes, starts, degrees, strict=True)}
    taken: set[int] = set()
    for node in nodes[np.lexsort((nodes, -degrees))].tolist():
        if node in taken:
            continue
        taken.add(node)
        for other, similarity in zip(b[spans[node]].tolist(), c[spans[node]], strict=True):
            if other not in taken:
                taken.add(other)
                keeper[other], cosine[other] = node, similarity
    return keeper[leader], cosine[leader]


def duplicate_table(keeper: IntArray, cosine: NDArray[np.float32]) -> pa.Table:
    """Groups of at least two rows, the largest first, with columns as in `pairsift.Scan.duplicates`.

    Args:
        keeper: (N,) the row to keep of the group of each row.
        cosine: (N,) to that row.
    """
    kept, size = np.unique(keeper, return_counts=True)
    group_size = size[np.searchsorted(kept, keeper)]
    rows = np.flatnonzero(group_size > 1)
    rows = rows[np.lexsort((rows, keeper[rows] != rows, keeper[rows], -group_size[rows]))]
    starts = np.concatenate([[True], np.diff(keeper[rows]) != 0]) if len(rows) else np.zeros(0, bool)
    return pa.table({
        "group": np.cumsum(starts) - 1, "position": rows, "keep": keeper[rows] == rows, "keeper": keeper[rows],
        "similarity": cosine[rows],
    })  # fmt: skip


class ReducedIndex:
    """All rows of a large set in few dimensions: finds candidates of copies, which full features then confirm.

    Args:
        axes: (D, d) orthonormal directions of the largest variance, so that distances can only shrink.
        sample: (R, D) unit rows that the lists of the inverted file are made from.
        n: number of rows that will be added.
        seed: of the lists.
    """

    def __init__(self, axes: FloatArray, sample: FloatArray, n: int, seed: int) -> None:
        self._axes = axes
        lists = max(1, min(n // _LIST_ROWS, _MOST_LISTS, len(sample) // 4))
        index: Any = faiss.index_factory(axes.shape[1], f"IVF{lists},SQfp16", faiss.METRIC_L2)
        clustering = index.cp
        clustering.seed, clustering.niter, clustering.min_points_per_centroid = seed, _ITERATIONS, 1
        clustering.max_points_per_centroid = len(sample)
        index.train(np.ascontiguousarray(sample @ axes))
        index.nprobe = min(_PROBES, lists)
        self._index = index

    def add(self, unit: FloatArray, rows: IntArray) -> None:
        """Add unit rows (B, D) under the numbers `rows` (B,)."""
        self._index.add_with_ids(np.ascontiguousarray(unit @ self._axes), rows)

    def candidates(self, unit: FloatArray) -> tuple[IntArray, NDArray[np.float64]]:
        """Numbers (B, 6) of the nearest rows, -1 past the end, and least distances (B, 6) that they can have."""
        squares, found = self._index.search(np.ascontiguousarray(unit @ self._axes), _CANDIDATES)
        return found, np.sqrt(np.maximum(squares.astype(np.float64), 0))
