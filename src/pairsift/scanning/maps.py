"""Maps of rows in two dimensions by UMAP or t-SNE, for the page."""

from __future__ import annotations

import importlib.util
from typing import Literal

import numpy as np

from pairsift.neighbors import FloatArray, principal_axes
from pairsift.scanning.config import ScanError

# Rows that are mapped: as many as the page draws.
MAPPED_ROWS = 3000
# Principal components that a map starts from; distances to so many neighbours are kept.
_COMPONENTS, _NEIGHBOURS = 50, 30


def check_map(method: Literal["pca", "umap", "tsne"]) -> None:
    """Refuse UMAP where its package is missing.

    Raises:
        ScanError: the package is not installed.
    """
    if method == "umap" and importlib.util.find_spec("umap") is None:
        raise ScanError(
            "map='umap' needs the package umap-learn: pip install umap-learn, or take map='tsne', which needs no other "
            "package"
        )


def mapped(features: FloatArray, method: Literal["umap", "tsne"], seed: int) -> FloatArray:
    """Places (M, 2) of rows, near ones near each other; distances between groups mean little.

    Args:
        features: (M, D) finite, M >= 10.
        method: "umap" (arXiv 1802.03426) or "tsne" (van der Maaten and Hinton, 2008).
        seed: of the method.
    """
    centre, _, vectors = principal_axes(features)
    rows: FloatArray = ((features - centre) @ vectors[:, ::-1][:, :_COMPONENTS]).astype(np.float32)
    rows = np.pad(rows, ((0, 0), (0, max(0, 2 - rows.shape[1]))))
    neighbours = min(_NEIGHBOURS, (len(rows) - 1) // 3)
    if method == "umap":
        from umap import UMAP  # type: ignore[import-not-found]

        places = UMAP(n_neighbors=max(2, neighbours), random_state=seed, n_jobs=1).fit_transform(rows)
    else:
        from sklearn.manifold import TSNE

        places = TSNE(perplexity=neighbours, init="pca", random_state=seed, n_jobs=1).fit_transform(rows)
    return np.asarray(places, np.float32)
