"""Most similar texts of texts: every one compared, or above a size an inverted file."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from pairsift.retrieval.vectors import FloatArray, IntArray, UnitFeatures

# Above so many texts an inverted file is searched (approximate) instead of every text (exact).
FLAT_LIMIT = 50_000
# Lists are twice the root of the number of texts; rows that centres are learned from, and lists that a search reads.
_LIST_SAMPLE, PROBES = 64, 8
_RECALL_ROWS = 200


class Search:
    """Finds texts by cosine.

    Args:
        features: of all texts.
        texts: (C,) that are searched.
        seed: of an inverted file's centres.

    Attributes:
        exact: whether every text is compared.
    """

    def __init__(self, features: UnitFeatures, texts: IntArray, seed: int) -> None:
        self._features, self._texts, self._seed = features, texts, seed
        self.exact = len(texts) <= FLAT_LIMIT
        width = features.shape[1]
        self._index: Any = faiss.IndexFlatIP(width) if self.exact else self._trained(width)
        for _, block in features.blocks(texts):
            self._index.add(block)

    def __call__(self, queries: FloatArray, most: int, probes: int = PROBES) -> tuple[FloatArray, IntArray]:
        """Cosines and texts, (Q, K), most similar first; K is `most`, or the number of texts if that is less.

        An inverted file reads `probes` of its lists; where it finds fewer it fills with cosine -inf and the last text.
        """
        if not self.exact:
            self._index.nprobe = probes
        cosines, places = self._index.search(np.ascontiguousarray(queries), min(most, len(self._texts)))
        cosines[places < 0] = -np.inf
        return cosines, self._texts[places]

    def recall(self, queries: IntArray, most: int = 10) -> float:
        """Share of the true nearest of some texts that are found, on at most 200 of them."""
        if self.exact:
            return 1.0
        rng = np.random.default_rng(self._seed)
        chosen = self._features.take(rng.choice(queries, min(_RECALL_ROWS, len(queries)), replace=False))
        best, which = np.full((len(chosen), 0), 0, np.float32), np.zeros((len(chosen), 0), np.int64)
        for start, block in self._features.blocks(self._texts):
            similar = np.concatenate([best, chosen @ block.T], axis=1)
            numbers = np.broadcast_to(self._texts[start : start + len(block)], (len(chosen), len(block)))
            which = np.concatenate([which, numbers], axis=1)
            kept = np.argpartition(-similar, min(most, similar.shape[1] - 1), axis=1)[:, :most]
            best, which = np.take_along_axis(similar, kept, 1), np.take_along_axis(which, kept, 1)
        found = self(chosen, most)[1]
        return float(np.mean([np.isin(a, b).mean() for a, b in zip(which, found, strict=True)]))

    def _trained(self, width: int) -> Any:
        lists = int(2 * np.sqrt(len(self._texts)))
        index: Any = faiss.index_factory(width, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
        index.cp.seed, index.cp.niter, index.cp.min_points_per_centroid, index.cp.spherical = self._seed, 8, 1, True
        index.cp.max_points_per_centroid = _LIST_SAMPLE
        rng = np.random.default_rng(self._seed)
        wanted = min(len(self._texts), lists * _LIST_SAMPLE)
        index.train(self._features.take(np.sort(rng.choice(self._texts, wanted, replace=False))))
        return index


def found_above(cosines: FloatArray, least: NDArray[Any]) -> tuple[IntArray, IntArray]:
    """Row and place of what is more similar than the row's least, and not missing."""
    rows, places = np.nonzero(cosines > least[:, None])
    return rows, places
