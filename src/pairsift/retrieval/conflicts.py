"""Likely false negatives one by one: of every row, those among the candidates most similar to its anchor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairsift.retrieval.config import PairsConfig
from pairsift.retrieval.judging import Judged
from pairsift.retrieval.pairing import Pairing
from pairsift.retrieval.search import Search, found_above
from pairsift.retrieval.vectors import BLOCK, FloatArray, IntArray, UnitFeatures


@dataclass(frozen=True)
class Conflicts:
    """Pairs of texts that must not meet in a batch: first (M,), second (M,), similarity (M,), most similar first."""

    first: IntArray
    second: IntArray
    similarity: FloatArray

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Found:
    """Likely false negatives of n rows.

    Attributes:
        counts: (n,) different texts found for each row, at most `PairsConfig.neighbours`.
        worst: (n,) the most similar of them, -1 where there is none.
        similarity: (n,) of it, nan where there is none.
        conflicts: anchors with candidates, each pair once.
        cut: rows that may have more than were looked at.
        left_out: conflicts beyond `max_conflicts`.
    """

    counts: IntArray
    worst: IntArray
    similarity: FloatArray
    conflicts: Conflicts
    cut: int
    left_out: int


def find_conflicts(
    pairing: Pairing, features: UnitFeatures, judged: Judged, search: Search, config: PairsConfig,
    tell: Callable[[int], None],
) -> Found:  # fmt: skip
    """Search the candidates of every row that the guide is believed for.

    Args:
        pairing, features, judged: of the rows.
        search: of the positives.
        config: says how many neighbours are looked at, and how many conflicts are kept.
        tell: hears how many rows are done.
    """
    n = len(pairing)
    counts, worst = np.zeros(n, np.int64), np.full(n, -1)
    similarity = np.full(n, np.nan, np.float32)
    kept, cut, left_out = _Kept(config.max_conflicts), 0, 0
    believed = np.flatnonzero(judged.reliable)
    for start in range(0, len(believed), BLOCK):
        rows = believed[start : start + BLOCK]
        anchors = pairing.anchors[rows]
        # A row's own positive takes a place among the neighbours.
        cosines, texts = search(features.take(anchors), config.neighbours + 1)
        places, columns = found_above(cosines, judged.thresholds[rows])
        cut += int((cosines[:, -1] > judged.thresholds[rows]).sum()) if cosines.shape[1] > config.neighbours else 0
        other = ~pairing.identical(anchors[places], texts[places, columns])
        places, columns = places[other], columns[other]
        counts[rows] = np.bincount(places, minlength=len(rows))
        first = np.unique(places, return_index=True)[1]  # neighbours come most similar first
        worst[rows[places[first]]] = texts[places[first], columns[first]]
        similarity[rows[places[first]]] = cosines[places[first], columns[first]]
        kept.add(anchors[places], texts[places, columns], cosines[places, columns])
        tell(start + len(rows))
    conflicts, left_out = kept.conflicts()
    return Found(counts, worst, similarity, conflicts, cut, left_out)


class _Kept:
    """The most similar conflicts, each once; no more than twice as many as wanted are held."""

    def __init__(self, most: int) -> None:
        self._most, self._waiting, self._dropped = most, 0, 0
        self._parts: list[tuple[NDArray[np.int32], NDArray[np.int32], FloatArray]] = []

    def add(self, first: IntArray, second: IntArray, similarity: FloatArray) -> None:
        """More of them."""
        self._parts.append((first.astype(np.int32), second.astype(np.int32), similarity))
        self._waiting += len(first)
        if self._waiting > 2 * self._most:
            self._settle()

    def conflicts(self) -> tuple[Conflicts, int]:
        """Those kept, and how many are left out."""
        first, second, similarity = self._settle()
        return Conflicts(first.astype(np.int64), second.astype(np.int64), similarity), self._dropped

    def _settle(self) -> tuple[NDArray[np.int32], NDArray[np.int32], FloatArray]:
        if not self._parts:
            return np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32)
        first, second, similarity = (np.concatenate(each) for each in zip(*self._parts, strict=True))
        low, high = np.minimum(first, second).astype(np.int64), np.maximum(first, second)
        once = np.unique(low << 32 | high, return_index=True)[1]
        order = once[np.argsort(-similarity[once], kind="stable")]
        self._dropped += max(0, len(order) - self._most)
        order = order[: self._most]
        self._parts = [(first[order], second[order], similarity[order])]
        self._waiting = len(order)
        return self._parts[0]
