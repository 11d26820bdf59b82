"""Nearest neighbours among the reference rows: an index of them, or a graph of the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from pairsift.same_class.spaces import FloatArray, generator

IntArray = NDArray[np.int64]

# Neighbours whose clusters are looked at.
NEIGHBOURS = 50
# Neighbours among which bridging pairs are sought: the median rank of those listed first is then below 50.
CANDIDATES = 60
# Above so many rows an inverted file is searched (approximate) instead of every row (exact).
FLAT_LIMIT = 50_000
# Rows of an inverted file's list, and lists that a search reads; how many true neighbours they find, every scan says.
_LIST_ROWS, _PROBES = 200, 6


@dataclass(frozen=True)
class Graph:
    """Nearest neighbours of all rows: positions (N, k), nearest first, without the row itself, and cosines (N, k)."""

    neighbours: IntArray
    cosines: FloatArray


def build_index(unit: FloatArray, inverted: bool, seed: int) -> Any:
    """A faiss index of unit rows (R, D) by cosine: exact, or an inverted file."""
    if not inverted:
        flat = faiss.IndexFlatIP(unit.shape[1])
        flat.add(unit)
        return flat
    lists = max(1, len(unit) // _LIST_ROWS)
    index: Any = faiss.index_factory(unit.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.niter, index.cp.min_points_per_centroid, index.cp.spherical = seed, 10, 1, True
    index.nprobe = min(_PROBES, lists)
    index.train(unit)
    index.add(unit)
    return index


def recall(index: Any, unit: FloatArray, seed: int) -> float:
    """Share of the true neighbours that an inverted file finds, on at most 500 rows."""
    rows = generator(seed).choice(len(unit), min(len(unit), 500), replace=False)
    flat = faiss.IndexFlatIP(unit.shape[1])
    flat.add(unit)
    true, found = (each.search(unit[rows], NEIGHBOURS)[1] for each in (flat, index))
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(true, found, strict=True)]))
