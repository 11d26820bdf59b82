"""Does an encoder tell an edit that keeps the meaning from one that turns it?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pairsift._base.checks import real_array


def semantic_hits(original: ArrayLike, synonym: ArrayLike, antonym: ArrayLike) -> float:
    """Share of texts that are nearer their synonym version than their antonym version, ties half (arXiv 2107.00440).

    Args:
        original: (N, D) features of texts.
        synonym: (N, D) of their versions of the same meaning.
        antonym: (N, D) of their versions of another meaning.

    Returns:
        In [0, 1], by cosine similarity.

    Raises:
        ValueError: shapes that differ, no rows, or a row that is zero or not finite.

    Example:
        >>> import pairsift as ps
        >>> ps.evaluate.semantic_hits([[1, 0], [0, 1]], [[1, 0], [1, 1]], [[1, 1], [0, 1]])
        0.5
    """
    units: list[NDArray[np.float64]] = []
    for name, features in (("original", original), ("synonym", synonym), ("antonym", antonym)):
        x = real_array(features, name).astype(np.float64)
        if x.ndim != 2 or 0 in x.shape or (units and x.shape != units[0].shape):
            raise ValueError(f"{name} must be a non-empty (N, D) matrix of the shape of the others, got {x.shape}")
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
        if len(bad):
            raise ValueError(f"{name} row {bad[0]} has no direction: it is zero or not finite")
        units.append(x / lengths)
    near, far = ((units[0] * each).sum(axis=1) for each in units[1:])
    return float(np.mean((near > far) + 0.5 * (near == far)))
