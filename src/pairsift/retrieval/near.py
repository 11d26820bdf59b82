"""Near-duplicates: texts far closer to each other than neighbours are in this set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pairsift.retrieval.conflicts import Conflicts
from pairsift.retrieval.search import Search, found_above
from pairsift.retrieval.vectors import BLOCK, IntArray, UnitFeatures

# The neighbour whose distance is the measure, and the part of it that is near: in m dimensions a part t^(m/2) of all
# neighbours at squared distances up to d lies within t d, a hundred-thousandth for m = 10.
_NEIGHBOUR, _PART = 10, 0.1
_SAMPLE = 2048
# Lists of an inverted file that are read: what is as near as that lies in the same one, or in the next.
_PROBES = 2
# With fewer texts their tenth neighbour lies anywhere.
_FEWEST = 3 * _NEIGHBOUR


@dataclass(frozen=True)
class Near:
    """Near-duplicates among texts.

    Attributes:
        threshold: similarity from which texts are near; None where there are too few texts to tell, and then no pair.
        pairs: of texts, each once; of every text its ten nearest are looked at.
        groups: (T,) the first text of those that are near through others, itself where none is.
    """

    threshold: float | None
    pairs: Conflicts
    groups: IntArray


def find_near(search: Search, features: UnitFeatures, texts: IntArray, threshold: float | None, seed: int) -> Near:
    """Near-duplicates among some texts.

    The distance 1 - cosine of the tenth neighbour, in the median, is what is usual here; a tenth of it is near. The
    tenth, since texts that come in several near versions would make the first one small.

    Args:
        search: of these texts.
        features: of all texts.
        texts: (C,) different texts.
        threshold: the user's own; None derives it.
        seed: of the sample that it is derived from.
    """
    nobody = np.arange(features.shape[0])
    if threshold is None:
        threshold = _usual(search, features, texts, seed)
    parts = []
    for start, block in features.blocks(texts, BLOCK) if threshold is not None else ():
        cosines, found = search(block, _NEIGHBOUR + 1, probes=_PROBES)
        places, columns = found_above(cosines, np.full(len(block), threshold))
        first, second = texts[start + places], found[places, columns]
        once = first != second
        parts.append((first[once], second[once], cosines[places, columns][once]))
    if not parts:
        none = np.zeros(0, np.int64)
        return Near(threshold, Conflicts(none, none, np.zeros(0, np.float32)), nobody)
    first, second, similarity = (np.concatenate(each) for each in zip(*parts, strict=True))
    low, high = np.minimum(first, second), np.maximum(first, second)
    kept = np.unique(low * np.int64(len(nobody)) + high, return_index=True)[1]
    kept = kept[np.argsort(-similarity[kept], kind="stable")]
    pairs = Conflicts(low[kept], high[kept], similarity[kept])
    return Near(threshold, pairs, _groups(pairs, len(nobody)))


def _usual(search: Search, features: UnitFeatures, texts: IntArray, seed: int) -> float | None:
    if len(texts) < _FEWEST:
        return None
    chosen = np.random.default_rng(seed).choice(texts, min(len(texts), _SAMPLE), replace=False)
    cosines, _ = search(features.take(chosen), _NEIGHBOUR + 1)
    return float(1 - _PART * (1 - np.median(cosines[:, -1])))


def _groups(pairs: Conflicts, n: int) -> IntArray:
    links = coo_array((np.ones(len(pairs), bool), (pairs.first, pairs.second)), shape=(n, n))
    labels = connected_components(links, directed=False)[1]
    first = np.unique(labels, return_index=True)[1]
    return np.asarray(first[labels], np.int64)
