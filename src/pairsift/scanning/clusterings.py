"""Many random clusterings of one set: how often they part two rows is evidence that the classes are different."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pairsift.neighbors import FloatArray, generator, kmeans, principal_axes, unit_rows

_CLUSTERINGS = 40
# Numbers of clusters, drawn log-uniformly; at most an eighth of the rows.
_FEWEST, _MOST = 6, 80
# Share of the dimensions that a clustering sees, and rows that it is fitted on at most.
_DIMENSIONS, _ROWS = 2 / 3, 3000
# Shrinkage of the whitening, in mean eigenvalues: so much orders near pairs better than what only decorrelates.
_SHRINKAGE = 1.0
_BLOCK = 4096


def random_clusterings(features: FloatArray, seed: int) -> NDArray[np.uint8]:
    """Cluster of every row in each of 40 spherical k-means clusterings.

    Each sees two thirds of the dimensions, drawn at random, of the centred features and of the whitened ones by turns,
    and has 6 to 80 clusters (evidence accumulation: Fred and Jain, 2005).

    Args:
        features: (N, D), finite, N >= 16.
        seed: of all draws.

    Returns:
        (N, 40).
    """
    rng = generator(seed)
    centre, values, vectors = principal_axes(features)
    whitening = (vectors / np.sqrt(values + _SHRINKAGE * values.mean())).astype(np.float32)
    identity = np.eye(len(centre), dtype=np.float32)
    sample = features[np.sort(rng.choice(len(features), min(len(features), _ROWS), replace=False))]
    most = max(2, min(_MOST, len(features) // 8))
    centres = []
    for each in range(_CLUSTERINGS):
        space = whitening if each % 2 else identity
        space = space[:, rng.choice(len(centre), max(1, round(_DIMENSIONS * len(centre))), replace=False)]
        clusters = round(float(np.exp(rng.uniform(np.log(min(_FEWEST, most)), np.log(most)))))
        centres.append(space @ kmeans(unit_rows((sample - centre) @ space), clusters, seed + each).T)
    labels = np.empty((len(features), _CLUSTERINGS), np.uint8)
    ends, together = np.cumsum([each.shape[1] for each in centres]), np.concatenate(centres, axis=1)
    for start in range(0, len(features), _BLOCK):
        # A row's length changes no order of its cosines to the centres.
        products = (features[start : start + _BLOCK] - centre) @ together
        for each, part in enumerate(np.split(products, ends[:-1], axis=1)):
            labels[start : start + _BLOCK, each] = part.argmax(axis=1)
    return labels
